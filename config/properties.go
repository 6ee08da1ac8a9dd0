package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxFileBytes bounds a file of properties. Real ones have a few KiB; whole certificates may stand in them.
const maxFileBytes = 4 << 20

// SyntaxError is the one thing that can be wrong with the text of a
// .properties file. It tells where, and nothing of the text, which may be a secret.
type SyntaxError struct{ Line int }

// Error names the line.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf(`line %d: a \u escape needs four hexadecimal digits (write \\u for a backslash and a u)`, e.Line)
}

// ReadFile reads the .properties file at path. References survive untouched.
// Errors name the file and the line.
//
// Java reads such files as ISO-8859-1. Here that is only for what is not UTF-8: text
// beyond ASCII is mangled there, so that files that work hold \u escapes instead, and those read the same.
func ReadFile(path string) (map[string]string, error) {
	text, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(text) {
		latin1 := make([]rune, len(text))
		for i, b := range text {
			latin1[i] = rune(b)
		}
		text = []byte(string(latin1))
	}
	// A byte order mark, which Java would make part of the first key, names nothing.
	properties, err := ParseProperties(string(bytes.TrimPrefix(text, []byte("\ufeff"))))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return properties, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("read %s: longer than %d bytes", path, maxFileBytes)
	}
	return text, nil
}

// ParseProperties reads text in the grammar of java.util.Properties.load: "="
// or ":" or white space after the key, "#" and "!" comments, "\" at the end of a line
// to go on in the next, escapes. Of a key written twice the last one counts. The error is a *SyntaxError.
//
// It is our own because the grammar is what worker files and secret files are
// written in, and the library at hand reads continuation lines of Windows files, continued keys, surrogate
// pairs and an empty key differently, and quotes the line in its errors.
func ParseProperties(text string) (map[string]string, error) {
	properties := map[string]string{}
	lines := lineReader{text: text}
	for {
		line, number, ok := lines.next()
		if !ok {
			return properties, nil
		}
		key, value := splitProperty(line)
		k, err := unescape(key)
		if err == nil {
			value, err = unescape(value)
		}
		if err != nil {
			return nil, &SyntaxError{Line: number}
		}
		properties[k] = value
	}
}

// lineReader yields the logical lines of a text, without comments, blank
// lines, leading white space and line ends, escapes untouched.
type lineReader struct {
	text string
	line int // natural lines read
}

// next returns a logical line and the number of the natural line where it begins.
func (r *lineReader) next() (line string, number int, ok bool) {
	var logical strings.Builder
	continued, ended := false, false
	for {
		if r.text == "" {
			// A text may end in the middle of a continuation; even of an empty one, which is the empty key.
			return logical.String(), number, ended
		}
		natural := strings.TrimLeft(r.natural(), blanks)
		if !continued {
			if natural == "" || natural[0] == '#' || natural[0] == '!' {
				ended = false
				continue
			}
			number = r.line
		}
		body, more := cutContinuation(natural)
		logical.WriteString(body)
		if !more {
			return logical.String(), number, true
		}
		// A backslash alone begins nothing: a comment may follow it.
		continued, ended = logical.Len() > 0, true
	}
}

// natural takes the next line off the text, without its end.
func (r *lineReader) natural() string {
	r.line++
	i := strings.IndexAny(r.text, "\r\n")
	if i < 0 {
		line := r.text
		r.text = ""
		return line
	}
	line, rest := r.text[:i], r.text[i+1:]
	if r.text[i] == '\r' {
		rest = strings.TrimPrefix(rest, "\n")
	}
	r.text = rest
	return line
}

// blanks is the white space within a line, for Java.
const blanks = " \t\f"

// cutContinuation takes the last backslash off a line that ends in an odd number of them.
func cutContinuation(line string) (body string, more bool) {
	backslashes := len(line) - len(strings.TrimRight(line, `\`))
	if backslashes%2 == 0 {
		return line, false
	}
	return line[:len(line)-1], true
}

// splitProperty splits a logical line at the first separator without a backslash.
func splitProperty(line string) (key, value string) {
	end := len(line)
	for i := 0; i < len(line); i++ {
		if line[i] == '\\' {
			i++
			continue
		}
		if strings.IndexByte(blanks+"=:", line[i]) >= 0 {
			end = i
			break
		}
	}
	value = strings.TrimLeft(line[end:], blanks)
	if value != "" && (value[0] == '=' || value[0] == ':') {
		value = strings.TrimLeft(value[1:], blanks)
	}
	return line[:end], value
}

var errEscape = errors.New("malformed escape")

// unescape replaces escapes. Two that make a surrogate pair are one character;
// half of one is the replacement character, since it has no UTF-8.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			break
		}
		switch s[i] {
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case 'n':
			b.WriteByte('\n')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			r, err := hexRune(s[i+1:])
			if err != nil {
				return "", err
			}
			i += 4
			if utf16.IsSurrogate(r) && strings.HasPrefix(s[i+1:], `\u`) {
				low, err := hexRune(s[i+3:])
				if err != nil {
					return "", err
				}
				if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
					r = pair
					i += 6
				}
			}
			b.WriteRune(r)
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}

// hexRune reads the four digits of a \u escape.
func hexRune(s string) (rune, error) {
	if len(s) < 4 {
		return 0, errEscape
	}
	n, err := strconv.ParseUint(s[:4], 16, 16)
	if err != nil {
		return 0, errEscape
	}
	return rune(n), nil
}

// FormatProperties writes settings as ParseProperties reads them, ordered by key.
func FormatProperties(settings map[string]string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		b.WriteString(propertyKey.Replace(key) + "=" + propertyValue(settings[key]) + "\n")
	}
	return b.String()
}

var (
	propertyText = []string{`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\f", `\f`}
	propertyKey  = strings.NewReplacer(append(slices.Clone(propertyText), " ", `\ `, "=", `\=`, ":", `\:`, "#", `\#`, "!", `\!`)...)
	propertyEnds = strings.NewReplacer(propertyText...)
)

// propertyValue escapes a value; a blank at its beginning would not be read.
func propertyValue(text string) string {
	if strings.HasPrefix(text, " ") {
		return `\` + propertyEnds.Replace(text)
	}
	return propertyEnds.Replace(text)
}
