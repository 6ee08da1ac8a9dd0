package clientconfig

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// maxStoreBytes bounds a keystore or PEM file. Java's own list of authorities
// has 200 KB.
const maxStoreBytes = 16 << 20

// storeType is the format of a keystore.
type storeType string

const (
	jksStore    storeType = "JKS"
	pkcs12Store storeType = "PKCS12"
	pemStore    storeType = "PEM"
	jceksStore  storeType = "JCEKS"
)

// sniff tells the format of a store by its first bytes, or "". Java reads JKS and PKCS12 under
// either name (keystore.type.compat), and files with the wrong name are common.
func sniff(data []byte) storeType {
	switch {
	case bytes.HasPrefix(data, []byte{0xFE, 0xED, 0xFE, 0xED}):
		return jksStore
	case bytes.HasPrefix(data, []byte{0xCE, 0xCE, 0xCE, 0xCE}):
		return jceksStore
	case len(data) > 1 && data[0] == 0x30 && data[1] >= 0x80:
		return pkcs12Store
	case bytes.Contains(data, []byte("-----BEGIN ")):
		return pemStore
	}
	return ""
}

// pair is a private key with its certificates, the key's own first.
type pair struct {
	key   crypto.PrivateKey
	chain []*x509.Certificate
}

// Reasons why a store cannot be read. They hold nothing of it.
var (
	errStorePassword = errors.New("the password is wrong, or the file is damaged")
	errStoreDamaged  = errors.New("the file is damaged or cut off")
	errKeyPassword   = errors.New("the password of the private key is wrong")
	errKeyFormat     = errors.New("the private key is damaged, or of a kind that is not supported")
	errNoCertificate = errors.New("there is no certificate in it")
	errNotPair       = errors.New("the private key does not belong to the first certificate")
)

// loadFile reads the file that key names, for errors that show the path as it
// was written.
func (r *reader) loadFile(key string) ([]byte, bool) {
	if !r.allowedPath(key, r.text(key, ""), r.written(key)) {
		return nil, false
	}
	data, err := readStore(r.text(key, ""))
	if err != nil {
		r.fail(key, "read %s: %v", r.written(key), err)
		return nil, false
	}
	r.stores = append(r.stores, sha256.Sum256(data))
	return data, true
}

// readStore reads a regular file of at most maxStoreBytes. Its errors do not
// hold the path.
func readStore(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxStoreBytes+1))
	if err != nil {
		return nil, withoutPath(err)
	}
	if len(data) > maxStoreBytes {
		return nil, fmt.Errorf("it has more than %d bytes", maxStoreBytes)
	}
	return data, nil
}

func withoutPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// password returns the value of a password key, and whether it is set. An empty
// one counts as not set.
func (r *reader) password(key string) (string, bool) {
	v := r.text(key, "")
	return v, v != ""
}

// storeType reads ssl.keystore.type or ssl.truststore.type.
func (r *reader) storeType(key string) (storeType, bool) {
	t := storeType(strings.ToUpper(r.text(key, "JKS")))
	switch t {
	case jksStore, pkcs12Store, pemStore:
		return t, true
	}
	r.fail(key, "not supported yet: a store of type %s; use JKS, PKCS12 or PEM", r.written(key))
	return "", false
}

// truststore reads ssl.truststore.*. It follows DefaultSslEngineFactory.createTruststore. Without a
// truststore the system's is used.
func (r *reader) truststore() *x509.CertPool {
	const prefix = "ssl.truststore."
	typ, ok := r.storeType(prefix + "type")
	inline, hasInline := r.password(prefix + "certificates")
	path := r.text(prefix+"location", "")
	pass, hasPass := r.password(prefix + "password")
	switch {
	case !ok:
		return nil
	case hasInline && typ != pemStore:
		r.fail(prefix+"certificates", "SSL trust store certs can be specified only for PEM, but trust store type is %s.", typ)
	case hasInline && path != "":
		r.fail(prefix+"location", "Both SSL trust store location and separate trust certificates are specified.")
	case hasPass && typ == pemStore:
		r.fail(prefix+"password", "SSL trust store password cannot be specified for PEM format.")
	case hasPass && path == "":
		r.fail(prefix+"password", "SSL trust store is not specified, but trust store password is specified.")
	case hasInline:
		return r.pool(prefix+"certificates", []byte(inline), pemStore, "", false)
	case path != "":
		data, ok := r.loadFile(prefix + "location")
		if !ok {
			return nil
		}
		return r.pool(prefix+"location", data, typ, pass, hasPass)
	}
	return nil
}

// pool returns the certificates that a truststore trusts.
func (r *reader) pool(key string, data []byte, typ storeType, pass string, hasPass bool) *x509.CertPool {
	trusted, err := openTruststore(data, typ, pass, hasPass)
	if err != nil {
		r.fail(key, "truststore: %v", err)
		return nil
	}
	pool := x509.NewCertPool()
	for _, c := range trusted {
		pool.AddCert(c)
	}
	return pool
}

// openTruststore returns the certificates that a truststore of any format
// trusts: the trusted entries, and like Java the own certificates of its keys.
func openTruststore(data []byte, typ storeType, pass string, hasPass bool) ([]*x509.Certificate, error) {
	real, err := realType(data, typ)
	if err != nil {
		return nil, err
	}
	var trusted []*x509.Certificate
	switch real {
	case pemStore:
		trusted, err = pemCertificates(string(data))
	case jksStore:
		trusted, err = jksTrusted(data, pass, hasPass)
	default:
		trusted, err = pkcs12Trusted(data, pass)
	}
	if err == nil && len(trusted) == 0 {
		err = errNoCertificate
	}
	return trusted, err
}

