package converter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"barnabas/config"
)

// newByteArray makes Kafka's ByteArrayConverter.
func newByteArray(config.Values) (*Converter, error) {
	return &Converter{
		encode: func(text *string) ([]byte, error) {
			if text != nil {
				return nil, wrong("Invalid schema type for ByteArrayConverter: STRING")
			}
			return nil, nil
		},
		decode: func(b []byte) (any, error) {
			if b == nil {
				return nil, nil
			}
			return b, nil
		},
	}, nil
}

// newString makes Kafka's StringConverter.
func newString(v config.Values) (*Converter, error) {
	return newStringOf(v.String("converter.encoding"))
}

// newSimpleHeader makes Kafka's SimpleHeaderConverter. It reads every header as text: what Kafka's makes of
// numbers, lists and maps in it is seen by no connector here.
func newSimpleHeader(config.Values) (*Converter, error) {
	return newStringOf("UTF-8")
}

func newStringOf(name string) (*Converter, error) {
	cs, err := charsetOf(name)
	if err != nil {
		return nil, err
	}
	return &Converter{
		encode: func(text *string) ([]byte, error) {
			if text == nil {
				return nil, nil
			}
			return cs.encode(*text), nil
		},
		decode: func(b []byte) (any, error) {
			if b == nil {
				return nil, nil
			}
			return cs.decode(b), nil
		},
	}, nil
}

// charset is one of Java's.
type charset struct {
	encode func(string) []byte
	decode func([]byte) string
}

func charsetOf(name string) (charset, error) {
	switch strings.ToLower(name) {
	case "utf-8", "utf8", "unicode-1-1-utf-8":
		return charset{func(s string) []byte { return []byte(s) }, DecodeUTF8}, nil
	case "iso-8859-1", "iso8859-1", "iso8859_1", "iso_8859-1", "latin1", "l1":
		return charset{func(s string) []byte { return narrow(s, 0xff) }, widen}, nil
	case "us-ascii", "ascii", "iso646-us":
		return charset{func(s string) []byte { return narrow(s, 0x7f) }, func(b []byte) string {
			var text strings.Builder
			for _, c := range b {
				if c > 0x7f {
					text.WriteRune(utf8.RuneError)
					continue
				}
				text.WriteByte(c)
			}
			return text.String()
		}}, nil
	}
	return charset{}, fmt.Errorf("converter.encoding: there is no character set %q here", name)
}

func widen(b []byte) string {
	var text strings.Builder
	for _, c := range b {
		text.WriteRune(rune(c))
	}
	return text.String()
}

func narrow(s string, limit rune) []byte {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		if r > limit {
			r = '?' // Java's replacement
		}
		b = append(b, byte(r))
	}
	return b
}

// DecodeUTF8 reads UTF-8 as Java does: each longest part that could begin a character and does not is replaced by one U+FFFD.
func DecodeUTF8(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var text strings.Builder
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size <= 1 {
			size = malformed(b)
		}
		text.WriteRune(r)
		b = b[size:]
	}
	return text.String()
}

// malformed is how many bytes at the beginning of b are one malformed character (Unicode's maximal subpart, table 3-7).
func malformed(b []byte) int {
	low, high, n := byte(0x80), byte(0xbf), 0
	switch c := b[0]; {
	case 0xc2 <= c && c <= 0xdf:
		n = 1
	case 0xe0 <= c && c <= 0xef:
		n = 2
		if c == 0xe0 {
			low = 0xa0
		}
		if c == 0xed {
			high = 0x9f
		}
	case 0xf0 <= c && c <= 0xf4:
		n = 3
		if c == 0xf0 {
			low = 0x90
		}
		if c == 0xf4 {
			high = 0x8f
		}
	}
	size := 1
	for ; size <= n && size < len(b); size++ {
		if c := b[size]; c < low || high < c {
			break
		}
		low, high = 0x80, 0xbf
	}
	if b[0] == 0xed && size == 1 && len(b) >= 3 && b[1]&0xe0 == 0xa0 && b[2]&0xc0 == 0x80 {
		return 3 // half a surrogate pair, which Java sees as one
	}
	return size
}

// newBoolean makes Kafka's BooleanConverter.
func newBoolean(config.Values) (*Converter, error) {
	return &Converter{
		encode: refuseText("boolean", "BooleanConverter"),
		decode: func(b []byte) (any, error) {
			switch {
			case b == nil:
				return nil, nil
			case len(b) == 1 && b[0] <= 1:
				return b[0] == 1, nil
			case len(b) != 1:
				return nil, &Error{Message: "Failed to deserialize boolean: ", Cause: errors.New("Size of data received by BooleanDeserializer is not 1")}
			}
			return nil, &Error{Message: "Failed to deserialize boolean: ", Cause: fmt.Errorf("Unexpected byte received by BooleanDeserializer: %d", int8(b[0]))}
		},
	}, nil
}

func refuseText(name, class string) func(*string) ([]byte, error) {
	return func(text *string) ([]byte, error) {
		if text == nil {
			return nil, nil
		}
		if class != "" {
			return nil, wrong("Invalid schema type for %s: STRING", class)
		}
		return nil, wrong("Failed to serialize to %s (was class java.lang.String): ", name)
	}
}

// newNumber makes one of Kafka's NumberConverters.
func newNumber(name string, size int, read func([]byte) any) func(config.Values) (*Converter, error) {
	return func(config.Values) (*Converter, error) {
		return &Converter{
			encode: refuseText(name, ""),
			decode: func(b []byte) (any, error) {
				if b == nil {
					return nil, nil
				}
				if len(b) != size {
					return nil, &Error{Message: "Failed to deserialize " + name + ": ", Cause: fmt.Errorf("Size of data received by deserializer is not %d", size)}
				}
				return read(b), nil
			},
		}, nil
	}
}

func toDouble(b []byte) any { return math.Float64frombits(binary.BigEndian.Uint64(b)) }
func toFloat(b []byte) any  { return math.Float32frombits(binary.BigEndian.Uint32(b)) }
func toInt(b []byte) any    { return int32(binary.BigEndian.Uint32(b)) }
func toLong(b []byte) any   { return int64(binary.BigEndian.Uint64(b)) }
func toShort(b []byte) any  { return int16(binary.BigEndian.Uint16(b)) }

// javaHash is String.hashCode, over UTF-16 units.
func javaHash(s string) int32 {
	var h int32
	for _, u := range utf16.Encode([]rune(s)) {
		h = 31*h + int32(u)
	}
	return h
}
