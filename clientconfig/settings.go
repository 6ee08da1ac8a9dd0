package clientconfig

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
)

// reader reads typed settings by Kafka's rules (ConfigDef.parseType), collects
// what is wrong instead of stopping at it, and remembers what was read.
type reader struct {
	kind     Kind
	settings config.Settings
	report   Report
	opts     []kgo.Opt
	problems []config.Problem
	used     map[string]bool
	login    *liveLogin
	stores   [][sha256.Size]byte // of the files that were read

	setupTimeout    time.Duration
	setupTimeoutMax time.Duration
}

func newReader(settings config.Settings, kind Kind) *reader {
	r := &reader{
		kind:     kind,
		settings: settings,
		used:     map[string]bool{},
		report:   Report{Kind: kind, References: map[string][]string{}},
	}
	for _, key := range workerOnly {
		r.used[key] = true
	}
	for key, s := range settings {
		if refs := references(s.Written); len(refs) > 0 {
			r.report.References[key] = refs
		}
	}
	return r
}

// reference matches both spellings of a reference, as Kafka's
// ConfigTransformer finds them.
var reference = regexp.MustCompile(`\$\{[^}]*?:[^}]*?\}|\$<[^>]*?:[^>]*?>`)

func references(written string) []string { return reference.FindAllString(written, -1) }

// has says whether key is set. It counts as read.
func (r *reader) has(key string) bool {
	_, ok := r.settings[key]
	if ok {
		r.used[key] = true
	}
	return ok
}

// text returns the trimmed value of key (ConfigDef trims every type), or def.
func (r *reader) text(key, def string) string {
	if !r.has(key) {
		return def
	}
	return javaTrim(r.settings[key].Value.Reveal())
}

// javaTrim is String.trim: it cuts everything up to U+0020, and nothing else.
func javaTrim(s string) string {
	return strings.TrimFunc(s, func(c rune) bool { return c <= ' ' })
}

// written returns what may be shown of key's value.
func (r *reader) written(key string) string {
	w := r.settings[key].Written
	if knownKeys[key].typ != passwordKey {
		return w
	}
	if refs := references(w); len(refs) > 0 {
		return strings.Join(refs, " ")
	}
	return config.Hidden
}

// fail records a problem with key.
func (r *reader) fail(key, format string, args ...any) {
	r.problems = append(r.problems, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
}

// invalid records that key's value breaks a rule, in the words of Kafka's
// ConfigException.
func (r *reader) invalid(key, rule string) {
	r.fail(key, "Invalid value %s for configuration %s: %s", r.written(key), key, rule)
}

// adapt notes that key acts otherwise than written.
func (r *reader) adapt(key, format string, args ...any) {
	r.report.Adapted = append(r.report.Adapted, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
}

// ignore notes that key, where it is set, changes nothing here.
func (r *reader) ignore(key, reason string) {
	if r.has(key) {
		r.report.Meaningless = append(r.report.Meaningless, config.Problem{Key: key, Message: reason})
	}
}

// err returns all problems, ordered by key.
func (r *reader) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b config.Problem) int { return strings.Compare(a.Key, b.Key) })
	return &Error{Kind: r.kind, Problems: r.problems}
}

// boolean reads a BOOLEAN.
func (r *reader) boolean(key string, def bool) bool {
	if !r.has(key) {
		return def
	}
	switch strings.ToLower(r.text(key, "")) {
	case "true":
		return true
	case "false":
		return false
	}
	r.invalid(key, "Expected value to be either true or false")
	return def
}

// number reads an INT or LONG between low and high, or of any size below high
// where low is math.MinInt64.
func (r *reader) number(key string, def, low, high int64) int64 {
	if !r.has(key) {
		return def
	}
	bits, name := 32, "INT"
	if knownKeys[key].typ == longKey {
		bits, name = 64, "LONG"
	}
	n, err := strconv.ParseInt(r.text(key, ""), 10, bits)
	switch {
	case err != nil:
		r.invalid(key, "Not a number of type "+name)
	case n < low:
		r.invalid(key, fmt.Sprintf("Value must be at least %d", low))
	case n > high:
		r.invalid(key, fmt.Sprintf("Value must be no more than %d", high))
	default:
		return n
	}
	return def
}

// double reads a DOUBLE between low and high.
func (r *reader) double(key string, def, low, high float64) float64 {
	if !r.has(key) {
		return def
	}
	n, err := strconv.ParseFloat(r.text(key, ""), 64)
	switch {
	case err != nil || math.IsNaN(n):
		r.invalid(key, "Not a number of type DOUBLE")
	case n < low:
		r.invalid(key, fmt.Sprintf("Value must be at least %v", low))
	case n > high:
		r.invalid(key, fmt.Sprintf("Value must be no more than %v", high))
	default:
		return n
	}
	return def
}

