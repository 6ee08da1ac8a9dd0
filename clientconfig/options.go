package clientconfig

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"regexp"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"
)

// hostPort is the pattern of Kafka's Utils.getHost and getPort: an optional
// protocol, a host whose IPv6 form may have brackets, a port.
var hostPort = regexp.MustCompile(`^(?:[0-9a-zA-Z\-%._]*://)?\[?([0-9a-zA-Z\-%._:]*)\]?:([0-9]+)$`)

// bootstrap reads bootstrap.servers (ClientUtils.parseAndValidateAddresses).
func (r *reader) bootstrap() {
	const key = "bootstrap.servers"
	if !r.has(key) {
		r.fail(key, `Missing required configuration "bootstrap.servers" which has no default value.`)
		return
	}
	// An entry that came out of a reference is named by its place.
	hidden := len(r.report.References[key]) > 0
	var seeds []string
	before := len(r.problems)
	for i, entry := range r.list(key) {
		if entry == "" {
			continue
		}
		shown := entry
		if hidden {
			shown = fmt.Sprintf("entry %d of %s", i+1, r.written(key))
		}
		m := hostPort.FindStringSubmatch(entry)
		if m == nil || m[1] == "" {
			r.fail(key, "Invalid url in bootstrap.servers: %s", shown)
			continue
		}
		if _, err := strconv.ParseUint(m[2], 10, 16); err != nil {
			r.fail(key, "Invalid port in bootstrap.servers: %s", shown)
			continue
		}
		seeds = append(seeds, net.JoinHostPort(m[1], m[2]))
	}
	if len(r.problems) > before {
		return
	}
	if len(seeds) == 0 {
		r.fail(key, "No resolvable bootstrap urls given in bootstrap.servers")
		return
	}
	r.opts = append(r.opts, kgo.SeedBrokers(seeds...))
}

// common reads what all kinds of clients share. franz-go's own defaults stay
// where nothing is set, unless Kafka's differ in what others can see.
func (r *reader) common() {
	if id := r.text("client.id", ""); id != "" {
		if len(id) > 256 {
			r.invalid("client.id", "at most 256 bytes are possible here")
		}
		r.opts = append(r.opts, kgo.ClientID(id))
	}
	r.setupTimeoutMax = r.millis("socket.connection.setup.timeout.max.ms", 30*time.Second, 1)
	r.setupTimeout = min(r.millis("socket.connection.setup.timeout.ms", 10*time.Second, 1), r.setupTimeoutMax)

	if key := "request.timeout.ms"; r.has(key) {
		d := r.millis(key, 30*time.Second, 0)
		r.opts = append(r.opts, kgo.RequestTimeoutOverhead(r.within(key, d, 100*time.Millisecond, 15*time.Minute)))
		if r.kind == Producer {
			r.opts = append(r.opts, kgo.ProduceRequestTimeout(max(100*time.Millisecond, d)))
		}
	}
	if key := "connections.max.idle.ms"; r.has(key) {
		d := r.millis(key, 9*time.Minute, math.MinInt64)
		if d < 0 {
			d = 15 * time.Minute // Kafka: never; the most that franz-go has
			r.adapt(key, "idle connections are closed after 15 minutes, the most that is possible here")
		}
		r.opts = append(r.opts, kgo.ConnIdleTimeout(r.within(key, d, 100*time.Millisecond, 15*time.Minute)))
	}
	// kgo's 5 s between two looks would be the time that a moved leader or a new topic stays unseen.
	minAge := 100 * time.Millisecond
	if key := "metadata.max.age.ms"; r.has(key) {
		d := r.within(key, r.millis(key, 5*time.Minute, 0), 10*time.Millisecond, time.Hour)
		r.opts = append(r.opts, kgo.MetadataMaxAge(d))
		minAge = min(d, minAge)
	}
	r.opts = append(r.opts, kgo.MetadataMinAge(minAge))
	if r.has("retry.backoff.ms") || r.has("retry.backoff.max.ms") {
		first := r.millis("retry.backoff.ms", 100*time.Millisecond, 0)
		longest := r.millis("retry.backoff.max.ms", time.Second, 0)
		r.opts = append(r.opts, kgo.RetryBackoffFn(backoff(first, longest)))
	}
	if key := "default.api.timeout.ms"; r.kind != Producer && r.has(key) {
		r.opts = append(r.opts, kgo.RetryTimeout(max(time.Millisecond, r.millis(key, time.Minute, 0))))
	}
	r.oneOfIfSet("client.dns.lookup", "use_all_dns_ips", "resolve_canonical_bootstrap_servers_only")
}

