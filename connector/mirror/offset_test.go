package mirror

import (
	"encoding/json"
	"testing"
)

func TestOffsetsAreMirrorMakers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cluster string
		p       partition
		want    string
	}{
		{"A", partition{"orders", 0}, `{"cluster":"A","partition":0,"topic":"orders"}`},
		{"a<b>&\"\\", partition{"x.y-z_1", 12}, `{"cluster":"a<b>&\"\\","partition":12,"topic":"x.y-z_1"}`},
		{"Köln\n\x01\x1f", partition{"t", 1}, `{"cluster":"Köln\n\u0001\u001F","partition":1,"topic":"t"}`},
	} {
		if got := string(offsetKey(c.cluster, c.p)); got != c.want {
			t.Errorf("offsetKey(%q, %v) = %s, want %s", c.cluster, c.p, got, c.want)
		}
	}
	if got := string(offsetValue(41)); got != `{"offset":41}` {
		t.Error(got)
	}
}

func TestSavedOffsetsAreRead(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{`{"offset":41}`: 41, `{"offset":0}`: 0, `{"offset":null}`: -1, `{}`: -1, `{"offset":-1}`: -1, `null`: -1, ` {"offset" : 7, "x":1} `: 7} {
		if got, err := parseOffset([]byte(in)); got != want || err != nil {
			t.Errorf("%s: %d, %v", in, got, err)
		}
	}
	if got, err := parseOffset(nil); got != -1 || err != nil {
		t.Error(got, err)
	}
	for _, in := range []string{"", "x", `{"offset":"1"}`, `{"offset":1.5}`, `{"offset":1}2`} {
		if _, err := parseOffset([]byte(in)); err == nil {
			t.Errorf("%q: no error", in)
		}
	}
}

func FuzzOffsetKey(f *testing.F) {
	f.Add("A", "orders", int32(0))
	f.Add("\x00\u2028\"", "é\\", int32(-1))
	f.Fuzz(func(t *testing.T, cluster, topic string, id int32) {
		key := offsetKey(cluster, partition{topic, id})
		var back struct {
			Cluster, Topic string
			Partition      int32
		}
		if err := json.Unmarshal(key, &back); err != nil || back.Partition != id {
			t.Fatalf("%q: %v", key, err)
		}
	})
}
