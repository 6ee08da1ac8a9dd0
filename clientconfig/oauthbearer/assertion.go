package oauthbearer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"barnabas/config"
)

// Assertion makes or reads a JWT that proves who asks for a token (RFC 7523).
type Assertion func() (config.Secret, error)

// AssertionFile returns the assertion that others write to a file and replace there.
func AssertionFile(path string) Assertion {
	return func() (config.Secret, error) {
		text, err := readFile(path)
		if err != nil {
			return config.Secret{}, fmt.Errorf("read the assertion's file: %w", err)
		}
		jwt := config.NewSecret(strings.TrimSpace(text))
		if _, err := claimsOf(jwt); err != nil {
			return config.Secret{}, fmt.Errorf("the assertion's file: %w", err)
		}
		return jwt, nil
	}
}

// Signed describes an assertion that is made here (sasl.oauthbearer.assertion.*).
type Signed struct {
	// Algorithm is RS256 or ES256.
	Algorithm string
	// KeyFile holds the private key in PEM; ParseKey opens it.
	KeyFile  string
	ParseKey func(pem string) (crypto.PrivateKey, error)
	// Claims are fixed ones: aud, iss, sub.
	Claims map[string]any
	// TemplateFile, if not empty, is JSON with header and payload, which win over Claims.
	TemplateFile string
	// Expires and NotBefore are how long after now it ends and how long before now it begins.
	Expires, NotBefore time.Duration
	// ID says whether it has a random jti.
	ID bool
}

// Assertion makes a new JWT each time, with the key and the template as their files hold them then.
func (s Signed) Assertion() (config.Secret, error) {
	header, payload := map[string]any{}, maps.Clone(s.Claims)
	if payload == nil {
		payload = map[string]any{}
	}
	if s.TemplateFile != "" {
		text, err := readFile(s.TemplateFile)
		if err != nil {
			return config.Secret{}, fmt.Errorf("read the assertion's template: %w", err)
		}
		var template struct{ Header, Payload map[string]any }
		if json.Unmarshal([]byte(text), &template) != nil {
			return config.Secret{}, errors.New(`the assertion's template is not JSON with "header" and "payload"`)
		}
		maps.Copy(header, template.Header)
		maps.Copy(payload, template.Payload)
	}
	now := time.Now().Unix()
	header["alg"], header["typ"] = s.Algorithm, "JWT"
	payload["iat"], payload["exp"], payload["nbf"] = now, now+int64(s.Expires.Seconds()), now-int64(s.NotBefore.Seconds())
	if s.ID {
		payload["jti"] = randomID()
	}
	text, err := readFile(s.KeyFile)
	if err != nil {
		return config.Secret{}, fmt.Errorf("read the assertion's private key: %w", err)
	}
	key, err := s.ParseKey(text)
	if err != nil {
		return config.Secret{}, fmt.Errorf("the assertion's private key: %w", err)
	}
	return sign(header, payload, s.Algorithm, key)
}

func sign(header, payload map[string]any, algorithm string, key crypto.PrivateKey) (config.Secret, error) {
	h, err := json.Marshal(header)
	if err != nil {
		return config.Secret{}, fmt.Errorf("write the assertion: %w", err)
	}
	p, err := json.Marshal(payload)
	if err != nil {
		return config.Secret{}, fmt.Errorf("write the assertion: %w", err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	content := encode(h) + "." + encode(p)
	digest := sha256.Sum256([]byte(content))
	var signature []byte
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if algorithm != "RS256" {
			return config.Secret{}, fmt.Errorf("the assertion's private key is for RSA, the algorithm is %s", algorithm)
		}
		signature, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	case *ecdsa.PrivateKey:
		if algorithm != "ES256" || key.Params().BitSize != 256 {
			return config.Secret{}, fmt.Errorf("the assertion's private key is for %s, the algorithm is %s", key.Params().Name, algorithm)
		}
		signature, err = signES256(key, digest[:])
	default:
		return config.Secret{}, errors.New("the assertion's private key is for neither RSA nor ECDSA")
	}
	if err != nil {
		return config.Secret{}, errors.New("the assertion cannot be signed with its private key")
	}
	return config.NewSecret(content + "." + encode(signature)), nil
}

// signES256 returns r and s, 32 bytes each, as RFC 7518, 3.4 has them.
func signES256(key *ecdsa.PrivateKey, digest []byte) ([]byte, error) {
	r, s, err := ecdsa.Sign(rand.Reader, key, digest)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out, nil
}

// randomID returns a UUID of version 4.
func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
