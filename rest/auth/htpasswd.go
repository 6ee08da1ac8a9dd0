package auth

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"barnabas/config"
)

// Bounds of what one login may cost: about a second, and as much memory as a task.
const (
	maxBcryptCost    = 15
	maxArgon2KiB     = 256 << 10
	maxArgon2Time    = 20
	maxArgon2Threads = 64
	maxArgon2Bytes   = 1 << 10 // of salt and key
)

// parseHtpasswd reads lines of user:hash; "#" begins a comment. stand costs as much as
// the first user's hash and is never right.
func parseHtpasswd(text string) (all map[string]verifier, stand verifier, err error) {
	all = map[string]verifier{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		user, hash, ok := strings.Cut(line, ":")
		if !ok || user == "" {
			return nil, nil, fmt.Errorf("line %d is not user:hash (make one with: htpasswd -nB USER)", number)
		}
		if all[user] != nil {
			return nil, nil, fmt.Errorf("line %d: that user is there already", number)
		}
		check, err := parseHash(hash)
		if err != nil {
			return nil, nil, fmt.Errorf("line %d: %w", number, err)
		}
		all[user] = check
		if stand == nil {
			stand = check
		}
	}
	return all, stand, nil
}

// parseHash reads a hash: bcrypt's $2y$, $2a$ or $2b$, or argon2 in the PHC format. The
// others that Apache knows can be guessed too fast, or are no hashes at all.
func parseHash(hash string) (verifier, error) {
	switch {
	case strings.HasPrefix(hash, "$2"):
		return parseBcrypt(hash)
	case strings.HasPrefix(hash, "$argon2"):
		return parseArgon2(hash)
	case strings.HasPrefix(hash, "$apr1$"), strings.HasPrefix(hash, "$1$"), strings.HasPrefix(hash, "{SHA}"):
		return nil, errors.New("MD5 and SHA-1 are guessed too fast: make the hash anew with bcrypt (htpasswd -B)")
	}
	return nil, errors.New("neither bcrypt nor argon2: make the hash with htpasswd -B, or with argon2 -e")
}

func parseBcrypt(hash string) (verifier, error) {
	cost, err := bcrypt.Cost([]byte(hash))
	switch {
	case err != nil || len(hash) != 60:
		return nil, errors.New("the bcrypt hash is damaged")
	case cost > maxBcryptCost:
		return nil, fmt.Errorf("a bcrypt cost of %d would keep the worker busy for seconds; at most %d", cost, maxBcryptCost)
	}
	return func(password config.Secret) bool {
		return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password.Reveal())) == nil
	}, nil
}

// parseArgon2 reads $argon2id$v=19$m=65536,t=3,p=4$salt$key, base64 without padding.
func parseArgon2(hash string) (verifier, error) {
	damaged := errors.New("the argon2 hash is damaged, expected $argon2id$v=19$m=…,t=…,p=…$salt$key")
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[2] != "v=19" {
		return nil, damaged
	}
	derive := argon2.IDKey
	switch parts[1] {
	case "argon2id":
	case "argon2i":
		derive = argon2.Key
	default:
		return nil, errors.New("of argon2 there are argon2id and argon2i here")
	}
	memory, rounds, threads, ok := argon2Costs(parts[3])
	if !ok {
		return nil, fmt.Errorf("the costs of the argon2 hash are out of bounds: m at most %d, t at most %d, p at most %d", maxArgon2KiB, maxArgon2Time, maxArgon2Threads)
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil || len(salt) < 8 || len(salt) > maxArgon2Bytes {
		return nil, damaged
	}
	key, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(key) < 16 || len(key) > maxArgon2Bytes {
		return nil, damaged
	}
	return func(password config.Secret) bool {
		got := derive([]byte(password.Reveal()), salt, rounds, memory, threads, uint32(len(key))) //nolint:gosec // at most maxArgon2Bytes
		return subtle.ConstantTimeCompare(got, key) == 1
	}, nil
}

// argon2Costs reads m=65536,t=3,p=4.
func argon2Costs(text string) (memory, rounds uint32, threads uint8, ok bool) {
	numbers := map[string]uint64{}
	for item := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(item, "=")
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil || numbers[name] != 0 {
			return 0, 0, 0, false
		}
		numbers[name] = n
	}
	m, t, p := numbers["m"], numbers["t"], numbers["p"]
	if len(numbers) != 3 || m == 0 || m > maxArgon2KiB || t == 0 || t > maxArgon2Time || p == 0 || p > maxArgon2Threads {
		return 0, 0, 0, false
	}
	return uint32(m), uint32(t), uint8(p), true //nolint:gosec // within the bounds above
}
