package clientconfig

import (
	"errors"
	"fmt"
	"strings"
)

// jaasEntry is one login module of a JAAS configuration. Its options hold
// secrets: it must not be printed.
type jaasEntry struct {
	module  string // class name; empty where the text has none
	options map[string]string
}

// Reasons why a JAAS text does not parse. They are Kafka's (JaasConfig), less what these name of the
// text: after a mistake, a piece of a password can stand where a key or a flag is expected.
//
//nolint:revive,staticcheck // capitals as Kafka has them
var (
	errJAASEmpty     = errors.New("Login module not specified in JAAS config")
	errJAASNoFlag    = errors.New("Login module control flag not specified in JAAS config")
	errJAASFlagWord  = errors.New("Login module control flag is not available in the JAAS config")
	errJAASFlag      = errors.New("Invalid login module control flag in JAAS config: the login module must be followed by required, requisite, sufficient or optional")
	errJAASNoValue   = errors.New("Value not specified for a key in JAAS config: options are key=value, and a value that is not a plain word must be quoted")
	errJAASSemicolon = errors.New("JAAS config entry not terminated by semi-colon")
)

// parseJAAS reads "LoginModuleClass flag key=value key="quoted" … ;" as Kafka's
// JaasConfig does. Errors hold nothing of the text.
func parseJAAS(text string) ([]jaasEntry, error) {
	lex := newTokenizer(text)
	var entries []jaasEntry
	for tok := lex.next(); tok.kind != tokenEOF; tok = lex.next() {
		entry, err := parseJAASEntry(tok, lex)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	if len(entries) == 0 {
		return nil, errJAASEmpty
	}
	return entries, nil
}

func parseJAASEntry(first token, lex *tokenizer) (jaasEntry, error) {
	entry := jaasEntry{module: first.text, options: map[string]string{}}
	flag := lex.next()
	switch flag.kind {
	case tokenEOF:
		return entry, errJAASNoFlag
	case tokenNumber, tokenChar:
		return entry, errJAASFlagWord
	}
	switch strings.ToUpper(flag.text) {
	case "REQUIRED", "REQUISITE", "SUFFICIENT", "OPTIONAL":
	default:
		return entry, errJAASFlag
	}
	for {
		key := lex.next()
		switch {
		case key.kind == tokenEOF:
			return entry, errJAASSemicolon
		case key.is(';'):
			return entry, nil
		}
		if !lex.next().is('=') {
			return entry, errJAASNoValue
		}
		value := lex.next()
		if value.kind != tokenText {
			return entry, errJAASNoValue
		}
		if key.kind == tokenText {
			entry.options[key.text] = value.text
		}
	}
}

type tokenKind int

const (
	tokenEOF tokenKind = iota
	tokenText
	tokenNumber
	tokenChar
)

// token is what java.io.StreamTokenizer returns. Only a word or a quoted text
// has text (Java's sval).
type token struct {
	kind tokenKind
	text string
	char rune
}

func (t token) is(char rune) bool { return t.kind == tokenChar && t.char == char }

// tokenizer is java.io.StreamTokenizer as Kafka's JaasConfig sets it up:
// // and /* */ comments (and "/" alone, which is a comment to the end of the line too), '"' and
// '\” quote, numbers are numbers, and "-", "_" and "$" may be parts of words.
type tokenizer struct {
	text []rune
	at   int
}

func newTokenizer(text string) *tokenizer { return &tokenizer{text: []rune(text)} }

const eof = rune(-1)

func (z *tokenizer) read() rune {
	if z.at >= len(z.text) {
		return eof
	}
	z.at++
	return z.text[z.at-1]
}

func (z *tokenizer) unread(c rune) {
	if c != eof {
		z.at--
	}
}

// Character classes of StreamTokenizer. A character of 256 and above is a letter.
func isDigit(c rune) bool { return '0' <= c && c <= '9' || c == '.' || c == '-' }

func isWord(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0xA0 || c == '-' || c == '_' || c == '$'
}
func isSpace(c rune) bool { return 0 <= c && c <= ' ' }

func (z *tokenizer) next() token {
	for {
		c := z.read()
		for isSpace(c) {
			c = z.read()
		}
		switch {
		case c == eof:
			return token{kind: tokenEOF}
		case isDigit(c):
			return z.number(c)
		case isWord(c):
			return z.word(c)
		case c == '"' || c == '\'':
			return z.quoted(c)
		case c == '/':
			z.comment()
		default:
			return token{kind: tokenChar, char: c}
		}
	}
}

// number reads digits and one dot; a "-" before something else is a character of
// its own.
func (z *tokenizer) number(c rune) token {
	if c == '-' {
		c = z.read()
		if c != '.' && (c < '0' || c > '9') {
			z.unread(c)
			return token{kind: tokenChar, char: '-'}
		}
	}
	dot := false
	for c >= '0' && c <= '9' || c == '.' && !dot {
		dot = dot || c == '.'
		c = z.read()
	}
	z.unread(c)
	return token{kind: tokenNumber}
}

func (z *tokenizer) word(c rune) token {
	var b strings.Builder
	for isWord(c) || isDigit(c) {
		b.WriteRune(c)
		c = z.read()
	}
	z.unread(c)
	return token{kind: tokenText, text: b.String()}
}

// quoted reads up to the closing quote, the end of the line or the end of the
// text, whichever comes first; Java takes the unclosed ones too.
func (z *tokenizer) quoted(quote rune) token {
	var b strings.Builder
	c := z.read()
	for c != eof && c != quote && c != '\n' && c != '\r' {
		if c == '\\' {
			b.WriteRune(z.escape())
		} else {
			b.WriteRune(c)
		}
		c = z.read()
	}
	if c != quote {
		z.unread(c)
	}
	return token{kind: tokenText, text: b.String()}
}

// escape reads what follows a backslash: an octal number up to \377, one of
// \a\b\f\n\r\t\v, or any character for itself.
func (z *tokenizer) escape() rune {
	c := z.read()
	if c >= '0' && c <= '7' {
		value, most := c-'0', 2
		if c > '3' {
			most = 1
		}
		for range most {
			digit := z.read()
			if digit < '0' || digit > '7' {
				z.unread(digit)
				break
			}
			value = value<<3 + digit - '0'
		}
		return value
	}
	switch c {
	case 'a':
		return '\a'
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'v':
		return '\v'
	case eof:
		return 0xFFFF // (char) -1
	}
	return c
}

// comment skips what a "/" begins.
func (z *tokenizer) comment() {
	if c := z.read(); c == '*' {
		before := rune(0)
		for c = z.read(); c != eof && (c != '/' || before != '*'); c = z.read() {
			before = c
		}
		return
	}
	// The character after the slash is skipped whatever it is, even a line's end.
	c := z.read()
	for c != '\n' && c != '\r' && c != eof {
		c = z.read()
	}
}

// jaasOf parses text and returns its only login module.
func jaasOf(text string) (jaasEntry, error) {
	entries, err := parseJAAS(text)
	if err != nil {
		return jaasEntry{}, err
	}
	if len(entries) != 1 {
		return jaasEntry{}, fmt.Errorf("JAAS config property contains %d login modules, should be 1 module", len(entries))
	}
	return entries[0], nil
}