// millis reads a duration in milliseconds. Durations that Go cannot hold are cut
// to the longest that it can.
func (r *reader) millis(key string, def time.Duration, low int64) time.Duration {
	ms := r.number(key, def.Milliseconds(), low, math.MaxInt64)
	const most = math.MaxInt64 / int64(time.Millisecond)
	return time.Duration(max(-1, min(ms, most))) * time.Millisecond
}

// within cuts a duration to what franz-go accepts, and says so.
func (r *reader) within(key string, d, low, high time.Duration) time.Duration {
	cut := max(low, min(d, high))
	if cut != d {
		r.adapt(key, "acts as %d ms, the nearest that is possible here", cut.Milliseconds())
	}
	return cut
}

// oneOf reads a text that must be one of allowed.
func (r *reader) oneOf(key, def string, allowed ...string) string {
	v := r.text(key, def)
	if slices.Contains(allowed, v) {
		return v
	}
	r.invalid(key, "String must be one of: "+strings.Join(allowed, ", "))
	return def
}

// list reads a LIST.
func (r *reader) list(key string, def ...string) []string {
	if !r.has(key) {
		return def
	}
	return splitList(r.text(key, ""))
}

// splitList splits at commas and trims; an empty text has no elements.
func splitList(text string) []string {
	if javaTrim(text) == "" {
		return nil
	}
	parts := strings.Split(text, ",")
	for i, part := range parts {
		parts[i] = javaTrim(part)
	}
	return parts
}

// classifyRest sorts the keys that nothing has read into those Kafka knows and
// those it does not.
func (r *reader) classifyRest() {
	for _, key := range slices.Sorted(maps.Keys(r.settings)) {
		if r.used[key] {
			continue
		}
		known, ok := knownKeys[key]
		switch {
		case ok && known.kinds.has(r.kind):
			r.ignore(key, reasonMeaningless(key))
		case ok:
			r.ignore(key, "not a setting of the "+string(r.kind))
		case strings.HasPrefix(key, "config.providers."):
			r.ignore(key, "references are resolved by the worker's config.providers")
		default:
			r.report.Unknown = append(r.report.Unknown, UnknownKey{key, nearestKey(key, r.kind)})
		}
	}
	byKey := func(a, b config.Problem) int { return strings.Compare(a.Key, b.Key) }
	slices.SortStableFunc(r.report.Meaningless, byKey)
	slices.SortStableFunc(r.report.Adapted, byKey)
}

// reasonMeaningless says why a key that Kafka knows changes nothing here.
func reasonMeaningless(key string) string {
	switch {
	case strings.HasPrefix(key, "group.") || strings.HasPrefix(key, "auto.commit.") || strings.HasPrefix(key, "share.") ||
		slices.Contains([]string{
			"enable.auto.commit", "session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy",
			"max.poll.interval.ms", "internal.throw.on.fetch.stable.offset.unsupported",
		}, key):
		return "partitions are assigned by the worker; there is no consumer group"
	case strings.HasSuffix(key, ".class") || strings.HasSuffix(key, ".classes") || strings.HasSuffix(key, "serializer"):
		return "names Java code, which does not run here"
	case strings.HasPrefix(key, "metric") || key == "enable.metrics.push":
		return "metrics are served by the worker"
	case strings.HasPrefix(key, "sasl.oauthbearer.") || strings.HasPrefix(key, "sasl.kerberos.") || strings.HasPrefix(key, "sasl.login."):
		return "belongs to a mechanism that is not in use"
	case strings.HasPrefix(key, "partitioner."):
		return "a copied record keeps its partition"
	}
	return "has no counterpart here"
}

// nearestKey returns the known key of kind that key most resembles, or "" when
// none is near: at most a quarter of its letters differ, or three.
func nearestKey(key string, kind Kind) string {
	if len(key) > 2*len("sasl.oauthbearer.assertion.private.key.passphrase") {
		return "" // not even half of it is a key; comparing it would only take time
	}
	best, distance := "", min(max(3, len(key)/4), len(key)/2)+1
	for _, known := range slices.Sorted(maps.Keys(knownKeys)) {
		if !knownKeys[known].kinds.has(kind) {
			continue
		}
		if d := editDistance(key, known); d < distance {
			best, distance = known, d
		}
	}
	return best
}

// editDistance is the Levenshtein distance in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
