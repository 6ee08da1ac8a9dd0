package mirror

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestEveryErrorHasItsTrouble(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, c := range []struct {
		err  error
		want trouble
	}{
		{nil, passing},
		{kerr.NotLeaderForPartition, passing},
		{kerr.NotEnoughReplicasAfterAppend, passing},
		{kerr.UnknownServerError, passing},
		{kerr.UnknownTopicID, passing},
		{kerr.OutOfOrderSequenceNumber, passing},
		{kgo.ErrRecordTimeout, passing},
		{context.DeadlineExceeded, passing},
		{refused, passing},
		{io.ErrUnexpectedEOF, passing},
		{errors.New("something new"), passing},
		{kerr.SaslAuthenticationFailed, identity},
		{errHungUp, identity},
		{kerr.TopicAuthorizationFailed, identity},
		{kerr.ClusterAuthorizationFailed, identity},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, identity},
		{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, identity},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}, identity},
		{kerr.MessageTooLarge, record},
		{kerr.InvalidRecord, record},
		{kerr.InvalidTimestamp, record},
		{kgo.ErrClientClosed, ended},
		{context.Canceled, ended},
		{kerr.UnsupportedVersion, fatal},
		{kerr.InvalidConfig, fatal},
		{&finalError{errors.New("ours")}, fatal},
	} {
		if got := classify(c.err); got != c.want {
			t.Errorf("classify(%v) = %d, want %d", c.err, got, c.want)
		}
		if c.err != nil {
			if got := classify(fmt.Errorf("while copying: %w", c.err)); got != c.want {
				t.Errorf("wrapped, classify(%v) = %d, want %d", c.err, got, c.want)
			}
		}
	}
}
