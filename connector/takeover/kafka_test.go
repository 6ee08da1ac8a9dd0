package takeover

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/connector/rawcopy"
	"barnabas/e2e/kafka"
)

// soon bounds every wait of a test.
const soon = 60 * time.Second

// shared is one real broker for all tests of the package: it takes seconds to start.
var shared struct {
	once   sync.Once
	dir    string
	broker *kafka.Broker
	err    error
}

const (
	stranger = "stranger" // a user without the right to a transactional id
	password = "stranger-password"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.broker != nil {
		shared.broker.Kill()
	}
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// realKafka returns the real broker, or skips the test where there is none.
func realKafka(t *testing.T) *kafka.Broker {
	t.Helper()
	if _, err := kafka.Find(); err != nil {
		t.Skip(err)
	}
	shared.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*soon)
		defer cancel()
		if shared.dir, shared.err = os.MkdirTemp("", "takeover"); shared.err != nil {
			return
		}
		shared.broker, shared.err = kafka.Start(ctx, kafka.Spec{
			Name: "target", Dir: shared.dir, ACLs: true,
			Listeners: []kafka.Listener{{Name: "CLIENT", SASL: true}}, Users: map[string]string{stranger: password},
			Properties: map[string]string{"log.cleaner.backoff.ms": "200", "transaction.max.timeout.ms": "45000"},
		})
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.broker
}

// connect returns a client with every right.
func connect(t *testing.T, b *kafka.Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := b.Client(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// topic makes a topic of the test's own and returns its name.
func topic(t *testing.T, client *kgo.Client, name string, partitions int32, settings map[string]string) string {
	t.Helper()
	name = fmt.Sprintf("%s-%s", name, unique())
	configs := map[string]*string{}
	for k, v := range settings {
		configs[k] = &v
	}
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), partitions, 1, configs, name); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(soon)
	for {
		listed, err := kadm.NewClient(client).ListTopics(t.Context(), name)
		if err == nil && len(listed[name].Partitions) == int(partitions) && listed[name].Partitions[0].Leader >= 0 {
			return name
		}
		if time.Now().After(deadline) {
			t.Fatalf("topic %s does not come up: %v", name, err)
		}
	}
}

var names struct {
	sync.Mutex
	n int
}

func unique() string {
	names.Lock()
	defer names.Unlock()
	names.n++
	return fmt.Sprintf("%03d", names.n)
}

// writer writes plain batches under an identity, as the owner of a copy does.
type writer struct {
	t      *testing.T
	client *kgo.Client
	Identity

	next map[int32]int32 // the next sequence number, by partition
}

// takeID takes a producer id by InitProducerID alone.
func takeID(t *testing.T, client *kgo.Client, transactionalID string) *writer {
	t.Helper()
	f := fencing{FenceOptions: FenceOptions{Target: client, TransactionalID: transactionalID}}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	id, err := f.take(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &writer{t: t, client: client, Identity: id, next: map[int32]int32{}}
}

// send writes one plain batch of values and returns its base offset and the broker's answer.
func (w *writer) send(topic string, partition int32, values ...string) (int64, error) {
	w.t.Helper()
	base, err := produce(w.t, w.client, topic, partition, plainBatch(w.Identity, w.next[partition], values))
	if err == nil {
		w.next[partition] += int32(len(values))
	}
	return base, err
}

func (w *writer) mustSend(topic string, partition int32, values ...string) int64 {
	w.t.Helper()
	base, err := w.send(topic, partition, values...)
	if err != nil {
		w.t.Fatalf("write %q to %s-%d: %v", values, topic, partition, err)
	}
	return base
}

// produce sends one batch as it is.
func produce(t *testing.T, client *kgo.Client, topic string, partition int32, batch []byte) (int64, error) {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	listed, err := kadm.NewClient(client).ListTopics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	rt.TopicID = listed[topic].ID
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	deadline := time.Now().Add(soon)
	for {
		raw, err := client.Broker(int(listed[topic].Partitions[partition].Leader)).Request(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		p := raw.(*kmsg.ProduceResponse).Topics[0].Partitions[0] //nolint:forcetypeassert // one was asked for
		err = kerr.ErrorForCode(p.ErrorCode)
		// A new topic is known before its leader is ready.
		if notYet := errors.Is(err, kerr.NotLeaderForPartition) || errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.UnknownTopicOrPartition); !notYet || time.Now().After(deadline) {
			return p.BaseOffset, err
		}
	}
}

// plainBatch is an uncompressed batch written by hand.
func plainBatch(id Identity, sequence int32, values []string) []byte {
	var records []byte
	for i, v := range values {
		body := []byte{0, 0}                            // attributes, timestamp delta
		body = binary.AppendVarint(body, int64(i))      // offset delta
		body = binary.AppendVarint(body, -1)            // no key
		body = binary.AppendVarint(body, int64(len(v))) // value
		body = append(append(body, v...), 0)            // no headers
		records = binary.AppendVarint(records, int64(len(body)))
		records = append(records, body...)
	}
	now := time.Now().UnixMilli()
	b := batchOf(0, int32(len(values)-1), int32(len(values)), now, now, records)
	rawcopy.Rewrite(b, rawcopy.Stamp{ProducerID: id.ProducerID, Epoch: id.Epoch, BaseSequence: sequence})
	return b
}

// batchOf is an uncompressed batch without a producer.
func batchOf(base int64, lastDelta, count int32, first, newest int64, records []byte) rawcopy.Batch {
	b := binary.BigEndian.AppendUint64(nil, uint64(base))
	b = binary.BigEndian.AppendUint32(b, uint32(49+len(records)))
	b = append(b, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0, 0) // leader epoch, magic, CRC, attributes
	b = binary.BigEndian.AppendUint32(b, uint32(lastDelta))
	b = binary.BigEndian.AppendUint64(b, uint64(first))
	b = binary.BigEndian.AppendUint64(b, uint64(newest))
	b = append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff) // producer
	b = binary.BigEndian.AppendUint32(b, uint32(count))
	b = append(b, records...)
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// grantOn is the right to read and write a topic.
func grantOn(topic string) kafka.Grant {
	return kafka.Grant{Topic: topic, Operations: []kadm.ACLOperation{kadm.OpRead, kadm.OpWrite, kadm.OpDescribe}}
}

// refused says whether a broker has said that a producer is fenced.
func refused(err error) bool { return errors.Is(err, kerr.InvalidProducerEpoch) }
