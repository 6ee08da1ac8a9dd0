package oauthbearer

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode"

	"barnabas/config"
)

// maxTokenBytes bounds a token, its file and the answer of a token endpoint: a broker takes requests of
// sasl.server.max.receive.size, 512 KiB.
const maxTokenBytes = 512 << 10

var errNoJWT = errors.New("it is not a JWT: header, payload and signature")

// claimsOf returns the payload of a JWT.
func claimsOf(token config.Secret) (map[string]any, error) {
	parts := strings.Split(strings.TrimSpace(token.Reveal()), ".")
	if len(parts) != 3 {
		return nil, errNoJWT
	}
	var claims map[string]any
	for i, into := range []any{&map[string]any{}, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[i], "="))
		if err != nil {
			return nil, errNoJWT
		}
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		if decoder.Decode(into) != nil || claims == nil && i == 1 {
			return nil, errNoJWT
		}
	}
	return claims, nil
}

// seconds reads a NumericDate (RFC 7519).
func seconds(claim any) (time.Time, bool) {
	number, ok := claim.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	s, err := number.Float64()
	if err != nil || s < 0 || s > 253402300799 { // the end of year 9999
		return time.Time{}, false
	}
	return time.UnixMilli(int64(s * 1000)), true
}

func blank(s string) bool { return strings.TrimSpace(s) == "" }

// printable cuts what others have written to what an error may show.
func printable(s string) string {
	s = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, s)
	if runes := []rune(s); len(runes) > 200 {
		s = string(runes[:200]) + " …"
	}
	return s
}

// File returns the retriever of a token that others write to a file and replace there, e.g. a service account's
// projected token. Its errors do not hold the path.
func File(path string) Retriever {
	return func(context.Context) (config.Secret, error) {
		text, err := readFile(path)
		if err != nil {
			return config.Secret{}, fmt.Errorf("read the token's file: %w", err)
		}
		return config.NewSecret(strings.TrimSpace(text)), nil
	}
}

// readFile reads a small regular file.
func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", withoutPath(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", errors.New("it is not a file")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxTokenBytes+1))
	switch {
	case err != nil:
		return "", withoutPath(err)
	case len(text) > maxTokenBytes:
		return "", fmt.Errorf("it has more than %d bytes", maxTokenBytes)
	}
	return string(text), nil
}

func withoutPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// Unsecured returns the retriever of tokens without a signature, for brokers with Kafka's
// OAuthBearerUnsecuredValidatorCallbackHandler. claims are what it says besides iat and exp.
func Unsecured(claims map[string]any, lifetime time.Duration) Retriever {
	return func(context.Context) (config.Secret, error) {
		now := time.Now()
		payload := map[string]any{}
		for name, value := range claims {
			payload[name] = value
		}
		payload["iat"], payload["exp"] = float64(now.UnixMilli())/1000, float64(now.Add(lifetime).UnixMilli())/1000
		text, err := json.Marshal(payload)
		if err != nil {
			return config.Secret{}, fmt.Errorf("write the token's claims: %w", err)
		}
		encode := base64.RawURLEncoding.EncodeToString
		return config.NewSecret(encode([]byte(`{"alg":"none"}`)) + "." + encode(text) + "."), nil
	}
}
