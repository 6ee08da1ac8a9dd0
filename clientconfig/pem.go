package clientconfig

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/youmark/pkcs8"
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
	entries, err := pemEntries(key)
	if err != nil {
		return pair{}, err
	}
	var found []entry
	for _, e := range entries {
		if strings.HasSuffix(e.label, "PRIVATE KEY") {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 0:
		return pair{}, errors.New("Private key not provided")
	case 1:
	default:
		return pair{}, fmt.Errorf("Expected one private key, but found %d", len(found))
	}
	private, err := found[0].privateKey(keyPass)
	if err != nil {
		return pair{}, err
	}
	return pair{key: private, chain: certs}, nil
}

// privateKey reads a private key: PKCS8, encrypted or not, and beyond Kafka the
// older forms of RSA and EC keys.
func (e entry) privateKey(pass string) (crypto.PrivateKey, error) {
	if strings.Contains(e.headers, "ENCRYPTED") {
		return nil, errors.New("not supported yet: a private key encrypted in the old way of OpenSSL; openssl pkcs8 -topk8 turns it into PKCS8")
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

// maxIterations bounds the work of deriving a key from a password, so that no
// key in a connector's configuration can occupy a worker. OpenSSL and keytool use 2,048 to 10,000; the
// strictest advice is below 1,500,000.
const maxIterations = 2_000_000

// decryptPKCS8 opens an encrypted PKCS8 key (PBES2).
func decryptPKCS8(der []byte, pass string) (key crypto.PrivateKey, err error) {
	defer damagedOnPanic(&err)
	if err := checkPBES2(der); err != nil {
		return nil, err
	}
	key, _, err = pkcs8.ParsePrivateKey(der, []byte(pass))
	if err != nil {
		if strings.Contains(err.Error(), "incorrect password") {
			return nil, errKeyPassword
		}
		return nil, errKeyFormat
	}
	return key, nil
}

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
)

// checkPBES2 looks at the scheme of an encrypted key before any work is done.
func checkPBES2(der []byte) error {
	var sealed struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	if _, err := asn1.Unmarshal(der, &sealed); err != nil {
		return errKeyFormat
	}
	if !sealed.Algorithm.Algorithm.Equal(oidPBES2) {
		return errors.New("not supported yet: the private key's encryption; openssl pkcs8 -topk8 -v2 aes256 makes one that is (PBES2)")
	}
	var params struct{ Derivation, Cipher pkix.AlgorithmIdentifier }
	if _, err := asn1.Unmarshal(sealed.Algorithm.Parameters.FullBytes, &params); err != nil {
		return errKeyFormat
	}
	if !params.Derivation.Algorithm.Equal(oidPBKDF2) {
		return errors.New("not supported yet: the private key's encryption derives its key otherwise than by PBKDF2")
	}
	var pbkdf2 struct {
		Salt       []byte
		Iterations int
		Rest       asn1.RawValue `asn1:"optional"`
		Prf        asn1.RawValue `asn1:"optional"`
	}
	if _, err := asn1.Unmarshal(params.Derivation.Parameters.FullBytes, &pbkdf2); err != nil {
		return errKeyFormat
	}
	if pbkdf2.Iterations < 1 || pbkdf2.Iterations > maxIterations {
		return fmt.Errorf("the private key's encryption needs %d iterations; at most %d are allowed", pbkdf2.Iterations, maxIterations)
	}
	return nil
}
