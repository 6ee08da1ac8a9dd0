package mirror

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// offsetKey is how MirrorMaker 2 names a partition of the source in Connect's
// offset topic, byte for byte as Java's JsonConverter writes it (keys in this order, no spaces):
// {"cluster":"A","partition":0,"topic":"orders"}.
func offsetKey(cluster string, p partition) []byte {
	b := append([]byte(nil), `{"cluster":`...)
	b = appendJavaString(b, cluster)
	b = append(b, `,"partition":`...)
	b = strconv.AppendInt(b, int64(p.id), 10)
	b = append(b, `,"topic":`...)
	b = appendJavaString(b, p.topic)
	return append(b, '}')
}

// offsetValue says that everything up to last, which included, has been copied.
func offsetValue(last int64) []byte {
	return append(strconv.AppendInt([]byte(`{"offset":`), last, 10), '}')
}

// parseOffset reads an offset as MirrorMaker does: no value, or none in it, is
// -1, "nothing copied" (MirrorUtils.unwrapOffset).
func parseOffset(value []byte) (last int64, err error) {
	if value == nil {
		return -1, nil
	}
	var v struct {
		Offset *int64 `json:"offset"`
	}
	d := json.NewDecoder(bytes.NewReader(value))
	if err := d.Decode(&v); err != nil {
		return 0, fmt.Errorf("saved offset %.100q: %w", value, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return 0, fmt.Errorf("saved offset %.100q: more than one value", value)
	}
	if v.Offset == nil || *v.Offset < 0 {
		return -1, nil
	}
	return *v.Offset, nil
}

// appendJavaString writes a JSON string as Jackson does: only what must be is
// escaped, with short escapes where there are and upper case hexadecimals.
func appendJavaString(b []byte, s string) []byte {
	const short = "\b\t\n\f\r"
	b = append(b, '"')
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20 && bytes.IndexByte([]byte(short), byte(r)) >= 0:
			b = append(b, '\\', "btnfr"[bytes.IndexByte([]byte(short), byte(r))])
		case r < 0x20:
			b = fmt.Appendf(b, `\u%04X`, r)
		default:
			b = append(b, s[i:i+size]...)
		}
		i += size
	}
	return append(b, '"')
}
