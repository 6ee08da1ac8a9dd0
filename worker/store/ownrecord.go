package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// ownPrefix begins the keys that Connect does not have. Java workers log one
// error for each such record in the config topic, one warning in the status topic, and skip it.
const ownPrefix = "barnabas-"

// ownVersion is the version of the envelope that this build writes and reads.
const ownVersion = 1

// ErrOwnVersion says that a newer build wrote a record in a way that this one
// cannot read.
var ErrOwnVersion = errors.New("the record was written by a newer version")

// OwnRecord is a record with a key of ours. Value is nil if the key was deleted;
// DecodeOwn reads it otherwise.
type OwnRecord struct {
	Key   string
	Value []byte
}

// EncodeOwn gives the entry for a key of ours, which must begin with "barnabas-".
// v must become a JSON object; the envelope adds its version, "v". The caller pins
// the entry if it belongs to a fixed partition.
func EncodeOwn(key string, v any) (Entry, error) {
	inner, err := json.Marshal(v)
	if err != nil {
		return Entry{}, fmt.Errorf("encode %s: %w", key, err)
	}
	if inner[0] != '{' {
		return Entry{}, fmt.Errorf("encode %s: %T is no JSON object", key, v)
	}
	value := strconv.AppendInt([]byte(`{"v":`), ownVersion, 10)
	if len(inner) > 2 {
		value = append(value, ',')
	}
	return Entry{Key: []byte(key), Value: append(value, inner[1:]...)}, nil
}

// DecodeOwn reads the value of an OwnRecord that is not deleted. Fields that T does not have are
// skipped: a newer version may add some without raising "v".
func DecodeOwn[T any](r OwnRecord) (T, error) {
	var envelope struct {
		V int `json:"v"`
	}
	var v T
	if err := json.NewDecoder(bytes.NewReader(r.Value)).Decode(&envelope); err != nil {
		return v, fmt.Errorf("record %q: the value is not ours: %w", r.Key, err)
	}
	switch {
	case envelope.V > ownVersion:
		return v, fmt.Errorf("record %q: version %d: %w", r.Key, envelope.V, ErrOwnVersion)
	case envelope.V < 1:
		return v, fmt.Errorf("record %q: the value has no version", r.Key)
	}
	if err := json.Unmarshal(r.Value, &v); err != nil {
		return v, fmt.Errorf("record %q: %w", r.Key, err)
	}
	return v, nil
}
