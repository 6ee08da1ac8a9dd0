package clientconfig

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// pemBlock finds the entries of a PEM text as Kafka's PemParser does. Unlike
// encoding/pem it needs no line breaks: a .properties file often has the whole on one line.
var pemBlock = regexp.MustCompile(`-+BEGIN\s+([^-\r\n]*?)\s*-+\s+((?:[^\r\n]*:[^\r\n]*[\r\n]+)*)([a-zA-Z0-9/+=\s]*)-+END\s+([^-\r\n]*?)\s*-+`)

// entry is one entry of a PEM text.
type entry struct {
	label   string
	headers string
	der     []byte
}

func pemEntries(text string) ([]entry, error) {
	var entries []entry
	for _, m := range pemBlock.FindAllStringSubmatch(text, -1) {
		if m[1] != m[4] {
			return nil, errStoreDamaged
		}
		der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(m[3]), ""))
		if err != nil {
			return nil, errStoreDamaged
		}
		entries = append(entries, entry{label: m[1], headers: m[2], der: der})
	}
	if strings.Count(text, "-BEGIN ") > len(entries) {
		return nil, errStoreDamaged
	}
	return entries, nil
}

// pemCertificates returns the certificates of a PEM text in their order.
func pemCertificates(text string) ([]*x509.Certificate, error) {
	entries, err := pemEntries(text)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for _, e := range entries {
		if !strings.HasSuffix(e.label, "CERTIFICATE") {
			continue
		}
		cert, err := x509.ParseCertificate(e.der)
		if err != nil {
			return nil, errors.New("a certificate in it is damaged")
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errNoCertificate
	}
	return certs, nil
}

// pemPair reads a private key and the certificates that go with it. Both texts
// may be the same file.
func pemPair(key, chain, keyPass string) (pair, error) {
	certs, err := pemCertificates(chain)
	if err != nil {
		return pair{}, err
	}
	private, err := pemKey(key, keyPass)
	if err != nil {
		return pair{}, err
	}
	return pair{key: private, chain: certs}, nil
}

// pemKey returns the only private key of a PEM text.
func pemKey(text, pass string) (crypto.PrivateKey, error) {
	entries, err := pemEntries(text)
	if err != nil {
		return nil, err
	}
	var found []entry
	for _, e := range entries {
		if strings.HasSuffix(e.label, "PRIVATE KEY") {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 0:
		return nil, errors.New("Private key not provided")
	case 1:
	default:
		return nil, fmt.Errorf("Expected one private key, but found %d", len(found))
	}
	return found[0].privateKey(pass)
}

// privateKey reads a private key: PKCS8, encrypted or not, and beyond Kafka the
// older forms of RSA and EC keys.
func (e entry) privateKey(pass string) (crypto.PrivateKey, error) {
	if strings.Contains(e.headers, "ENCRYPTED") {
		der, err := e.decryptOld(pass)
		if err != nil {
			return nil, err
		}
		e.der = der
	}
	var key crypto.PrivateKey
	var err error
	switch e.label {
	case "ENCRYPTED PRIVATE KEY":
		if pass == "" {
			return nil, errors.New("the private key is encrypted, and ssl.key.password is not set")
		}
		return decryptPKCS8(e.der, pass)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(e.der)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(e.der)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(e.der)
	default:
		return nil, errKeyFormat
	}
	if err != nil {
		return nil, errKeyFormat
	}
	return key, nil
}

// decryptPKCS8 opens an encrypted PKCS8 key.
func decryptPKCS8(der []byte, pass string) (crypto.PrivateKey, error) {
	var sealed struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	if _, err := asn1.Unmarshal(der, &sealed); err != nil {
		return nil, errKeyFormat
	}
	plain, err := decryptPBE(sealed.Algorithm, sealed.Data, pass)
	if errors.Is(err, errPBEPassword) {
		return nil, errKeyPassword
	}
	if err != nil {
		return nil, fmt.Errorf("the private key: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		// One wrong password in 256 gives something that looks like an end.
		return nil, errKeyPassword
	}
	return key, nil
}

// decryptOld opens what OpenSSL has encrypted in its own old way (Proc-Type and DEK-Info of RFC 1421), which Kafka
// does not take.
func (e entry) decryptOld(pass string) ([]byte, error) {
	if pass == "" {
		return nil, errors.New("the private key is encrypted, and ssl.key.password is not set")
	}
	block := &pem.Block{Type: e.label, Headers: map[string]string{}, Bytes: e.der}
	for line := range strings.Lines(e.headers) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			block.Headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	//lint:ignore SA1019 deprecated because it is weak, which whoever has such a key cannot help
	der, err := x509.DecryptPEMBlock(block, []byte(pass))
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, errKeyPassword
	}
	if err != nil {
		return nil, errKeyFormat
	}
	return der, nil
}
