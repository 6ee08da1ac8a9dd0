package kafka

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// handed are the addresses that this process has been given already.
var handed = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// FreePorts returns n addresses on 127.0.0.1 that nobody listens on. They lie
// below the range that the kernel gives to outgoing connections, so none is
// taken while a broker on it restarts.
func FreePorts(n int) ([]string, error) {
	handed.Lock()
	defer handed.Unlock()
	var free []string
	for range 1000 {
		if len(free) == n {
			return free, nil
		}
		port := 12000 + rand.IntN(20000)
		if handed.ports[port] {
			continue
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		_ = l.Close()
		handed.ports[port] = true
		free = append(free, address)
	}
	return nil, fmt.Errorf("no %d free ports", n)
}
