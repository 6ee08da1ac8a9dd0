package config

import (
	"fmt"
	"log/slog"
)

// Hidden is what a Secret shows of itself, everywhere.
const Hidden = "[hidden]"

// Secret is a value that may be used but not shown: every way of printing or
// encoding it gives Hidden, and only Reveal gives the value. The zero Secret
// holds the empty string.
type Secret struct{ v string }

// NewSecret hides v.
func NewSecret(v string) Secret { return Secret{v} }

// Reveal returns the value. A test holds the list of its callers: only the
// places that hand a value to a client library, a cipher or a typed setting.
func (s Secret) Reveal() string { return s.v }

// String returns Hidden.
func (Secret) String() string { return Hidden }

// GoString returns Hidden.
func (Secret) GoString() string { return Hidden }

// Format writes Hidden whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, Hidden) }

// LogValue returns Hidden.
func (Secret) LogValue() slog.Value { return slog.StringValue(Hidden) }

// MarshalText returns Hidden.
func (Secret) MarshalText() ([]byte, error) { return []byte(Hidden), nil }

// MarshalJSON returns Hidden as a JSON string.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + Hidden + `"`), nil }
