package config

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
)

// Hidden is what a Secret shows of itself, everywhere.
const Hidden = "[hidden]"

// Secret is a value that may be used but not shown: every way of printing or
// encoding it gives Hidden, and only Reveal gives the value. The zero Secret
// holds the empty string.
//
// The value is behind a pointer because fmt calls no methods on what is in an
// unexported field of somebody's struct: it would print the value itself, and so it prints an address.
type Secret struct {
	v *string
	_ [0]func() // no ==, which would compare addresses: use Equal
}

// NewSecret hides v.
func NewSecret(v string) Secret { return Secret{v: &v} }

// Reveal returns the value. A test holds the list of its callers: only the
// places that hand a value to a client library, a cipher or a typed setting.
func (s Secret) Reveal() string {
	if s.v == nil {
		return ""
	}
	return *s.v
}

// Equal tells whether both hold the same value, in a time that does not depend
// on where they differ.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

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
