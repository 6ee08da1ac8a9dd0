package clientconfig

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
)

// build builds from literal settings, with bootstrap servers unless given.
func build(kind Kind, written map[string]string) (*Client, error) {
	all := map[string]string{"bootstrap.servers": "localhost:9092"}
	maps.Copy(all, written)
	return Build(config.Literal(all), kind)
}

// option builds and returns what a real client made of it says for option.
func option(t *testing.T, kind Kind, written map[string]string, opt any) string {
	t.Helper()
	c, err := build(kind, written)
	if err != nil {
		t.Fatalf("%v: %v", written, err)
	}
	cl, err := kgo.NewClient(c.Opts...)
	if err != nil {
		t.Fatalf("%v: franz-go refuses: %v", written, err)
	}
	defer cl.Close()
	return fmt.Sprint(cl.OptValue(opt))
}

func TestSettingsBecomeOptions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind       Kind
		key, value string
		opt        any
		want       any
	}{
		{Admin, "bootstrap.servers", " a:1 , b:2 ", kgo.SeedBrokers, []string{"a:1", "b:2"}},
		{Admin, "bootstrap.servers", "[::1]:9092,SASL_SSL://b.example:9093,::1:9094", kgo.SeedBrokers, []string{"[::1]:9092", "b.example:9093", "[::1]:9094"}},
		{Admin, "client.id", "x", kgo.ClientID, "x"},
		{Admin, "request.timeout.ms", "5000", kgo.RequestTimeoutOverhead, 5 * time.Second},
		{Admin, "request.timeout.ms", "2147483647", kgo.RequestTimeoutOverhead, 15 * time.Minute},
		{Producer, "request.timeout.ms", "2147483647", kgo.ProduceRequestTimeout, 2147483647 * time.Millisecond},
		{Admin, "connections.max.idle.ms", "60000", kgo.ConnIdleTimeout, time.Minute},
		{Admin, "connections.max.idle.ms", "-1", kgo.ConnIdleTimeout, 15 * time.Minute},
		{Admin, "metadata.max.age.ms", "1000", kgo.MetadataMaxAge, time.Second},
		{Admin, "metadata.max.age.ms", "1000", kgo.MetadataMinAge, 100 * time.Millisecond},
		{Admin, "metadata.max.age.ms", "20", kgo.MetadataMinAge, 20 * time.Millisecond},
		{Admin, "metadata.max.age.ms", "9223372036854775807", kgo.MetadataMaxAge, time.Hour},
		{Admin, "retries", "3", kgo.RequestRetries, int64(3)},
		{Producer, "acks", "all", kgo.RequiredAcks, kgo.AllISRAcks()},
		{Producer, "acks", "1", kgo.RequiredAcks, kgo.LeaderAck()},
		{Producer, "acks", "1", kgo.DisableIdempotentWrite, true},
		{Producer, "acks", "0", kgo.MaxProduceRequestsInflightPerBroker, 5},
		{Producer, "retries", "0", kgo.DisableIdempotentWrite, true},
		{Producer, "enable.idempotence", "FALSE", kgo.DisableIdempotentWrite, true},
		{Producer, "enable.idempotence", "true", kgo.DisableIdempotentWrite, false},
		{Producer, "linger.ms", "0", kgo.ProducerLinger, time.Duration(0)},
		{Producer, "acks", "-1", kgo.ProducerLinger, 5 * time.Millisecond},
		{Producer, "acks", "-1", kgo.ProducerBatchCompression, []kgo.CompressionCodec{kgo.NoCompression()}},
		{Producer, "compression.type", "lz4", kgo.ProducerBatchCompression, []kgo.CompressionCodec{kgo.Lz4Compression()}},
		{Producer, "max.request.size", "2097152", kgo.BrokerMaxWriteBytes, int32(100 << 20)},
		{Producer, "max.request.size", "2147483647", kgo.BrokerMaxWriteBytes, int32(1 << 30)},
		{Producer, "buffer.memory", "1000000", kgo.MaxBufferedBytes, int64(1000000)},
		{Producer, "delivery.timeout.ms", "2147483647", kgo.RecordDeliveryTimeout, 2147483647 * time.Millisecond},
		{Producer, "transactional.id", "tx", kgo.TransactionalID, "tx"},
		{Producer, "transaction.timeout.ms", "9000", kgo.TransactionTimeout, 9 * time.Second},
		{Consumer, "client.rack", "r1", kgo.Rack, "r1"},
		{Consumer, "client.rack", "", kgo.FetchMaxWait, 500 * time.Millisecond},
		{Consumer, "fetch.max.wait.ms", "100", kgo.FetchMaxWait, 100 * time.Millisecond},
		{Consumer, "fetch.min.bytes", "7", kgo.FetchMinBytes, int32(7)},
		{Consumer, "fetch.max.bytes", "2147483647", kgo.FetchMaxBytes, int32(1 << 29)},
		{Consumer, "fetch.max.bytes", "2147483647", kgo.BrokerMaxReadBytes, int32(1 << 30)},
		{Consumer, "max.partition.fetch.bytes", "99", kgo.FetchMaxPartitionBytes, int32(99)},
		{Consumer, "isolation.level", "read_committed", kgo.FetchIsolationLevel, 1},
		{Consumer, "check.crcs", "false", kgo.DisableFetchCRCValidation, true},
		{Consumer, "auto.offset.reset", "earliest", kgo.ConsumeResetOffset, kgo.NewOffset().AtStart()},
		{Consumer, "auto.offset.reset", "latest", kgo.ConsumeStartOffset, kgo.NewOffset().AtEnd()},
		{Consumer, "auto.offset.reset", "none", kgo.ConsumeResetOffset, kgo.NoResetOffset()},
		{Consumer, "default.api.timeout.ms", "1000", kgo.MetadataMaxAge, 5 * time.Minute},
	} {
		if got := option(t, tt.kind, map[string]string{tt.key: tt.value}, tt.opt); got != fmt.Sprint(tt.want) {
			t.Errorf("%s with %s=%s: got %v, want %v", tt.kind, tt.key, tt.value, got, tt.want)
		}
	}
}

