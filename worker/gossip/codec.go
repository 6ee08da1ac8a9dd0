package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/memberlist"
)

// What other workers send is foreign bytes to these decoders: another version
// wrote it, or nobody we know. They answer with an error, never with a panic.

// metaVersion is the first byte of the metadata. A later version appends
// fields and keeps these, so that two versions can run in one cluster: decoding
// ignores what follows.
const metaVersion = 1

const (
	flagLabelsInLog = 1 << iota
	flagHTTP        // the URL is http://<worker id>
	flagHTTPS       // the URL is https://<worker id>
	flagReady
)

// hintVersion is the first byte of a hint, which is followed by the offset.
const hintVersion = 1

var errForeign = errors.New("not written by a worker")

// nodeName is the name of the memberlist node of a process: a restarted worker
// is another node, so that nothing said about the dead one sticks to it.
func nodeName(id string, incarnation int64) string {
	return id + "#" + strconv.FormatInt(incarnation, 10)
}

func parseNodeName(name string) (id string, incarnation int64, err error) {
	i := strings.LastIndexByte(name, '#')
	if i < 1 {
		return "", 0, fmt.Errorf("node name %q: %w", name, errForeign)
	}
	incarnation, err = strconv.ParseInt(name[i+1:], 10, 64)
	if err != nil {
		return "", 0, fmt.Errorf("node name %q: %w", name, errForeign)
	}
	return name[:i], incarnation, nil
}

// appendMeta writes what m's node tells about itself: version, flags, load
// (float32), URL, product version, labels in order.
func appendMeta(b []byte, m Member) []byte {
	flags, url := byte(0), m.URL
	switch url {
	case "http://" + m.ID:
		flags, url = flagHTTP, ""
	case "https://" + m.ID:
		flags, url = flagHTTPS, ""
	}
	if m.LabelsInLog {
		flags |= flagLabelsInLog
	}
	if m.Ready {
		flags |= flagReady
	}
	b = append(b, metaVersion, flags)
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(m.Load)))
	b = appendText(b, url)
	b = appendText(b, m.Version)
	if m.LabelsInLog {
		return binary.AppendUvarint(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(m.Labels)))
	for _, k := range slices.Sorted(maps.Keys(m.Labels)) {
		b = appendText(b, k)
		b = appendText(b, m.Labels[k])
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// parseMember reads the metadata of the node called name.
func parseMember(name string, meta []byte) (Member, error) {
	id, incarnation, err := parseNodeName(name)
	if err != nil {
		return Member{}, err
	}
	r := reader{rest: meta}
	version, flags := r.byte(), r.byte()
	m := Member{ID: id, Incarnation: incarnation, LabelsInLog: flags&flagLabelsInLog != 0, Ready: flags&flagReady != 0}
	m.Load = finite(math.Float32frombits(binary.LittleEndian.Uint32(r.take(4))))
	m.URL, m.Version = r.text(), r.text()
	switch {
	case flags&flagHTTP != 0:
		m.URL = "http://" + id
	case flags&flagHTTPS != 0:
		m.URL = "https://" + id
	}
	for range r.count() {
		if m.Labels == nil {
			m.Labels = map[string]string{}
		}
		key := r.text()
		m.Labels[key] = r.text()
	}
	if r.short || version < metaVersion {
		return Member{}, fmt.Errorf("metadata of %q: %w", name, errForeign)
	}
	return m, nil
}

// finite gives f as a load: not negative, and a number.
func finite(f float32) float64 {
	if load := float64(f); load > 0 && !math.IsInf(load, 0) {
		return load
	}
	return 0
}

// hint is the broadcast "the config topic has grown to this offset".
type hint int64

// Name makes a newer hint take the place of one that still waits to be sent.
func (hint) Name() string { return "hint" }

// Invalidates says whether other is an older word on the same matter.
func (hint) Invalidates(other memberlist.Broadcast) bool { _, ok := other.(hint); return ok }

// Message is the hint as sent.
func (h hint) Message() []byte { return binary.AppendVarint([]byte{hintVersion}, int64(h)) }

// Finished is told when it has been sent often enough.
func (hint) Finished() {}

// parseHint reads a hint. Bytes after it are a later version's.
func parseHint(b []byte) (offset int64, err error) {
	if len(b) < 2 || b[0] < hintVersion {
		return 0, fmt.Errorf("hint: %w", errForeign)
	}
	offset, n := binary.Varint(b[1:])
	if n <= 0 || offset < 0 {
		return 0, fmt.Errorf("hint: %w", errForeign)
	}
	return offset, nil
}

// reader takes fields off bytes. Once they run out it gives zeros and is short.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.short, r.rest = true, nil
		return make([]byte, min(max(n, 0), 8)) // enough for a fixed field
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) byte() byte { return r.take(1)[0] }

// count reads a number of things that follow, of which each takes at least a byte.
func (r *reader) count() int {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || n > uint64(len(r.rest)-size) {
		r.short, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return int(n)
}

func (r *reader) text() string {
	n := r.count()
	if r.short {
		return ""
	}
	return string(r.take(n))
}
