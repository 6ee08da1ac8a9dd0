package clientconfig

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
)

// pkcs12File is what a PKCS12 file holds (RFC 7292), as Java's PKCS12KeyStore reads it.
type pkcs12File struct {
	keys  []pkcs12Key
	certs []pkcs12Cert
}

type pkcs12Key struct {
	sealed []byte // an EncryptedPrivateKeyInfo
	id     []byte // localKeyId
}

type pkcs12Cert struct {
	*x509.Certificate
	id      []byte // localKeyId of the key that it is for
	trusted bool   // Java's mark
}

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncryptedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidKeyBag        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidCertBag       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	oidX509          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 22, 1}
	oidLocalKeyID    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 21}
	oidTrusted       = asn1.ObjectIdentifier{2, 16, 840, 1, 113894, 746875, 1, 1}
)

// Bounds of a store: Java's own authorities are 150. Each content and each key may take maxIterations.
const (
	maxBags     = 10_000
	maxContents = 16
	maxKeys     = 32
)

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
}

// readPKCS12 opens a store and checks its MAC, if it has one.
func readPKCS12(data []byte, pass string) (pkcs12File, error) {
	var file pkcs12File
	var outer struct {
		Version int
		Safe    contentInfo
		Mac     struct {
			Digest struct {
				Algorithm pkix.AlgorithmIdentifier
				Value     []byte
			}
			Salt       []byte
			Iterations int `asn1:"optional,default:1"`
		} `asn1:"optional"`
	}
	rest, err := asn1.Unmarshal(data, &outer)
	if err != nil || len(rest) > 0 || outer.Version != 3 || !outer.Safe.Type.Equal(oidData) {
		return file, errStoreDamaged
	}
	var safe []byte
	if _, err := asn1.Unmarshal(outer.Safe.Content.Bytes, &safe); err != nil {
		return file, errStoreDamaged
	}
	if mac := outer.Mac; len(mac.Digest.Algorithm.Algorithm) > 0 {
		newHash := hashes[mac.Digest.Algorithm.Algorithm.String()]
		if newHash == nil {
			return file, errors.New("not supported yet: a store whose integrity is checked with " + mac.Digest.Algorithm.Algorithm.String())
		}
		if err := bounded(mac.Iterations); err != nil {
			return file, err
		}
		h := hmac.New(newHash, pkcs12KDF(newHash, mac.Salt, pass, mac.Iterations, 3, newHash().Size()))
		h.Write(safe)
		if !hmac.Equal(h.Sum(nil), mac.Digest.Value) {
			return file, errStorePassword
		}
	}
	var contents []contentInfo
	if rest, err := asn1.Unmarshal(safe, &contents); err != nil || len(rest) > 0 || len(contents) > maxContents {
		return file, errStoreDamaged
	}
	for _, content := range contents {
		bags, err := content.open(pass)
		if err != nil {
			return file, err
		}
		if err := file.add(bags); err != nil {
			return file, err
		}
	}
	return file, nil
}

// open returns the bags of a content, decrypted.
func (c contentInfo) open(pass string) ([]byte, error) {
	switch {
	case c.Type.Equal(oidData):
		var plain []byte
		if _, err := asn1.Unmarshal(c.Content.Bytes, &plain); err != nil {
			return nil, errStoreDamaged
		}
		return plain, nil
	case !c.Type.Equal(oidEncryptedData):
		return nil, errors.New("not supported yet: a PKCS12 store whose content is encrypted with a public key")
	}
	var sealed struct {
		Version int
		Info    struct {
			Type      asn1.ObjectIdentifier
			Algorithm pkix.AlgorithmIdentifier
			Data      []byte `asn1:"tag:0,optional"`
		}
	}
	if _, err := asn1.Unmarshal(c.Content.Bytes, &sealed); err != nil {
		return nil, errStoreDamaged
	}
	plain, err := decryptPBE(sealed.Info.Algorithm, sealed.Info.Data, pass)
	switch {
	case errors.Is(err, errPBEPassword):
		return nil, errStorePassword
	case errors.Is(err, errKeyFormat):
		return nil, errStoreDamaged
	}
	return plain, err
}

