package config

import (
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Value is one parsed setting. Its text may be a resolved secret whatever its
// type, so printing a Value shows what was written.
type Value struct {
	Name string
	// parsed is nil for null, and behind a pointer for the reason that Secret has.
	parsed  *parsed
	kind    Type
	setting Setting
	set     bool
}

// parsed is a bool, int64, float64, string, []string or Secret.
type parsed struct{ v any }

func newParsed(v any) *parsed {
	if v == nil {
		return nil
	}
	return &parsed{v}
}

// any is the parsed value, nil for null.
func (v Value) any() any {
	if v.parsed == nil {
		return nil
	}
	return v.parsed.v
}

// Null tells whether there is no value: neither written nor by default.
func (v Value) Null() bool { return v.parsed == nil }

// IsSet tells whether the value was written, rather than a default.
func (v Value) IsSet() bool { return v.set }

// Invalid is Kafka's message for a value that a check refuses, with the value
// as its author wrote it if it holds a reference, and otherwise as Kafka prints the parsed one.
func (v Value) Invalid(detail string) string { return invalid(v.Name, v.Shown(), detail) }

func invalid(name, shown, detail string) string {
	return fmt.Sprintf("Invalid value %s for configuration %s: %s", shown, name, detail)
}

// Shown is the value as a message may show it.
func (v Value) Shown() string {
	switch p := v.any().(type) {
	case nil:
		return "null"
	case []string:
		if v.resolved() {
			return v.setting.Written
		}
		return "[" + strings.Join(p, ", ") + "]"
	default:
		return *v.text()
	}
}

// resolved tells whether the value came out of a reference.
func (v Value) resolved() bool {
	return v.set && v.setting.Written != v.setting.Value.Reveal()
}

// text is the value as Connect's validate shows it (ConfigDef.convertToString),
// nil for null; but a reference is shown as it was written.
func (v Value) text() *string {
	if v.parsed == nil {
		return nil
	}
	if v.kind == Password {
		if v.set && HasReference(v.setting.Written) && !LiteralSecret(v.Name, v.setting.Written, true) {
			return new(v.setting.Written)
		}
		return new(Hidden)
	}
	if v.resolved() {
		return new(v.setting.Written)
	}
	switch p := v.any().(type) {
	case bool:
		return new(strconv.FormatBool(p))
	case int64:
		return new(strconv.FormatInt(p, 10))
	case float64:
		return new(javaDouble(p))
	case string:
		return &p
	case []string:
		return new(strings.Join(p, ","))
	}
	panic(fmt.Sprintf("config: %s holds a %T", v.Name, v.any()))
}

// Text returns the resolved text of a STRING or CLASS, "" for null.
func (v Value) Text() string {
	s, _ := v.any().(string)
	return s
}

// Number returns a number of any type, and false for null.
func (v Value) Number() (float64, bool) {
	switch p := v.any().(type) {
	case int64:
		return float64(p), true
	case float64:
		return p, true
	}
	return 0, false
}

// Items returns the resolved elements of a LIST, nil for null.
func (v Value) Items() []string {
	l, _ := v.any().([]string)
	return l
}

// String returns Shown, so that no way of printing a Value gives a secret away.
func (v Value) String() string { return v.Shown() }

// Format writes Shown whatever the verb.
func (v Value) Format(f fmt.State, _ rune) { fmt.Fprint(f, v.Shown()) }

// LogValue returns Shown.
func (v Value) LogValue() slog.Value { return slog.StringValue(v.Shown()) }

// MarshalText returns Shown.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.Shown()), nil }

// Values are the typed values of a Def. Asking for a key that the Def does not
// define, or as another type than its own, is a mistake of the program and
// panics; null gives the zero value.
type Values struct{ m map[string]Value }

// Value returns the value of the key called name.
func (v Values) Value(name string) Value {
	value, ok := v.m[name]
	if !ok {
		panic(fmt.Sprintf("config: %q is not defined", name))
	}
	return value
}

// Null tells whether name has neither a value nor a default.
func (v Values) Null(name string) bool { return v.Value(name).Null() }

// IsSet tells whether name was written, rather than defaulted.
func (v Values) IsSet(name string) bool { return v.Value(name).IsSet() }

// Written returns name as it was written, "" if it was not.
func (v Values) Written(name string) string { return v.Value(name).setting.Written }

// String returns a STRING or CLASS.
func (v Values) String(name string) string { return get[string](v, name) }

// Bool returns a BOOLEAN.
func (v Values) Bool(name string) bool { return get[bool](v, name) }

// Int returns an INT or SHORT, or a LONG.
func (v Values) Int(name string) int { return int(get[int64](v, name)) }

// Int64 returns an INT, SHORT or LONG.
func (v Values) Int64(name string) int64 { return get[int64](v, name) }

// Float returns a DOUBLE.
func (v Values) Float(name string) float64 { return get[float64](v, name) }

// Duration returns a number of milliseconds as a duration. What is too long for
// one is the longest one.
func (v Values) Duration(name string) time.Duration {
	ms := get[int64](v, name)
	if limit := int64(math.MaxInt64 / time.Millisecond); ms > limit || ms < -limit {
		if ms < 0 {
			return math.MinInt64
		}
		return math.MaxInt64
	}
	return time.Duration(ms) * time.Millisecond
}

// List returns a LIST.
func (v Values) List(name string) []string { return get[[]string](v, name) }

// Secret returns a PASSWORD.
func (v Values) Secret(name string) Secret { return get[Secret](v, name) }

func get[T any](v Values, name string) T {
	value := v.Value(name)
	if value.parsed == nil {
		var zero T
		return zero
	}
	t, ok := value.any().(T)
	if !ok {
		panic(fmt.Sprintf("config: %s is a %s, asked for as a %T", name, value.kind, t))
	}
	return t
}

// Format writes the values as Value.Format does.
func (v Values) Format(f fmt.State, _ rune) { fmt.Fprint(f, v.m) }

// LogValue returns the values as they may be shown.
func (v Values) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(v.m)) }