// realType returns the format of a store: JKS and PKCS12 stand for each other,
// PEM does not (as in Java).
func realType(data []byte, typ storeType) (storeType, error) {
	real := sniff(data)
	switch {
	case real == "":
		return "", errors.New("it is neither JKS, PKCS12 nor PEM")
	case real == jceksStore:
		return "", errors.New("not supported yet: JCEKS; keytool -importkeystore turns it into PKCS12")
	case real == pemStore && typ != pemStore:
		return "", fmt.Errorf("it is PEM, but the type is set to %s", typ)
	case real != pemStore && typ == pemStore:
		return "", fmt.Errorf("it is %s, but the type is set to PEM", real)
	}
	return real, nil
}

// keystore reads ssl.keystore.* and ssl.key.password. It follows
// DefaultSslEngineFactory.createKeystore.
func (r *reader) keystore() []tls.Certificate {
	const prefix = "ssl.keystore."
	typ, ok := r.storeType(prefix + "type")
	key, hasKey := r.password(prefix + "key")
	chain, hasChain := r.password(prefix + "certificate.chain")
	path := r.text(prefix+"location", "")
	pass, hasPass := r.password(prefix + "password")
	keyPass, hasKeyPass := r.password("ssl.key.password")
	switch {
	case !ok:
	case hasKey && typ != pemStore:
		r.fail(prefix+"key", "SSL private key can be specified only for PEM, but key store type is %s.", typ)
	case hasKey && !hasChain:
		r.fail(prefix+"key", "SSL private key is specified, but certificate chain is not specified.")
	case hasKey && path != "":
		r.fail(prefix+"location", "Both SSL key store location and separate private key are specified.")
	case hasChain && !hasKey:
		r.fail(prefix+"certificate.chain", "SSL certificate chain is specified, but private key is not specified")
	case hasPass && typ == pemStore:
		r.fail(prefix+"password", "SSL key store password cannot be specified with PEM format, only key password may be specified.")
	case hasPass && path == "":
		r.fail(prefix+"password", "SSL key store is not specified, but key store password is specified.")
	case hasKey:
		p, err := pemPair(key, chain, keyPass)
		return r.certificates(prefix+"key", []pair{p}, err)
	case path != "":
		data, ok := r.loadFile(prefix + "location")
		if !ok {
			return nil
		}
		if typ != pemStore && !hasPass {
			r.fail(prefix+"location", "SSL key store is specified, but key store password is not specified.")
			return nil
		}
		if !hasKeyPass && typ != pemStore {
			keyPass = pass
		}
		pairs, err := openKeystore(data, typ, pass, keyPass)
		return r.certificates(prefix+"location", pairs, err)
	}
	return nil
}

// certificates turns key pairs into what crypto/tls takes.
func (r *reader) certificates(key string, pairs []pair, err error) []tls.Certificate {
	for _, p := range pairs {
		if err == nil {
			err = p.check()
		}
	}
	if err == nil && len(pairs) == 0 {
		err = errors.New("there is no private key in it")
	}
	if err != nil {
		r.fail(key, "keystore: %v", err)
		return nil
	}
	certs := make([]tls.Certificate, len(pairs))
	for i, p := range pairs {
		certs[i] = tls.Certificate{PrivateKey: p.key, Leaf: p.chain[0]}
		for _, c := range p.chain {
			certs[i].Certificate = append(certs[i].Certificate, c.Raw)
		}
	}
	return certs
}

// check makes sure that the key and the first certificate belong together, which
// the broker would otherwise find out in a handshake that says little.
func (p pair) check() error {
	if len(p.chain) == 0 {
		return errNoCertificate
	}
	signer, ok := p.key.(crypto.Signer)
	if !ok {
		return errKeyFormat
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(p.chain[0].PublicKey) {
		return errNotPair
	}
	return nil
}

// openKeystore returns the key pairs of a keystore of any format.
func openKeystore(data []byte, typ storeType, pass, keyPass string) ([]pair, error) {
	real, err := realType(data, typ)
	if err != nil {
		return nil, err
	}
	switch real {
	case pemStore:
		p, err := pemPair(string(data), string(data), keyPass)
		return []pair{p}, err
	case jksStore:
		return jksPairs(data, pass, keyPass)
	}
	return pkcs12Pairs(data, pass, keyPass)
}

// pkcs12Pairs returns the keys of a PKCS12 store with their certificates, in the order from each key's own up.
func pkcs12Pairs(data []byte, pass, keyPass string) (pairs []pair, err error) {
	defer damagedOnPanic(&err)
	file, err := readPKCS12(data, pass)
	if err != nil {
		return nil, err
	}
	return file.pairs(keyPass)
}

// pkcs12Trusted returns what a PKCS12 store trusts.
func pkcs12Trusted(data []byte, pass string) (certs []*x509.Certificate, err error) {
	defer damagedOnPanic(&err)
	file, err := readPKCS12(data, pass)
	if err != nil {
		return nil, err
	}
	if len(file.trusted()) == 0 && len(file.certs) > 0 {
		return nil, errors.New("it holds certificates that are not marked as trusted, which Java skips; import them with keytool -importcert")
	}
	return file.trusted(), nil
}

// damagedOnPanic turns a panic of a decoder into an error: a store comes from
// outside, and no file may bring the worker down.
func damagedOnPanic(err *error) {
	if recover() != nil {
		*err = errStoreDamaged
	}
}
