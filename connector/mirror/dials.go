package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// dials watches the connections of a client, which retries silently for a long
// time: why the last could not be made, and whether the broker hangs up on our credentials.
type dials struct {
	mu      sync.Mutex
	last    error
	hungUp  int // connections in a row that the broker closed while we authenticated
	nextKey int
	waiting map[int]context.CancelCauseFunc // requests to end when that is clear
}

// patience is how often a broker may close the connection instead of answering
// to the credentials, until that is taken for a refusal. Kafka answers; other brokers do not, and one that is
// going down does so once.
const patience = 3

var errHungUp = fmt.Errorf("%w: the broker closes the connection during SASL authentication", kerr.SaslAuthenticationFailed)

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (d *dials) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = err
}

// OnBrokerRead implements kgo.HookBrokerRead.
func (d *dials) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch kmsg.Key(key) {
	case kmsg.SASLAuthenticate:
		if errors.Is(err, io.EOF) {
			d.hungUp++
		}
	case kmsg.ApiVersions, kmsg.SASLHandshake:
	default:
		if err == nil {
			d.hungUp = 0
		}
	}
	if d.hungUp >= patience {
		for _, cancel := range d.waiting {
			cancel(errHungUp)
		}
	}
}

// context is ctx for one request of at most timeout, which ends early when the
// broker turns out to refuse us.
func (d *dials) context(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithTimeout(ctx, timeout)
	ctx, cancel := context.WithCancelCause(ctx)
	d.mu.Lock()
	key := d.nextKey
	d.nextKey++
	if d.waiting == nil {
		d.waiting = map[int]context.CancelCauseFunc{}
	}
	d.waiting[key] = cancel
	d.mu.Unlock()
	return ctx, func() {
		d.mu.Lock()
		delete(d.waiting, key)
		d.mu.Unlock()
		cancel(nil)
		stop()
	}
}

// refusal is the error of a request that ended with err: errHungUp, if that is
// why.
func (d *dials) refusal(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hungUp >= patience && is(err, context.Canceled, context.DeadlineExceeded, io.EOF) {
		return errHungUp
	}
	return err
}

func (d *dials) lastError() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}