// TestEveryKnownKeyIsKnown gives each kind all keys of its Java client: none may be
// called unknown, and keys of another client are told apart from typos.
func TestEveryKnownKeyIsKnown(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{Producer, Consumer, Admin} {
		r := newReader(config.Settings{}, kind)
		for key := range knownKeys {
			r.settings[key] = config.Setting{}
		}
		r.classifyRest()
		if len(r.report.Unknown) > 0 || len(r.report.Meaningless) != len(knownKeys) {
			t.Errorf("%s: unknown %v, %d of %d reported", kind, r.report.Unknown, len(r.report.Meaningless), len(knownKeys))
		}
	}
}

func TestUnknownKeysGetTheNearestName(t *testing.T) {
	t.Parallel()
	c, err := build(Producer, map[string]string{
		"sasl.mechansim": "PLAIN", "linger": "1", "ssl.keystore.alias": "x", "totally.different": "x",
		"config.providers.file.class": "x", strings.Repeat("x", 1<<16): "x", "group.id": "g", "value.serializer": "x",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []UnknownKey{
		{"linger", "linger.ms"},
		{"sasl.mechansim", "sasl.mechanism"},
		{"ssl.keystore.alias", ""},
		{"totally.different", ""},
		{strings.Repeat("x", 1<<16), ""},
	}
	if diff := cmp.Diff(want, c.Report.Unknown); diff != "" {
		t.Errorf("unknown keys (-want +got):\n%s", diff)
	}
	if got := keysOf(c.Report.Meaningless); !cmp.Equal(got, []string{"config.providers.file.class", "group.id", "value.serializer"}) {
		t.Errorf("meaningless keys: %q", got)
	}
}

func keysOf(problems []config.Problem) []string {
	var keys []string
	for _, p := range problems {
		keys = append(keys, p.Key)
	}
	return keys
}

func TestWrongSettingsAreNamed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind    Kind
		written map[string]string
		want    string // part of the error
	}{
		{Admin, map[string]string{"bootstrap.servers": ""}, "No resolvable bootstrap urls given"},
		{Admin, map[string]string{"bootstrap.servers": "a:1,b"}, "Invalid url in bootstrap.servers: b"},
		{Admin, map[string]string{"bootstrap.servers": "a:1,b:99999"}, "Invalid port in bootstrap.servers: b:99999"},
		{Admin, map[string]string{"bootstrap.servers": "[::1]"}, "Invalid url in bootstrap.servers: [::1]"},
		{Admin, map[string]string{"bootstrap.servers": "a b:1"}, "Invalid url in bootstrap.servers: a b:1"},
		{Admin, map[string]string{"request.timeout.ms": "soon"}, "Invalid value soon for configuration request.timeout.ms: Not a number of type INT"},
		{Admin, map[string]string{"request.timeout.ms": "2147483648"}, "Not a number of type INT"},
		{Admin, map[string]string{"request.timeout.ms": "-1"}, "Value must be at least 0"},
		{Admin, map[string]string{"security.protocol": "TLS"}, "Invalid value TLS for configuration security.protocol"},
		{Admin, map[string]string{"bootstrap.controllers": "a:1"}, "bootstrap.controllers: not supported yet"},
		{Producer, map[string]string{"acks": "2"}, "Invalid value 2 for configuration acks: String must be one of: all, -1, 0, 1"},
		{Producer, map[string]string{"acks": "1", "enable.idempotence": "true"}, "Must set acks to all in order to use the idempotent producer."},
		{Producer, map[string]string{"retries": "0", "enable.idempotence": "true"}, "Must set retries to non-zero when using the idempotent producer."},
		{Producer, map[string]string{"max.in.flight.requests.per.connection": "6"}, "must be set to at most 5. Current value is 6."},
		{Producer, map[string]string{"acks": "1", "transactional.id": "t"}, "Cannot set a transactional.id without also enabling idempotence."},
		{Producer, map[string]string{"transactional.id": ""}, "String must be non-empty"},
		{Producer, map[string]string{"delivery.timeout.ms": "30004"}, "delivery.timeout.ms should be equal to or larger than linger.ms + request.timeout.ms"},
		{Producer, map[string]string{"compression.type": "LZ4"}, "String must be one of: none, gzip, snappy, lz4, zstd"},
		{Producer, map[string]string{"compression.gzip.level": "0"}, "compression.gzip.level"},
		{Producer, map[string]string{"enable.idempotence": "yes"}, "Expected value to be either true or false"},
		{Consumer, map[string]string{"isolation.level": "committed"}, "String must be one of: read_committed, read_uncommitted"},
		{Consumer, map[string]string{"auto.offset.reset": "by_duration:P"}, "auto.offset.reset"},
		{Admin, map[string]string{"security.protocol": "SASL_PLAINTEXT"}, "sasl.jaas.config is not set, nor is sasl.mechanism, which is GSSAPI by default"},
		{Admin, map[string]string{"security.protocol": "sasl_ssl", "sasl.mechanism": "AWS_MSK_IAM"}, "Could not find a 'KafkaClient' entry"},
		{Admin, map[string]string{"security.protocol": "sasl_ssl", "sasl.mechanism": "EXTERNAL"}, "unknown SASL mechanism EXTERNAL; use one of AWS_MSK_IAM, GSSAPI, OAUTHBEARER, PLAIN"},
		{Admin, map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanism": "plain"}, "unknown SASL mechanism plain"},
		{Admin, map[string]string{"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": "LDAPS"}, "it may be https, or empty"},
		{Admin, map[string]string{"security.protocol": "SSL", "ssl.enabled.protocols": "SSLv3"}, "none of its protocols can be used"},
		{Admin, map[string]string{"security.protocol": "SSL", "ssl.enabled.protocols": "TLSv2"}, "its entries may be"},
		{Admin, map[string]string{"security.protocol": "SSL", "ssl.protocol": "DTLS"}, "it may be TLSv1.3"},
		{Admin, map[string]string{"security.protocol": "SSL", "ssl.cipher.suites": "TLS_NO_SUCH"}, "none of its suites can be used"},
	} {
		_, err := build(tt.kind, tt.written)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s with %v: got error %v, want %q", tt.kind, tt.written, err, tt.want)
		}
		if len(Problems(err)) != 1 {
			t.Errorf("%s with %v: %d problems, want one", tt.kind, tt.written, len(Problems(err)))
		}
	}
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := Build(config.Literal(map[string]string{"acks": "2", "linger.ms": "x"}), Producer)
	if got := keysOf(Problems(err)); !cmp.Equal(got, []string{"acks", "bootstrap.servers", "linger.ms"}) {
		t.Errorf("problems with %q, error %v", got, err)
	}
}

