package clientconfig

import (
	"crypto"
	"crypto/sha1" //nolint:gosec // JKS is built on it; see sun.security.provider.JavaKeyStore
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"unicode/utf16"
)

// jksKey is a private key entry, still encrypted.
type jksKey struct {
	sealed []byte
	chain  []*x509.Certificate
}

// jks is what a JKS file holds.
type jks struct {
	keys    []jksKey
	trusted []*x509.Certificate
}

// readJKS reads Java's own keystore format. It is read here and not by a library because Java takes a
// truststore without a password (certificates are not encrypted; only the check of the whole is left out), takes
// passwords beyond ASCII, and because no length in a damaged file may make us allocate it.
func readJKS(data []byte, pass string, hasPass bool) (jks, error) {
	const digestBytes = sha1.Size
	if len(data) < 12+digestBytes {
		return jks{}, errStoreDamaged
	}
	body, digest := data[:len(data)-digestBytes], data[len(data)-digestBytes:]
	if hasPass {
		h := sha1.New() //nolint:gosec // the format's own
		h.Write(utf16Bytes(pass))
		h.Write([]byte("Mighty Aphrodite"))
		h.Write(body)
		if subtle.ConstantTimeCompare(h.Sum(nil), digest) != 1 {
			return jks{}, errStorePassword
		}
	}
	c := &cursor{rest: body[4:]} // the magic was seen by sniff
	version := c.uint32()
	if version != 1 && version != 2 {
		return jks{}, errStoreDamaged
	}
	var store jks
	for range c.uint32() {
		tag := c.uint32()
		c.bytes(int(c.uint16())) // alias
		c.bytes(8)               // date
		switch tag {
		case 1:
			key := jksKey{sealed: c.bytes(int(c.uint32()))}
			for range c.uint32() {
				key.chain = append(key.chain, c.certificate(version))
				if c.failed {
					break
				}
			}
			store.keys = append(store.keys, key)
		case 2:
			store.trusted = append(store.trusted, c.certificate(version))
		default:
			c.failed = true
		}
		if c.failed {
			return jks{}, errStoreDamaged
		}
	}
	return store, nil
}

// jksTrusted returns the certificates that Java trusts in a JKS truststore.
func jksTrusted(data []byte, pass string, hasPass bool) ([]*x509.Certificate, error) {
	store, err := readJKS(data, pass, hasPass)
	if err != nil {
		return nil, err
	}
	trusted := store.trusted
	for _, k := range store.keys {
		if len(k.chain) > 0 {
			trusted = append(trusted, k.chain[0])
		}
	}
	return trusted, nil
}

// jksPairs returns the key pairs of a JKS keystore. Like Java it wants one
// password to open all keys.
func jksPairs(data []byte, pass, keyPass string) ([]pair, error) {
	store, err := readJKS(data, pass, true)
	if err != nil {
		return nil, err
	}
	pairs := make([]pair, len(store.keys))
	for i, k := range store.keys {
		key, err := k.open(keyPass)
		if err != nil {
			return nil, err
		}
		pairs[i] = pair{key: key, chain: k.chain}
	}
	return pairs, nil
}

// sunKeyProtector is the OID of JKS's own cipher for keys.
var sunKeyProtector = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 42, 2, 17, 1, 1}

// open decrypts a key as sun.security.provider.KeyProtector does: salt, key
// XORed with a chain of SHA-1 over password and previous digest, SHA-1 over password and key.
func (k jksKey) open(pass string) (crypto.PrivateKey, error) {
	var sealed struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	if rest, err := asn1.Unmarshal(k.sealed, &sealed); err != nil || len(rest) > 0 ||
		!sealed.Algorithm.Algorithm.Equal(sunKeyProtector) || len(sealed.Data) < 2*sha1.Size {
		return nil, errKeyFormat
	}
	secret := utf16Bytes(pass)
	data := sealed.Data
	block, check := data[:sha1.Size], data[len(data)-sha1.Size:]
	plain := append([]byte{}, data[sha1.Size:len(data)-sha1.Size]...)
	for at := 0; at < len(plain); at += sha1.Size {
		sum := sha1.Sum(append(append([]byte{}, secret...), block...)) //nolint:gosec // the format's own
		block = sum[:]
		subtle.XORBytes(plain[at:], plain[at:], block)
	}
	sum := sha1.Sum(append(append([]byte{}, secret...), plain...)) //nolint:gosec // the format's own
	if subtle.ConstantTimeCompare(sum[:], check) != 1 {
		return nil, errKeyPassword
	}
	key, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return nil, errKeyFormat
	}
	return key, nil
}

// utf16Bytes is a password as Java's stores hash it: UTF-16, big endian.
func utf16Bytes(s string) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		b = binary.BigEndian.AppendUint16(b, unit)
	}
	return b
}

// cursor reads big-endian fields and remembers if one was cut off.
type cursor struct {
	rest   []byte
	failed bool
}

func (c *cursor) bytes(n int) []byte {
	if n < 0 || n > len(c.rest) {
		c.failed, c.rest = true, nil
		return nil
	}
	b := c.rest[:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) uint16() uint16 {
	if b := c.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// certificate reads one certificate; from version 2 on its type stands before it.
func (c *cursor) certificate(version uint32) *x509.Certificate {
	if version == 2 {
		c.bytes(int(c.uint16()))
	}
	cert, err := x509.ParseCertificate(c.bytes(int(c.uint32())))
	if err != nil {
		c.failed = true
	}
	return cert
}
