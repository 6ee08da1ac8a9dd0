//go:build unix

package filestream

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// stdin reads standard input without ever waiting long: a read that waits cannot be ended.
type stdin struct{}

// stdinWait is how long one read waits for something to come.
const stdinWait = 200 * time.Millisecond

// Read implements io.Reader; io.EOF says that there is nothing for now.
func (stdin) Read(b []byte) (int, error) {
	fds := []unix.PollFd{{Fd: int32(os.Stdin.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(stdinWait.Milliseconds()))
	switch {
	case errors.Is(err, unix.EINTR) || err == nil && n == 0:
		return 0, io.EOF
	case err != nil:
		return 0, err
	}
	return os.Stdin.Read(b)
}