// TestAdaptedSettingsAreReported lists settings that act otherwise than written.
func TestAdaptedSettingsAreReported(t *testing.T) {
	t.Parallel()
	c, err := build(Producer, map[string]string{
		"acks": "1", "retries": "0", "request.timeout.ms": "2147483647", "linger.ms": "120000", "max.request.size": "10",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"acks", "linger.ms", "max.request.size", "request.timeout.ms", "retries"}
	if got := keysOf(c.Report.Adapted); !cmp.Equal(got, want) {
		t.Errorf("adapted: %v, want %q", c.Report.Adapted, want)
	}
}

func TestOffsetResetByDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"by_duration:P1D": 24 * time.Hour, "by_duration:PT2H3M4.5S": 2*time.Hour + 3*time.Minute + 4500*time.Millisecond,
		"by_duration:P": -1, "by_duration:PT": -1, "by_duration:": -1, "P1D": -1, "by_duration:P99999999999D": -1, "by_duration:P1DT": -1,
	} {
		got, ok := parseByDuration(text)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: got %v, %v; want %v", text, got, ok, want)
		}
	}
}

func TestBackoffGrowsToItsLimit(t *testing.T) {
	t.Parallel()
	next := backoff(100*time.Millisecond, time.Second)
	for fails, want := range []time.Duration{100, 100, 200, 400, 800, 1000, 1000} {
		want *= time.Millisecond
		got := next(fails)
		if got < want*8/10 || got > want*12/10 {
			t.Errorf("after %d failures %v, want %v ± 20 %%", fails, got, want)
		}
	}
	if got := backoff(0, 0)(1 << 30); got != 0 {
		t.Errorf("without backoff it waits %v", got)
	}
}
