package mirror

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// formatVector is a record that Kafka's own classes wrote (testdata/Formats.java).
type formatVector struct {
	Kind       string
	A, B, C    string
	Partition  int32
	X, Y       int64
	Key, Value string
}

func formatVectors(t testing.TB) []formatVector {
	t.Helper()
	raw, err := os.ReadFile("testdata/formats.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var all []formatVector
	for line := range strings.Lines(string(raw)) {
		var v formatVector
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, v)
	}
	return all
}

// record is the record that a vector is of.
func (v formatVector) record() interface {
	Encode() (key, value []byte, err error)
} {
	switch v.Kind {
	case "heartbeat":
		return Heartbeat{v.A, v.B, v.X}
	case "checkpoint":
		return Checkpoint{v.A, v.B, v.Partition, v.X, v.Y, v.C}
	default:
		return OffsetSync{v.A, v.Partition, v.X, v.Y}
	}
}

func decodeAs(kind string, key, value []byte) (any, error) {
	switch kind {
	case "heartbeat":
		return DecodeHeartbeat(key, value)
	case "checkpoint":
		return DecodeCheckpoint(key, value)
	default:
		return DecodeOffsetSync(key, value)
	}
}

func TestFormatsAreJavasByteForByte(t *testing.T) {
	t.Parallel()
	kinds := map[string]int{}
	for _, v := range formatVectors(t) {
		kinds[v.Kind]++
		want := v.record()
		key, value, err := want.Encode()
		if err != nil || hex.EncodeToString(key) != v.Key || hex.EncodeToString(value) != v.Value {
			t.Errorf("%+v: encoded as %x %x (error %v), Java has %s %s", want, key, value, err, v.Key, v.Value)
		}
		got, err := decodeAs(v.Kind, key, value)
		if err != nil || got != any(want) {
			t.Errorf("decoded %+v, error %v, want %+v", got, err, want)
		}
	}
	if kinds["heartbeat"] < 20 || kinds["checkpoint"] < 20 || kinds["offset-sync"] < 5 {
		t.Errorf("only %v vectors", kinds)
	}
}

func TestRecordsThatAreCutAreErrors(t *testing.T) {
	t.Parallel()
	for _, v := range formatVectors(t) {
		key, value, err := v.record().Encode()
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(key) {
			if _, err := decodeAs(v.Kind, key[:n], value); !errors.Is(err, errFormat) {
				t.Fatalf("%s: key cut to %d of %d bytes: error %v", v.Kind, n, len(key), err)
			}
		}
		for n := range len(value) {
			if _, err := decodeAs(v.Kind, key, value[:n]); !errors.Is(err, errFormat) {
				t.Fatalf("%s: value cut to %d of %d bytes: error %v", v.Kind, n, len(value), err)
			}
		}
	}
}

func TestStringsThatDoNotFitAreErrors(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<15)
	for name, r := range map[string]interface {
		Encode() (k, v []byte, err error)
	}{
		"alias": Heartbeat{Source: long}, "group": Checkpoint{Group: long}, "metadata": Checkpoint{Metadata: long}, "topic": OffsetSync{Topic: long},
	} {
		if _, _, err := r.Encode(); !errors.Is(err, errTooLong) {
			t.Errorf("%s of %d bytes: error %v", name, len(long), err)
		}
	}
}

func TestOtherVersionsAreErrors(t *testing.T) {
	t.Parallel()
	key, value, _ := Heartbeat{"A", "B", 1}.Encode()
	value[1] = 1
	if _, err := DecodeHeartbeat(key, value); !errors.Is(err, errFormat) {
		t.Errorf("version 1: error %v", err)
	}
}

// FuzzDecodeFormats: whatever is read is read again from what is written of it.
func FuzzDecodeFormats(f *testing.F) {
	for _, v := range formatVectors(f) {
		key, value, err := v.record().Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(key, value)
	}
	f.Add([]byte{0xff, 0xff}, []byte{0, 0})
	f.Add([]byte{0x7f, 0xff, 1}, []byte{0, 0, 0xc3, 0x28})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		for _, kind := range []string{"heartbeat", "checkpoint", "offset-sync"} {
			got, err := decodeAs(kind, bytes.Clone(key), bytes.Clone(value))
			if err != nil {
				continue
			}
			encoder, ok := got.(interface {
				Encode() (k, v []byte, err error)
			})
			if !ok {
				t.Fatalf("%T cannot be encoded", got)
			}
			k, v, err := encoder.Encode()
			if errors.Is(err, errTooLong) {
				continue // three bytes for each that was no UTF-8
			}
			again, err2 := decodeAs(kind, k, v)
			if err != nil || err2 != nil || again != got {
				t.Fatalf("%s: %+v became %+v (%v, %v)", kind, got, again, err, err2)
			}
		}
	})
}