// MarshalJSON returns the values as they may be shown.
func (v Values) MarshalJSON() ([]byte, error) { return marshalShown(v.m) }

// parseType is Kafka's ConfigDef.parseType for text. detail is what is wrong.
func parseType(text string, t Type) (value any, detail string) {
	trimmed := javaTrim(text)
	switch t {
	case Boolean:
		switch {
		case strings.EqualFold(trimmed, "true"):
			return true, ""
		case strings.EqualFold(trimmed, "false"):
			return false, ""
		}
		return nil, "Expected value to be either true or false"
	case String, Class:
		return trimmed, ""
	case Password:
		return NewSecret(trimmed), ""
	case List:
		return parseList(trimmed), ""
	case Short, Int, Long:
		n, err := strconv.ParseInt(trimmed, 10, map[Type]int{Short: 16, Int: 32, Long: 64}[t])
		if err != nil {
			return nil, "Not a number of type " + string(t)
		}
		return n, ""
	case Double:
		f, ok := parseDouble(trimmed)
		if !ok {
			return nil, "Not a number of type " + string(t)
		}
		return f, ""
	}
	panic(fmt.Sprintf("config: unknown type %q", t))
}

// javaTrim is Java's String.trim: it cuts control characters and blanks, and
// unlike strings.TrimSpace no other white space.
func javaTrim(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
}

// parseList splits as Kafka does: at commas with the white space around them,
// keeping empty elements; only nothing at all is the empty list.
func parseList(trimmed string) []string {
	if trimmed == "" {
		return []string{}
	}
	items := strings.Split(trimmed, ",")
	for i, item := range items {
		items[i] = strings.Trim(item, " \t\n\v\f\r")
	}
	return items
}

var doublePattern = regexp.MustCompile(`^[+-]?(NaN|Infinity|(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[fFdD]?)$`)

// parseDouble reads what Java's Double.parseDouble reads, hexadecimal aside. Out of range is
// infinite, as there.
func parseDouble(s string) (float64, bool) {
	if !doublePattern.MatchString(s) {
		return 0, false
	}
	if strings.ContainsAny(s, "0123456789") {
		s = strings.TrimRight(s, "fFdD")
	}
	f, _ := strconv.ParseFloat(s, 64)
	return f, true
}

// javaDouble is Java's Double.toString.
func javaDouble(f float64) string {
	switch abs := math.Abs(f); {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	case f == 0 || abs >= 1e-3 && abs < 1e7:
		s := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	n, _ := strconv.Atoi(exponent)
	return mantissa + "E" + strconv.Itoa(n)
}