// oneOfIfSet checks a text that changes nothing here.
func (r *reader) oneOfIfSet(key string, allowed ...string) {
	if r.has(key) {
		r.oneOf(key, allowed[0], allowed...)
		r.ignore(key, reasonMeaningless(key))
	}
}

// backoff doubles from first to longest with 20 % of jitter, as Kafka's
// ExponentialBackoff does (KIP-580).
func backoff(first, longest time.Duration) func(int) time.Duration {
	return func(fails int) time.Duration {
		d := min(first, longest)
		for i := 1; i < fails && d < longest; i++ {
			d = min(2*d, longest)
			if d == 0 {
				break
			}
		}
		return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
	}
}

// producer reads what only a producer has.
func (r *reader) producer() {
	idempotent := r.idempotence()
	r.transactions(idempotent)

	linger := r.millis("linger.ms", 5*time.Millisecond, 0)
	r.opts = append(r.opts, kgo.ProducerLinger(r.within("linger.ms", linger, 0, time.Minute)))
	r.compression()
	r.sizes()

	if key := "delivery.timeout.ms"; r.has(key) {
		d := r.millis(key, 2*time.Minute, 0)
		if d < linger+r.millis("request.timeout.ms", 30*time.Second, 0) {
			r.fail(key, "delivery.timeout.ms should be equal to or larger than linger.ms + request.timeout.ms")
		}
		r.opts = append(r.opts, kgo.RecordDeliveryTimeout(r.within(key, d, time.Second, math.MaxInt64)))
	}
	r.ignore("batch.size", "batches are cut by linger.ms and max.request.size; copied batches keep their size")
	r.ignore("max.block.ms", "how long a write may wait is up to the task")
}

// idempotence reads acks, retries, max.in.flight.requests.per.connection and
// enable.idempotence, and settles them as ProducerConfig.postProcessAndValidateIdempotenceConfigs does.
func (r *reader) idempotence() bool {
	asked := r.has("enable.idempotence")
	idempotent := r.boolean("enable.idempotence", true)
	wanted := idempotent

	acks := r.oneOf("acks", "all", "all", "-1", "0", "1")
	if acks == "0" || acks == "1" {
		if wanted && asked {
			r.fail("acks", "Must set acks to all in order to use the idempotent producer. Otherwise we cannot guarantee idempotence.")
		} else if wanted {
			r.adapt("acks", "turns idempotence off, because it is not all")
			idempotent = false
		}
	}
	retries := r.number("retries", math.MaxInt32, 0, math.MaxInt32)
	if retries == 0 && wanted {
		if asked {
			r.fail("retries", "Must set retries to non-zero when using the idempotent producer.")
		} else {
			r.adapt("retries", "turns idempotence off, because it is 0")
			idempotent = false
		}
	}
	inFlight := r.number("max.in.flight.requests.per.connection", 5, 1, math.MaxInt32)
	if inFlight > 5 && wanted {
		r.fail("max.in.flight.requests.per.connection",
			"To use the idempotent producer, max.in.flight.requests.per.connection must be set to at most 5. Current value is %s.",
			r.written("max.in.flight.requests.per.connection"))
	}
	if retries < math.MaxInt32 {
		r.opts = append(r.opts, kgo.RecordRetries(int(retries)))
	}
	if !idempotent {
		r.opts = append(r.opts, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(int(inFlight)))
	} else if r.has("max.in.flight.requests.per.connection") && inFlight < 5 {
		r.adapt("max.in.flight.requests.per.connection", "an idempotent producer keeps the order with 5 in flight")
	}
	r.opts = append(r.opts, kgo.RequiredAcks(map[string]kgo.Acks{
		"all": kgo.AllISRAcks(), "-1": kgo.AllISRAcks(), "0": kgo.NoAck(), "1": kgo.LeaderAck(),
	}[acks]))
	return idempotent
}

