package connector

import (
	"errors"
	"testing"
)

// What Kafka Connect 4.3.1 has written and shown, and, for hashes, what its JVM does.
func TestFieldsAreInJavasOrder(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ raw, json, text string }{
		{`{"topic":"orders","partition":0,"cluster":"A"}`, `{"cluster":"A","partition":0,"topic":"orders"}`, "{cluster=A, partition=0, topic=orders}"},
		{`{"group":"g","topic":"t","partition":1}`, `{"partition":1,"topic":"t","group":"g"}`, "{partition=1, topic=t, group=g}"},
		{`{"targetClusterAlias":"B","sourceClusterAlias":"A"}`, `{"sourceClusterAlias":"A","targetClusterAlias":"B"}`, "{sourceClusterAlias=A, targetClusterAlias=B}"},
		{`{"a":1.5,"b":null,"c":true,"d":2e0,"a":"twice"}`, `{"a":"twice","b":null,"c":true,"d":2.0}`, "{a=twice, b=null, c=true, d=2.0}"},
		{`null`, `null`, `null`},
		{`{}`, `{}`, `{}`},
		{`{"k":"\u0001\n\"é"}`, `{"k":"\u0001\n\"é"}`, "{k=\x01\n\"é}"},
	} {
		f, err := ParseFields([]byte(row.raw))
		if err != nil || string(f.JSON()) != row.json || f.String() != row.text {
			t.Errorf("%s: %s, %s, %v; want %s, %s", row.raw, f.JSON(), f, err, row.json, row.text)
		}
	}
}

func TestFieldsRefuseWhatConnectRefuses(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`{"a":[1]}`:                     "Offsets may only contain primitive types as values, but field a contains ARRAY",
		`{"a":{"b":1}}`:                 "Offsets may only contain primitive types as values, but field a contains MAP",
		`{"a":99999999999999999999}`:    "Offsets may only contain primitive types as values, but field a contains null",
		`[1]`:                           ErrNotFields.Error(),
		`"x"`:                           ErrNotFields.Error(),
		`{"a":1} {}`:                    ErrNotFields.Error(),
		`{"a":`:                         ErrNotFields.Error(),
		``:                              ErrNotFields.Error(),
		`{"x":[],"x":1,"y":{"deep":0}}`: "Offsets may only contain primitive types as values, but field y contains MAP",
	} {
		if _, err := ParseFields([]byte(raw)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
	}
}

func FuzzParseFields(f *testing.F) {
	for _, seed := range []string{`{"cluster":"A","partition":0,"topic":"orders"}`, `null`, `{"a":[{}],"":-1.5e300}`, "{\"\\ud800\":\"\xff\"}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		fields, err := ParseFields(raw)
		if err != nil {
			return
		}
		again, err := ParseFields(fields.JSON())
		if errors.Is(err, ErrNotFields) && again.String() != fields.String() {
			t.Errorf("%q became %q, which cannot be read: %v", raw, fields.JSON(), err)
		}
	})
}