// add takes keys and certificates out of bags; Java skips other kinds as well.
func (f *pkcs12File) add(bags []byte) error {
	var all []struct {
		Type       asn1.ObjectIdentifier
		Value      asn1.RawValue `asn1:"tag:0,explicit"`
		Attributes []struct {
			Type  asn1.ObjectIdentifier
			Value asn1.RawValue `asn1:"set"`
		} `asn1:"set,optional"`
	}
	if rest, err := asn1.Unmarshal(bags, &all); err != nil || len(rest) > 0 || len(all)+len(f.keys)+len(f.certs) > maxBags {
		return errStoreDamaged
	}
	for _, bag := range all {
		var id []byte
		trusted := false
		for _, a := range bag.Attributes {
			switch {
			case a.Type.Equal(oidLocalKeyID):
				_, _ = asn1.Unmarshal(a.Value.Bytes, &id) // one that is none belongs to no key
			case a.Type.Equal(oidTrusted):
				trusted = true
			}
		}
		switch {
		case bag.Type.Equal(oidKeyBag):
			f.keys = append(f.keys, pkcs12Key{bag.Value.Bytes, id})
		case bag.Type.Equal(oidCertBag):
			var held struct {
				Type asn1.ObjectIdentifier
				Data []byte `asn1:"tag:0,explicit"`
			}
			if _, err := asn1.Unmarshal(bag.Value.Bytes, &held); err != nil || !held.Type.Equal(oidX509) {
				return errStoreDamaged
			}
			cert, err := x509.ParseCertificate(held.Data)
			if err != nil {
				return errors.New("a certificate in it is damaged")
			}
			f.certs = append(f.certs, pkcs12Cert{cert, id, trusted})
		}
	}
	return nil
}

// pairs are the keys with their chains.
func (f pkcs12File) pairs(keyPass string) ([]pair, error) {
	var pairs []pair
	if len(f.keys) > maxKeys {
		return nil, fmt.Errorf("it holds %d private keys; at most %d are allowed", len(f.keys), maxKeys)
	}
	for _, k := range f.keys {
		key, err := decryptPKCS8(k.sealed, keyPass)
		if err != nil {
			return nil, err
		}
		if chain := f.chain(k, key); len(chain) > 0 {
			pairs = append(pairs, pair{key: key, chain: chain})
		}
	}
	return pairs, nil
}

// chain are the certificates of a key, its own first: the one with its id, else one with its public key.
func (f pkcs12File) chain(k pkcs12Key, key crypto.PrivateKey) []*x509.Certificate {
	first := slices.IndexFunc(f.certs, func(c pkcs12Cert) bool { return len(k.id) > 0 && bytes.Equal(c.id, k.id) })
	if first < 0 && key != nil {
		first = slices.IndexFunc(f.certs, func(c pkcs12Cert) bool { return pair{key, []*x509.Certificate{c.Certificate}}.check() == nil })
	}
	if first < 0 {
		return nil
	}
	chain := []*x509.Certificate{f.certs[first].Certificate}
	for len(chain) < len(f.certs) {
		top := chain[len(chain)-1]
		next := slices.IndexFunc(f.certs, func(c pkcs12Cert) bool {
			return !slices.ContainsFunc(chain, c.Equal) && bytes.Equal(c.RawSubject, top.RawIssuer)
		})
		if next < 0 || bytes.Equal(top.RawSubject, top.RawIssuer) {
			break
		}
		chain = append(chain, f.certs[next].Certificate)
	}
	return chain
}

// trusted are the certificates with Java's mark, and as in TrustStoreUtil the own ones of keys.
func (f pkcs12File) trusted() []*x509.Certificate {
	var certs []*x509.Certificate
	for _, c := range f.certs {
		if c.trusted {
			certs = append(certs, c.Certificate)
		}
	}
	for _, k := range f.keys {
		if chain := f.chain(k, nil); len(chain) > 0 {
			certs = append(certs, chain[0])
		}
	}
	return certs
}