// transactions reads transactional.id and what belongs to it.
func (r *reader) transactions(idempotent bool) {
	if key := "transactional.id"; r.has(key) {
		switch id := r.text(key, ""); {
		case id == "":
			r.invalid(key, "String must be non-empty")
		case len(id) > 16382:
			r.fail(key, "at most 16382 bytes are possible here")
		case !idempotent:
			r.fail(key, "Cannot set a transactional.id without also enabling idempotence.")
		default:
			r.opts = append(r.opts, kgo.TransactionalID(id))
		}
	}
	if key := "transaction.two.phase.commit.enable"; r.boolean(key, false) {
		r.fail(key, "not supported yet: two-phase commit")
	}
	if key := "transaction.timeout.ms"; r.has(key) {
		r.opts = append(r.opts, kgo.TransactionTimeout(r.millis(key, time.Minute, 1)))
	}
}

// compression reads compression.type and the levels (KIP-390). Kafka's default
// is none, franz-go's is not.
func (r *reader) compression() {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	name := r.oneOf("compression.type", "none", "none", "gzip", "snappy", "lz4", "zstd")
	codec := codecs[name]
	for _, l := range []struct {
		key, codec string
		def        int64
		low, high  int64
		level      func(int64) int
	}{
		{"compression.gzip.level", "gzip", -1, -1, 9, func(n int64) int { return int(n) }},
		{"compression.lz4.level", "lz4", 9, 1, 17, lz4Level},
		{"compression.zstd.level", "zstd", 3, -131072, 22, zstdLevel},
	} {
		if !r.has(l.key) {
			continue
		}
		n := r.number(l.key, l.def, l.low, l.high)
		if l.codec == "gzip" && n == 0 {
			r.invalid(l.key, "Value must be between 1 and 9 or equal to -1")
		}
		if l.codec == name {
			codec = codec.WithLevel(l.level(n))
		}
	}
	r.opts = append(r.opts, kgo.ProducerBatchCompression(codec))
}

// sizes reads max.request.size, which bounds a batch here as it does in Kafka
// (batch.size there is a target: a larger record still goes out), and
// buffer.memory.
func (r *reader) sizes() {
	size := int32(1 << 20)
	if key := "max.request.size"; r.has(key) {
		n := r.number(key, 1<<20, 0, math.MaxInt32)
		cut := max(512, min(n, 1<<30-1<<16))
		if cut != n {
			r.adapt(key, "acts as %d bytes, the nearest that is possible here", cut)
		}
		size = int32(cut)
		// A request is a batch and what stands around it; below franz-go's own
		// 100 MiB there is room anyway.
		if size > 99<<20 {
			r.opts = append(r.opts, kgo.BrokerMaxWriteBytes(size+1<<16))
		}
	}
	r.opts = append(r.opts, kgo.ProducerBatchMaxBytes(size))
	if key := "buffer.memory"; r.has(key) {
		r.opts = append(r.opts, kgo.MaxBufferedBytes(int(max(1, r.number(key, 32<<20, 0, math.MaxInt64)))))
	}
}

