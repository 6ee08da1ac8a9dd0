package auth

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"
)

// Certificates makes users of the certificates that TLS has verified, by Kafka's ssl.principal.mapping.rules. Make it with NewCertificates.
type Certificates struct{ rules []rule }

// rule is one of the rules: DEFAULT if pattern is nil.
type rule struct {
	pattern     *regexp.Regexp // matches the whole name
	within      *regexp.Regexp // the same, as it is replaced
	replacement []part
	change      func(string) string
}

// part is a text of a replacement, or a group of the pattern.
type part struct {
	text  string
	group int // 0: none
}

// NewCertificates reads rules as Kafka's SslPrincipalMapper does: RULE:pattern/replacement/ with L or U behind it for small letters or capitals,
// or DEFAULT, with commas between. An empty text is DEFAULT.
func NewCertificates(rules string) (*Certificates, error) {
	c := &Certificates{}
	rest := strings.TrimSpace(rules)
	if rest == "" {
		rest = "DEFAULT"
	}
	for {
		var r rule
		var err error
		if after, ok := strings.CutPrefix(rest, "DEFAULT"); ok {
			rest = after
		} else if r, rest, err = readRule(rest); err != nil {
			return nil, err
		}
		c.rules = append(c.rules, r)
		if rest = strings.TrimSpace(rest); rest == "" {
			return c, nil
		}
		after, ok := strings.CutPrefix(rest, ",")
		if rest = strings.TrimSpace(after); !ok || rest == "" {
			return nil, fmt.Errorf("the rules go on with %q, where a comma and a rule belong", after)
		}
	}
}

// readRule reads a rule, and returns what is behind it.
func readRule(text string) (r rule, rest string, err error) {
	wrong := fmt.Errorf("%q does not begin with DEFAULT or RULE:pattern/replacement/", text)
	body, ok := strings.CutPrefix(text, "RULE:")
	if !ok {
		return r, "", wrong
	}
	pattern, body, ok := untilSlash(body)
	if !ok {
		return r, "", wrong
	}
	replacement, rest, ok := untilSlash(body)
	if !ok {
		return r, "", wrong
	}
	if r.within, err = regexp.Compile(pattern); err == nil {
		r.pattern, err = regexp.Compile(`\A(?:` + pattern + `)\z`)
	}
	if err != nil {
		return r, "", fmt.Errorf("the pattern of a rule: %w", err)
	}
	if r.replacement, err = readReplacement(replacement, r.within.NumSubexp()); err != nil {
		return r, "", err
	}
	switch {
	case strings.HasPrefix(rest, "L"):
		r.change, rest = strings.ToLower, rest[1:]
	case strings.HasPrefix(rest, "U"):
		r.change, rest = strings.ToUpper, rest[1:]
	}
	return r, rest, nil
}

// untilSlash cuts a text at its first slash that has no backslash before it.
func untilSlash(text string) (before, after string, ok bool) {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '/':
			return text[:i], text[i+1:], true
		}
	}
	return "", "", false
}

// readReplacement reads a replacement as Java's Matcher.replaceAll does. A group that the pattern does not have is text, as in Kafka.
func readReplacement(text string, groups int) (parts []part, err error) {
	var literal strings.Builder
	end := func() {
		if literal.Len() > 0 {
			parts = append(parts, part{text: literal.String()})
			literal.Reset()
		}
	}
	digit := func(i int) bool { return i < len(text) && text[i] >= '0' && text[i] <= '9' }
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			i++
			literal.WriteByte(text[i])
		case text[i] != '$':
			literal.WriteByte(text[i])
		case !digit(i + 1):
			return nil, fmt.Errorf("in the replacement %q of a rule a $ is not followed by the number of a group: write \\$", text)
		case int(text[i+1]-'0') > groups || text[i+1] == '0':
			literal.WriteByte('$')
		default:
			i++
			n := int(text[i] - '0')
			for digit(i+1) && 10*n+int(text[i+1]-'0') <= groups {
				i++
				n = 10*n + int(text[i]-'0')
			}
			end()
			parts = append(parts, part{group: n})
		}
	}
	end()
	return parts, nil
}

// apply returns what a rule makes of a name.
func (r rule) apply(name string) (string, bool) {
	if r.pattern == nil {
		return name, true
	}
	if !r.pattern.MatchString(name) {
		return "", false
	}
	var b strings.Builder
	at := 0
	for _, m := range r.within.FindAllStringSubmatchIndex(name, -1) {
		b.WriteString(name[at:m[0]])
		for _, p := range r.replacement {
			b.WriteString(p.text)
			if from := m[2*p.group]; p.group > 0 && from >= 0 {
				b.WriteString(name[from:m[2*p.group+1]])
			}
		}
		at = m[1]
	}
	b.WriteString(name[at:])
	if r.change != nil {
		return r.change(b.String()), true
	}
	return b.String(), true
}

// User returns the user of a certificate that TLS has verified: what the first rule that matches makes of its subject. The
// error is ErrWrong if none does.
func (c *Certificates) User(cert *x509.Certificate) (string, error) {
	name, err := distinguishedName(cert.RawSubject)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrWrong, err)
	}
	for _, r := range c.rules {
		if user, ok := r.apply(name); ok {
			if user == "" {
				break
			}
			return user, nil
		}
	}
	return "", ErrWrong
}

// attribute is a type and a value of a name.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// attributesSET has the name by which encoding/asn1 knows a set.
type attributesSET []attribute

// attributeNames are those that Java writes in the form of RFC 2253; it writes others as numbers.
var attributeNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.9": "STREET",
	"0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
}

// distinguishedName writes a subject as Java's X500Principal.getName does, which Kafka's principals are.
func distinguishedName(subject []byte) (string, error) {
	var sets []attributesSET
	if rest, err := asn1.Unmarshal(subject, &sets); err != nil || len(rest) > 0 {
		return "", errors.New("the subject of the certificate is not a name")
	}
	if len(sets) == 0 {
		return "", errors.New("the certificate has no subject")
	}
	written := make([]string, 0, len(sets))
	for _, set := range slices.Backward(sets) {
		attributes := make([]string, 0, len(set))
		for _, a := range set {
			oid := a.Type.String()
			name, known := attributeNames[oid]
			value, isText := text(a.Value)
			if !known || !isText {
				name, value = oid, "#"+hex.EncodeToString(a.Value.FullBytes)
				if known {
					name = attributeNames[oid]
				}
			} else {
				value = escaped(value)
			}
			attributes = append(attributes, name+"="+value)
		}
		written = append(written, strings.Join(attributes, "+"))
	}
	return strings.Join(written, ","), nil
}

// text returns a value that is a string.
func text(v asn1.RawValue) (string, bool) {
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString:
		var s string
		_, err := asn1.Unmarshal(v.FullBytes, &s)
		return s, err == nil
	case asn1.TagBMPString:
		if len(v.Bytes)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(v.Bytes)/2)
		for i := range units {
			units[i] = uint16(v.Bytes[2*i])<<8 | uint16(v.Bytes[2*i+1])
		}
		return string(utf16.Decode(units)), true
	}
	return "", false
}

func escaped(value string) string {
	var b strings.Builder
	lead, trail := len(value)-len(strings.TrimLeft(value, " ")), len(strings.TrimRight(value, " "))
	for i, r := range value {
		if strings.ContainsRune(`,=+<>#;"\`, r) || r == ' ' && (i < lead || i >= trail) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
