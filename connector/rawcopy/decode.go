package rawcopy

import (
	"encoding/binary"
	"unsafe"
)

// Record is one record of a batch. A nil key or value is Kafka's null, which is not the empty one.
type Record struct {
	Offset    int64
	Timestamp int64 // milliseconds; -1: none (magic 0)
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Header is one header of a record. A nil value is null.
type Header struct{ Key, Value []byte }

const (
	recordMemory = int64(unsafe.Sizeof(Record{}))
	headerMemory = int64(unsafe.Sizeof(Header{}))
	leastRecord  = 7 // bytes: length, attributes, timestamp, offset, key, value, headers
	leastHeader  = 2
)

// Decode appends the records of b from offset from on to into. They alias b, if it is not
// compressed. Errors wrap ErrCorrupt if b cannot be what anybody wrote (its CRC is checked), and
// ErrTooLarge if it becomes more than limit bytes when decompressed, or its records' fields alone take
// as much memory. into comes back as it was with an error. All of magic 0 to 2 is read.
func Decode(b Batch, from int64, limit int64, into []Record) ([]Record, error) {
	var d Decoder
	return d.Decode(b, from, limit, into)
}

// Decoder decodes batches whose records are needed together and then no more: after
// Reset it uses its memory again. Its zero value is ready. It is used by one goroutine at a time.
type Decoder struct {
	plain   []byte // decompressed; the room behind is free
	headers []Header
	used    int // bytes of plain that all batches since Reset have taken
}

// What a Decoder keeps for later at most: 8 MiB of data, 3 MiB of headers.
const (
	keepPlain   = 8 << 20
	keepHeaders = 1 << 16
)

// Reset says that none of the records decoded so far are needed any more.
func (d *Decoder) Reset() {
	if want := min(d.used, keepPlain); want > cap(d.plain) {
		d.plain = make([]byte, 0, want)
	}
	if cap(d.plain) > keepPlain {
		d.plain = nil
	}
	if cap(d.headers) > keepHeaders {
		d.headers = nil
	}
	clear(d.headers)
	d.plain, d.headers, d.used = d.plain[:0], d.headers[:0], 0
}

// Decode does what the function Decode does.
func (d *Decoder) Decode(b Batch, from int64, limit int64, into []Record) ([]Record, error) {
	if b.Magic() > 2 {
		return into, corrupt("magic %d", b.Magic())
	}
	if !b.intact() {
		return into, corrupt("CRC is not %08x", b.CRC())
	}
	if b.old() {
		return d.decodeOld(b, from, limit, into)
	}
	if err := b.possible(); err != nil {
		return into, err
	}
	if b.Count() == 0 && len(b) == atRecords { // compaction leaves no frame of the codec either
		return into, nil
	}
	plain, err := d.decompress(b[atRecords:], b.Codec(), limit)
	if err != nil {
		return into, err
	}
	count := int64(b.Count())
	if count*leastRecord > int64(len(plain)) {
		return into, corrupt("%d records in %d bytes", count, len(plain))
	}
	p := parser{reader: reader{rest: plain}, decoder: d, limit: limit}
	before := len(into)
	if into, err = p.records(b, from, into); err != nil {
		clear(into[before:])
		return into[:before], err
	}
	return into, nil
}

// decompress returns the content of a batch or message.
func (d *Decoder) decompress(source []byte, codec int8, limit int64) ([]byte, error) {
	if codec == codecNone {
		if int64(len(source)) > limit {
			return nil, tooLarge(limit)
		}
		return source, nil
	}
	free := d.plain[len(d.plain):]
	plain, err := decompress(free, source, codec, limit)
	if err != nil {
		return nil, err
	}
	if len(plain) <= cap(free) && unsafe.SliceData(plain) == unsafe.SliceData(free) {
		d.plain = d.plain[:len(d.plain)+len(plain)]
	} else {
		d.plain = plain
	}
	d.used += len(plain)
	return plain[:len(plain):len(plain)], nil
}

// parser reads the records of a batch of magic 2.
type parser struct {
	reader
	decoder *Decoder
	limit   int64
	memory  int64 // that records and headers take
}

func (p *parser) records(b Batch, from int64, into []Record) ([]Record, error) {
	base, first, last := b.BaseOffset(), b.FirstTimestamp(), int64(b.LastOffsetDelta())
	count, appendTime, latest := int(b.Count()), b.LogAppendTime(), b.MaxTimestamp()
	previous := int64(-1)
	for i := range count {
		length := p.varint()
		behind := int64(len(p.rest)) - length
		p.byte() // attributes, of which there are none
		timestamp := first + p.varint()
		delta := p.varint()
		key := p.bytes(p.varint())
		value := p.bytes(p.varint())
		headers := p.varint()
		if p.bad || delta <= previous || delta > last || headers < 0 || headers*leastHeader > int64(len(p.rest)) {
			return into, corrupt("record %d of %d", i, count)
		}
		previous = delta
		wanted := base+delta >= from
		if wanted {
			if p.memory += recordMemory; p.memory > p.limit {
				return into, tooManyFields(p.limit)
			}
		}
		of, err := p.header(headers, wanted)
		if err != nil {
			return into, err
		}
		if p.bad || length < 0 || int64(len(p.rest)) != behind {
			return into, corrupt("record %d of %d does not have the length it says", i, count)
		}
		if wanted {
			if appendTime {
				timestamp = latest
			}
			into = append(into, Record{Offset: base + delta, Timestamp: timestamp, Key: key, Value: value, Headers: of})
		}
	}
	if len(p.rest) > 0 {
		return into, corrupt("%d bytes behind the last record", len(p.rest))
	}
	return into, nil
}

// header reads count headers.
func (p *parser) header(count int64, wanted bool) ([]Header, error) {
	if count == 0 {
		return nil, nil
	}
	if wanted {
		if p.memory += count * headerMemory; p.memory > p.limit {
			return nil, tooManyFields(p.limit)
		}
	}
	start := len(p.decoder.headers)
	for range count {
		length := p.varint()
		key := p.bytes(length)
		value := p.bytes(p.varint())
		if p.bad || length < 0 {
			return nil, corrupt("header of a record")
		}
		if wanted {
			p.decoder.headers = append(p.decoder.headers, Header{key, value})
		}
	}
	all := p.decoder.headers
	return all[start:len(all):len(all)], nil
}

// decodeOld decodes a message of magic 0 or 1 (LegacyRecord), which may have a compressed set of
// them inside (AbstractLegacyRecordBatch).
func (d *Decoder) decodeOld(b Batch, from, limit int64, into []Record) ([]Record, error) {
	outer, err := oldMessage(b)
	if err != nil {
		return into, err
	}
	if outer.Offset < 0 {
		return into, corrupt("offset %d", outer.Offset)
	}
	codec := b.Codec()
	if codec == codecNone {
		if outer.Offset >= from {
			into = append(into, outer)
		}
		return into, nil
	}
	if codec > codecLZ4 || outer.Value == nil {
		return into, corrupt("codec %d in magic %d", codec, b.Magic())
	}
	set, err := d.decompress(outer.Value, codec, limit)
	if err != nil {
		return into, err
	}
	before := len(into)
	if into, err = oldSet(b, set, into); err != nil {
		clear(into[before:])
		return into[:before], err
	}
	records := into[before:]
	// In magic 1 the offsets inside count from 0, and the last one is the set's.
	shift := int64(0)
	if n := len(records); n > 0 && b.Magic() == 1 {
		shift = outer.Offset - records[n-1].Offset
	}
	kept, previous := before, int64(-1)
	for _, r := range records {
		r.Offset += shift
		if b.LogAppendTime() {
			r.Timestamp = outer.Timestamp
		}
		if r.Offset <= previous || r.Offset > outer.Offset {
			clear(records)
			return into[:before], corrupt("offset %d in a set that ends at %d", r.Offset, outer.Offset)
		}
		previous = r.Offset
		if r.Offset >= from {
			into[kept] = r
			kept++
		}
	}
	clear(into[kept:])
	return into[:kept], nil
}

// oldSet appends the messages of a set that was compressed in b.
func oldSet(b Batch, set []byte, into []Record) ([]Record, error) {
	before := len(into)
	for len(set) > 0 {
		inner, rest, err := Split(set)
		if err != nil {
			return into, err
		}
		if len(inner) == 0 || inner.Magic() != b.Magic() || inner.Codec() != codecNone || !inner.intact() {
			return into, corrupt("a message inside another one")
		}
		r, err := oldMessage(inner)
		if err != nil {
			return into, err
		}
		into, set = append(into, r), rest
	}
	if len(into) == before {
		return into, corrupt("nothing in a compressed message")
	}
	return into, nil
}

// oldMessage reads the fields of a message of magic 0 or 1.
func oldMessage(b Batch) (Record, error) {
	r := Record{Offset: b.LastOffset(), Timestamp: b.MaxTimestamp()}
	fields := reader{rest: b[leastMagic0-8:]}
	if b.Magic() == 1 {
		fields.rest = b[leastMagic1-8:]
	}
	r.Key = fields.bytes(fields.int32())
	r.Value = fields.bytes(fields.int32())
	if fields.bad || len(fields.rest) > 0 {
		return Record{}, corrupt("key and value do not fill a message")
	}
	return r, nil
}

// reader reads a record's fields (DefaultRecord). What is not there is read as
// zero, and makes it bad for good.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) byte() byte {
	if len(r.rest) == 0 {
		r.bad = true
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) int32() int64 {
	b := r.bytes(4)
	if len(b) < 4 {
		return 0
	}
	return int64(int32(binary.BigEndian.Uint32(b)))
}

// varint reads a zigzag number of at most 10 bytes.
func (r *reader) varint() int64 {
	if len(r.rest) > 0 && r.rest[0] < 0x80 {
		u := r.rest[0]
		r.rest = r.rest[1:]
		return int64(u>>1) ^ -int64(u&1)
	}
	return r.longVarint()
}

func (r *reader) longVarint() int64 {
	u, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return int64(u>>1) ^ -int64(u&1)
}

// bytes reads n bytes; nil if n is negative, which is how Kafka writes null.
func (r *reader) bytes(n int64) []byte {
	if n < 0 {
		return nil
	}
	if n > int64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}