// consumer reads what only a consumer has.
func (r *reader) consumer() {
	wait := r.millis("fetch.max.wait.ms", 500*time.Millisecond, 0)
	r.opts = append(r.opts, kgo.FetchMaxWait(r.within("fetch.max.wait.ms", wait, 10*time.Millisecond, math.MaxInt32*time.Millisecond)))
	if rack := r.text("client.rack", ""); rack != "" {
		if len(rack) > 512 {
			r.fail("client.rack", "at most 512 bytes are possible here")
		}
		r.opts = append(r.opts, kgo.Rack(rack))
	}
	if key := "fetch.min.bytes"; r.has(key) {
		r.opts = append(r.opts, kgo.FetchMinBytes(int32(r.number(key, 1, 0, math.MaxInt32))))
	}
	if key := "fetch.max.bytes"; r.has(key) {
		n := r.number(key, 50<<20, 0, math.MaxInt32)
		cut := max(1, min(n, 1<<29))
		if cut != n {
			r.adapt(key, "acts as %d bytes, the nearest that is possible here", cut)
		}
		// A response may exceed the limit by one batch.
		r.opts = append(r.opts, kgo.FetchMaxBytes(int32(cut)), kgo.BrokerMaxReadBytes(int32(max(100<<20, 2*cut))))
	}
	if key := "max.partition.fetch.bytes"; r.has(key) {
		r.opts = append(r.opts, kgo.FetchMaxPartitionBytes(int32(max(1, r.number(key, 1<<20, 0, math.MaxInt32)))))
	}
	if r.oneOf("isolation.level", "read_uncommitted", "read_committed", "read_uncommitted") == "read_committed" {
		r.opts = append(r.opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if !r.boolean("check.crcs", true) {
		r.opts = append(r.opts, kgo.DisableFetchCRCValidation())
	}
	r.offsetReset()
	r.ignore("max.poll.records", "batches are copied whole; memory is bounded by bytes")
	r.ignore("allow.auto.create.topics", "reading never creates a topic")
	r.ignore("exclude.internal.topics", "topics are chosen by the connector")
}

// duration is the ISO-8601 duration of java.time.Duration.parse, without its
// signs on single parts.
var duration = regexp.MustCompile(`^(?i)P(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?$`)

// offsetReset reads auto.offset.reset (KIP-1106 for by_duration).
func (r *reader) offsetReset() {
	const key = "auto.offset.reset"
	if !r.has(key) {
		return
	}
	var offset kgo.Offset
	v := r.text(key, "")
	switch v {
	case "earliest":
		offset = kgo.NewOffset().AtStart()
	case "latest":
		offset = kgo.NewOffset().AtEnd()
	case "none":
		offset = kgo.NoResetOffset()
	default:
		back, ok := parseByDuration(v)
		if !ok {
			r.invalid(key, "Invalid value for `auto.offset.reset`. The value must be either 'earliest', 'latest', 'none' or of the format 'by_duration:<PnDTnHnMn.nS.>'.")
			return
		}
		offset = kgo.NewOffset().AfterMilli(time.Now().Add(-back).UnixMilli())
	}
	r.opts = append(r.opts, kgo.ConsumeResetOffset(offset))
	if v != "none" {
		r.opts = append(r.opts, kgo.ConsumeStartOffset(offset))
	}
}

// parseByDuration reads "by_duration:P1DT2H".
func parseByDuration(v string) (time.Duration, bool) {
	const prefix = "by_duration:"
	if len(v) < len(prefix) || v[:len(prefix)] != prefix {
		return 0, false
	}
	m := duration.FindStringSubmatch(v[len(prefix):])
	if m == nil || m[1]+m[2]+m[3]+m[4] == "" || v[len(v)-1] == 'T' || v[len(v)-1] == 't' {
		return 0, false
	}
	seconds := 0.0
	for i, unit := range []float64{86400, 3600, 60, 1} {
		if m[i+1] != "" {
			n, err := strconv.ParseFloat(m[i+1], 64)
			if err != nil {
				return 0, false
			}
			seconds += n * unit
		}
	}
	if seconds > 200*365*86400 {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)), true
}

// admin reads what only an admin client has.
func (r *reader) admin() {
	if key := "retries"; r.has(key) {
		r.opts = append(r.opts, kgo.RequestRetries(int(r.number(key, math.MaxInt32, 0, math.MaxInt32))))
	}
	if key := "bootstrap.controllers"; len(r.list(key)) > 0 {
		r.fail(key, "not supported yet: talking to controllers; set bootstrap.servers")
	}
}

// lz4Level turns Kafka's level into that of franz-go's lz4 library. Kafka's
// default of 9 is its fast compressor (Lz4BlockOutputStream), which is 0 there.
func lz4Level(n int64) int {
	if n == 9 {
		return 0
	}
	return 1 << (8 + min(n, 9))
}

// zstdLevel turns Kafka's level into that of franz-go's zstd library, which has
// four.
func zstdLevel(n int64) int { return int(zstd.EncoderLevelFromZstd(int(n))) }
