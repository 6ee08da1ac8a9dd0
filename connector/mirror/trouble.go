package mirror

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/connector"
)

// trouble says what is to be done about an error of a Kafka client.
type trouble int

const (
	// passing: it may go away by itself; try again.
	passing trouble = iota
	// identity: the cluster refuses whom we authenticate as. Nothing will go
	// better until somebody changes the credentials or the ACLs.
	identity
	// record: the target will not take this record. Its partition stops.
	record
	// ended: the client was closed or the context ended; nothing is wrong.
	ended
	// fatal: the request makes no sense to the cluster.
	fatal
)

// classify judges every error that the clients of this package give. Kafka's
// own judgement (kerr.IsRetriable) is asked last: it says "not retriable" also
// of what an operator mends in a minute, and MirrorMaker's tasks die of that.
func classify(err error) trouble {
	var final *finalError
	switch {
	case err == nil:
		return passing
	case errors.As(err, &final):
		return fatal
	case is(err, kgo.ErrClientClosed, context.Canceled, kgo.ErrAborting):
		return ended

	// Refused while connecting. A broker closing the first connection without an answer is what a
	// listener does that wants TLS or SASL; but so does one that is just going down, and a proxy: try again, the text says it.
	case is(err, kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState):
		return identity
	case is(err, kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed,
		kerr.TransactionalIDAuthorizationFailed, kerr.DelegationTokenAuthorizationFailed):
		return identity
	case badTLS(err):
		return identity

	// The target will never take it as it is.
	case is(err, kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp,
		kerr.UnsupportedForMessageFormat, kerr.PolicyViolation, kerr.UnsupportedCompressionType):
		return record

	// Kafka calls these final, but they pass: a topic that is being deleted and made again, a producer
	// id that the broker has forgotten, a timeout that somebody configured on the producer, a broker in disorder, a corrupt read.
	case is(err, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InconsistentTopicID, kerr.UnknownServerError,
		kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID, kerr.InvalidProducerEpoch, kerr.InvalidProducerIDMapping, kerr.CorruptMessage,
		kerr.InvalidReplicationFactor, kerr.TopicAlreadyExists, kerr.ReassignmentInProgress, kerr.ThrottlingQuotaExceeded,
		kgo.ErrRecordTimeout, kgo.ErrRecordRetries, context.DeadlineExceeded):
		return passing
	}
	var refused *kerr.Error
	if errors.As(err, &refused) && !refused.Retriable {
		return fatal
	}
	// Retriable, or from the network: refused, reset, timed out, unknown host.
	return passing
}

// finalError is one of our own that no waiting mends.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }

// Unwrap returns the error itself.
func (e *finalError) Unwrap() error { return e.err }

func is(err error, any ...error) bool {
	for _, target := range any {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// final says of the error that a connector or task has ended with that it would end with it again: the
// configuration is wrong, or the target will never take a record as it is. Who is refused may get the rights, or other
// credentials, and what is out of reach may come back.
func final(err error) bool {
	what := classify(err)
	return what == fatal || what == record
}

// badTLS says that the two ends do not trust each other, or that one of them
// does not speak TLS.
func badTLS(err error) bool {
	var untrusted *tls.CertificateVerificationError
	var plaintext tls.RecordHeaderError
	var alert *net.OpError
	return errors.As(err, &untrusted) || errors.As(err, &plaintext) || errors.As(err, &alert) && alert.Op == "remote error"
}

// side names one of the two clusters in errors.
type side struct {
	cluster string // "source" or "target"
	alias   string
	role    connector.Role
	layers  []string
}

// refusedError says whom a cluster refuses. It holds references, never values.
func (s side) refusedError(doing string, err error, settings config.Settings, principal func(connector.Role) string) error {
	whom := string(s.role)
	if principal != nil {
		whom = principal(s.role)
	}
	hint := ""
	if key := credentialKey(settings, s.layers); key != "" {
		hint = "; its credentials come from " + key
		if written := settings[key].Written; config.HasReference(written) {
			hint += " (" + strings.Join(config.ReferencePattern.FindAllString(written, -1), ", ") + ")"
		}
	}
	return fmt.Errorf("%s: the %s cluster %q refuses %s%s: %w", doing, s.cluster, s.alias, whom, hint, err)
}

// credentialKey finds the setting that the credentials of a client come from.
func credentialKey(settings config.Settings, layers []string) string {
	found := ""
	for _, prefix := range layers {
		for _, key := range []string{"ssl.keystore.location", "ssl.keystore.key", "sasl.jaas.config"} {
			if _, ok := settings[prefix+key]; ok {
				found = prefix + key
			}
		}
	}
	return found
}

// problemError makes one error of what is wrong with a configuration.
func problemError(problems []config.Problem) error {
	texts := make([]string, len(problems))
	for i, p := range problems {
		texts[i] = p.Key + ": " + p.Message
	}
	return &finalError{errors.New(strings.Join(texts, "; "))}
}
