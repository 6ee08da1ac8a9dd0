package clientconfig

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // keystores of old tools are encrypted with it
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // the same
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
	"unicode/utf16"
)

// maxIterations bounds the work of deriving a key from a password, so that no
// key in a connector's configuration can occupy a worker. OpenSSL and keytool use 2,048 to 10,000; the
// strictest advice is below 1,500,000.
const maxIterations = 2_000_000

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
)

// hashes are those of PBKDF2 (hmacWith…), and by themselves of a PKCS12 store's MAC.
var hashes = map[string]func() hash.Hash{
	"1.2.840.113549.2.7": sha1.New, "1.2.840.113549.2.9": sha256.New, "1.2.840.113549.2.10": sha512.New384, "1.2.840.113549.2.11": sha512.New,
	"1.3.14.3.2.26": sha1.New, "2.16.840.1.101.3.4.2.1": sha256.New, "2.16.840.1.101.3.4.2.2": sha512.New384, "2.16.840.1.101.3.4.2.3": sha512.New,
}

// ciphers are those of PBES2, all in CBC mode, with the length of their key.
var ciphers = map[string]struct {
	key int
	new func([]byte) (cipher.Block, error)
}{
	"2.16.840.1.101.3.4.1.2": {16, aes.NewCipher}, "2.16.840.1.101.3.4.1.22": {24, aes.NewCipher}, "2.16.840.1.101.3.4.1.42": {32, aes.NewCipher},
	"1.2.840.113549.3.7": {24, des.NewTripleDESCipher},
}

// pkcs12Ciphers are those of PKCS12's own schemes (RFC 7292, C), all with SHA-1: pbeWithSHAAnd…
var pkcs12Ciphers = map[string]struct {
	key int
	new func([]byte) (cipher.Block, error)
}{
	"1.2.840.113549.1.12.1.3": {24, des.NewTripleDESCipher}, "1.2.840.113549.1.12.1.5": {16, newRC2}, "1.2.840.113549.1.12.1.6": {5, newRC2},
}

// errPBEPassword says that what came out has no sense.
var errPBEPassword = errors.New("wrong password")

// decryptPBE opens what is encrypted with a password: by PBES2 with PBKDF2, or in PKCS12's own ways.
func decryptPBE(algorithm pkix.AlgorithmIdentifier, data []byte, pass string) ([]byte, error) {
	if algorithm.Algorithm.Equal(oidPBES2) {
		return decryptPBES2(algorithm.Parameters.FullBytes, data, pass)
	}
	if own, ok := pkcs12Ciphers[algorithm.Algorithm.String()]; ok {
		var params pkcs12Params
		if _, err := asn1.Unmarshal(algorithm.Parameters.FullBytes, &params); err != nil {
			return nil, errKeyFormat
		}
		if err := bounded(params.Iterations); err != nil {
			return nil, err
		}
		key := pkcs12KDF(sha1.New, params.Salt, pass, params.Iterations, 1, own.key)
		iv := pkcs12KDF(sha1.New, params.Salt, pass, params.Iterations, 2, 8)
		return decryptCBC(own.new, key, iv, data)
	}
	return nil, fmt.Errorf("not supported yet: encryption %s; openssl pkcs8 -topk8 -v2 aes256 makes a key that is (PBES2)", algorithm.Algorithm)
}

// pkcs12Params are those of PKCS12's own schemes.
type pkcs12Params struct {
	Salt       []byte
	Iterations int
}

func bounded(iterations int) error {
	if iterations < 1 || iterations > maxIterations {
		return fmt.Errorf("its encryption needs %d iterations; at most %d are allowed", iterations, maxIterations)
	}
	return nil
}

func decryptPBES2(parameters, data []byte, pass string) ([]byte, error) {
	var params struct{ Derivation, Cipher pkix.AlgorithmIdentifier }
	if _, err := asn1.Unmarshal(parameters, &params); err != nil {
		return nil, errKeyFormat
	}
	if !params.Derivation.Algorithm.Equal(oidPBKDF2) {
		return nil, errors.New("not supported yet: encryption that derives its key otherwise than by PBKDF2")
	}
	var derivation struct {
		Salt       []byte
		Iterations int
		Length     int                      `asn1:"optional"`
		Prf        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	if _, err := asn1.Unmarshal(params.Derivation.Parameters.FullBytes, &derivation); err != nil {
		return nil, errKeyFormat
	}
	if err := bounded(derivation.Iterations); err != nil {
		return nil, err
	}
	prf := hashes["1.2.840.113549.2.7"] // RFC 8018's default
	if len(derivation.Prf.Algorithm) > 0 {
		prf = hashes[derivation.Prf.Algorithm.String()]
	}
	block := ciphers[params.Cipher.Algorithm.String()]
	if prf == nil || block.new == nil {
		return nil, fmt.Errorf("not supported yet: encryption %s with %s", params.Cipher.Algorithm, derivation.Prf.Algorithm)
	}
	var iv []byte
	if _, err := asn1.Unmarshal(params.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, errKeyFormat
	}
	key, err := pbkdf2.Key(prf, pass, derivation.Salt, derivation.Iterations, block.key)
	if err != nil {
		return nil, errKeyFormat
	}
	return decryptCBC(block.new, key, iv, data)
}

func decryptCBC(newBlock func([]byte) (cipher.Block, error), key, iv, data []byte) ([]byte, error) {
	block, err := newBlock(key)
	if err != nil || len(iv) != block.BlockSize() || len(data) == 0 || len(data)%block.BlockSize() != 0 {
		return nil, errKeyFormat
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > block.BlockSize() || !bytes.Equal(plain[len(plain)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, errPBEPassword
	}
	return plain[:len(plain)-pad], nil
}

// pkcs12KDF derives size bytes for purpose id: 1 a key, 2 an initial vector, 3 a MAC's key (RFC 7292, B.2).
func pkcs12KDF(newHash func() hash.Hash, salt []byte, pass string, iterations int, id byte, size int) []byte {
	h := newHash()
	u, v := h.Size(), h.BlockSize()
	fill := func(b []byte) []byte {
		if len(b) == 0 {
			return nil
		}
		full := make([]byte, (len(b)+v-1)/v*v)
		for i := range full {
			full[i] = b[i%len(b)]
		}
		return full
	}
	var password []byte
	for _, c := range append(utf16.Encode([]rune(pass)), 0) {
		password = append(password, byte(c>>8), byte(c))
	}
	in := append(fill(salt), fill(password)...)
	var out []byte
	for len(out) < size {
		h.Reset()
		h.Write(bytes.Repeat([]byte{id}, v))
		h.Write(in)
		a := h.Sum(nil)
		for range iterations - 1 {
			h.Reset()
			h.Write(a)
			a = h.Sum(a[:0])
		}
		out = append(out, a...)
		// The next block of output comes of each v bytes of in, plus a repeated to v bytes, plus one.
		for at := 0; at < len(in); at += v {
			carry := 1
			for i := v - 1; i >= 0; i-- {
				carry += int(in[at+i]) + int(a[i%u])
				in[at+i] = byte(carry)
				carry >>= 8
			}
		}
	}
	return out[:size]
}
