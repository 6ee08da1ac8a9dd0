package registry

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"barnabas/config"
)

// keyBytes is the length of master keys and data keys: AES-256.
const keyBytes = 32

// sealed is an encrypted value: one data key for each, wrapped by the master key. Both are AES-256-GCM with the nonce in
// front, and bound to their place, so that what is moved to another key of the topic cannot be read.
type sealed struct {
	// Master names the master key that wraps the data key; it tells nothing about it.
	Master  string `json:"master"`
	Wrapped []byte `json:"wrapped"`
	Data    []byte `json:"data"`
}

// masterKey wraps data keys.
type masterKey struct {
	id    string
	value config.Secret
}

// masters are the keys that a worker has; the first wraps, all unwrap.
type masters []masterKey

// errMaster says that none of the worker's master keys can open a value.
var errMaster = errors.New("it is encrypted with a master key that this worker does not have")

// parseMasters reads 32 bytes in base64, or several such, separated by commas.
func parseMasters(settings ...config.Setting) (masters, error) {
	var all masters
	for _, s := range settings {
		for text := range strings.SplitSeq(s.Value.Reveal(), ",") {
			if text = strings.TrimSpace(text); text == "" {
				continue
			}
			key, err := base64.StdEncoding.DecodeString(text)
			if err != nil || len(key) != keyBytes {
				return nil, errors.New("expected 32 bytes in base64 (one way: head -c 32 /dev/urandom | base64), or several such, separated by commas")
			}
			h := hmac.New(sha256.New, key)
			h.Write([]byte("barnabas master key"))
			all = append(all, masterKey{hex.EncodeToString(h.Sum(nil)[:8]), config.NewSecret(string(key))})
		}
	}
	if len(all) == 0 {
		return nil, errors.New("it is missing: 32 bytes in base64, by reference")
	}
	return all, nil
}

// of returns the key with an id.
func (m masters) of(id string) (masterKey, error) {
	for _, k := range m {
		if k.id == id {
			return k, nil
		}
	}
	return masterKey{}, fmt.Errorf("%w (%s)", errMaster, id)
}

// seal encrypts value for a place.
func (m masters) seal(at place, value config.Secret) (sealed, error) {
	var key [keyBytes]byte
	_, _ = rand.Read(key[:]) // never fails
	data, err := encrypt(key[:], []byte(value.Reveal()), at.bind("data"))
	if err != nil {
		return sealed{}, err
	}
	wrapped, err := encrypt([]byte(m[0].value.Reveal()), key[:], at.bind("key"))
	return sealed{m[0].id, wrapped, data}, err
}

// open decrypts what seal made for a place.
func (m masters) open(at place, s sealed) (config.Secret, error) {
	key, err := m.unwrap(at, s)
	if err != nil {
		return config.Secret{}, err
	}
	value, err := decrypt([]byte(key.Reveal()), s.Data, at.bind("data"))
	return config.NewSecret(string(value)), err
}

func (m masters) unwrap(at place, s sealed) (config.Secret, error) {
	master, err := m.of(s.Master)
	if err != nil {
		return config.Secret{}, err
	}
	key, err := decrypt([]byte(master.value.Reveal()), s.Wrapped, at.bind("key"))
	return config.NewSecret(string(key)), err
}

// rewrap wraps the data key with the first master key; the value stays encrypted as it is.
func (m masters) rewrap(at place, s sealed) (sealed, error) {
	key, err := m.unwrap(at, s)
	if err != nil {
		return sealed{}, err
	}
	wrapped, err := encrypt([]byte(m[0].value.Reveal()), []byte(key.Reveal()), at.bind("key"))
	return sealed{m[0].id, wrapped, s.Data}, err
}

// bind is the authenticated place of a part of a value.
func (p place) bind(part string) []byte {
	b := []byte("barnabas-secret 1 " + part)
	for _, text := range []string{p.Path, p.Key} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(text))) //nolint:gosec // bounded by maxName
		b = append(b, text...)
	}
	return binary.BigEndian.AppendUint64(b, uint64(p.Version)) //nolint:gosec // positive
}

func encrypt(key, plain, bound []byte) ([]byte, error) {
	c, err := gcm(key)
	if err != nil {
		return nil, err
	}
	return c.Seal(nil, nil, plain, bound), nil // with a random nonce in front
}

func decrypt(key, text, bound []byte) ([]byte, error) {
	c, err := gcm(key)
	if err != nil {
		return nil, err
	}
	plain, err := c.Open(nil, nil, text, bound)
	if err != nil {
		return nil, errors.New("it is damaged, or does not belong here")
	}
	return plain, nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
