package rawcopy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// The codecs of record batches (CompressionType).
const (
	codecNone int8 = iota
	codecGzip
	codecSnappy
	codecLZ4
	codecZstd
	lastCodec = codecZstd
)

// ErrTooLarge is what Decode returns for a batch that becomes larger than its
// caller allows.
var ErrTooLarge = errors.New("record batch becomes too large")

func tooLarge(limit int64) error {
	return fmt.Errorf("%w: more than %d bytes when decompressed", ErrTooLarge, limit)
}

func tooManyFields(limit int64) error {
	return fmt.Errorf("%w: its fields take more than %d bytes", ErrTooLarge, limit)
}

// How much a byte can become. Nothing is allocated because a length says so that cannot be.
const (
	gzipRatio   = 1032          // DEFLATE: 258 bytes in two bits
	snappyRatio = 32            // 64 bytes in three
	zstdRatio   = 128<<10/4 + 1 // a block of one repeated byte
)

// decompress returns what source becomes, in the room of dst (of length 0) if there is enough.
// It needs not much more memory than the result, which is of at most limit bytes.
func decompress(dst, source []byte, codec int8, limit int64) ([]byte, error) {
	limit = max(0, min(limit, math.MaxInt32))
	var err error
	switch codec {
	case codecGzip:
		dst, err = gunzip(dst, source, limit)
	case codecSnappy:
		dst, err = decompressSnappy(dst, source, limit)
	case codecLZ4:
		dst, err = decompressLZ4(dst, source, limit)
	case codecZstd:
		dst, err = decompressZstd(dst, source, limit)
	default:
		return nil, corrupt("codec %d", codec)
	}
	if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
		err = fmt.Errorf("%w: codec %d: %w", ErrCorrupt, codec, err)
	}
	return dst, err
}

type gunzipper struct {
	gzip   gzip.Reader
	source bytes.Reader
}

var gunzippers = sync.Pool{New: func() any { return new(gunzipper) }}

func gunzip(dst, source []byte, limit int64) ([]byte, error) {
	if len(source) < 4 {
		return nil, corrupt("%d bytes of gzip", len(source))
	}
	g := gunzippers.Get().(*gunzipper)
	defer gunzippers.Put(g)
	defer g.source.Reset(nil)
	g.source.Reset(source)
	if err := g.gzip.Reset(&g.source); err != nil {
		return nil, err
	}
	// Its end says how long it was, which is true if there is but one.
	hint := min(int64(binary.LittleEndian.Uint32(source[len(source)-4:])), int64(len(source))*gzipRatio, limit)
	dst = grow(dst, int(hint)+1, limit+1)
	for {
		dst = grow(dst, 1, limit+1)
		n, err := g.gzip.Read(dst[len(dst):min(int64(cap(dst)), limit+1)])
		dst = dst[:len(dst)+n]
		switch {
		case int64(len(dst)) > limit:
			return nil, tooLarge(limit)
		case errors.Is(err, io.EOF):
			return dst, nil
		case err != nil:
			return nil, err
		}
	}
}

// Java's producer cuts what it compresses with snappy into blocks and puts this in front (xerial's
// SnappyOutputStream): a magic, a version and the least version that can read it. Others
// write one block with nothing around.
var xerialHeader = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1}

const (
	xerialMagic = 8
	xerialBlock = 32 << 10
)

func decompressSnappy(dst, source []byte, limit int64) ([]byte, error) {
	if len(source) < len(xerialHeader) || !bytes.Equal(source[:xerialMagic], xerialHeader[:xerialMagic]) {
		return snappyBlock(dst, source, limit)
	}
	var err error
	for rest := source[len(xerialHeader):]; len(rest) > 0; {
		if len(rest) < 4 {
			return nil, corrupt("snappy ends in a length")
		}
		length := int64(binary.BigEndian.Uint32(rest))
		if rest = rest[4:]; length > int64(len(rest)) {
			return nil, corrupt("snappy block of %d bytes in %d", length, len(rest))
		}
		if dst, err = snappyBlock(dst, rest[:length], limit); err != nil {
			return nil, err
		}
		rest = rest[length:]
	}
	return dst, nil
}

// grow makes room for n more bytes. It takes twice as much as there was when it
// has to move, but no more than limit in all.
func grow(dst []byte, n int, limit int64) []byte {
	if cap(dst)-len(dst) >= n {
		return dst
	}
	most := int(min(limit, int64(2*cap(dst))))
	return append(make([]byte, 0, max(len(dst)+n, most)), dst...)
}

// snappyBlock appends what one block becomes.
func snappyBlock(dst, block []byte, limit int64) ([]byte, error) {
	length, err := s2.DecodedLen(block)
	switch {
	case err != nil:
		return nil, err
	case int64(length) > limit-int64(len(dst)):
		return nil, tooLarge(limit)
	case int64(length) > int64(len(block))*snappyRatio:
		return nil, corrupt("snappy block of %d bytes says that it becomes %d", len(block), length)
	}
	dst = grow(dst, length, limit)
	if _, err := s2.Decode(dst[len(dst):len(dst)+length], block); err != nil {
		return nil, err
	}
	return dst[:len(dst)+length], nil
}

type zstdDecoder struct {
	zstd  *zstd.Decoder
	limit int64
}

var zstdDecoders sync.Pool

// zstdLeast is what a frame may look back to, and become, before that is looked at: the library
// takes one limit for both, and a small batch may say that it has a large window.
const zstdLeast = 8 << 20

func decompressZstd(dst, source []byte, limit int64) ([]byte, error) {
	var header zstd.Header
	if err := header.Decode(source); err != nil {
		return nil, err
	}
	if header.HasFCS && header.FrameContentSize > uint64(limit) {
		return nil, tooLarge(limit)
	}
	if header.HasFCS && header.FrameContentSize > uint64(len(source))*zstdRatio {
		return nil, corrupt("zstd frame of at most %d bytes says that it becomes %d", len(source), header.FrameContentSize)
	}
	d, _ := zstdDecoders.Get().(*zstdDecoder)
	var err error
	switch most := zstd.WithDecoderMaxMemory(uint64(max(zstdLeast, limit))); {
	case d == nil:
		d = &zstdDecoder{limit: limit}
		d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), most)
	case d.limit != limit:
		d.limit = limit
		err = d.zstd.ResetWithOptions(nil, most)
	}
	if err != nil {
		return nil, err
	}
	defer zstdDecoders.Put(d)
	if !header.HasFCS { // as from Java's producer
		dst = grow(dst, int(min(4*int64(len(source)), limit)), limit)
	}
	dst, err = d.zstd.DecodeAll(source, dst)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) || err == nil && int64(len(dst)) > limit {
		return nil, tooLarge(limit)
	}
	return dst, err
}

// compressor compresses records. It is used by one goroutine at a time, and its
// result is valid until it is used again.
type compressor struct {
	out    []byte
	gzip   *gzip.Writer
	lz4    lz4Encoder
	zstd   *zstd.Encoder
	window bytes.Buffer
}

// zstdWindow is how far back zstd looks. Batches are seldom larger, and an
// encoder's memory grows with it.
const zstdWindow = 1 << 20

// compress returns what source becomes. The same source always becomes the same.
func (c *compressor) compress(source []byte, codec int8) ([]byte, error) {
	c.out = c.out[:0]
	switch codec {
	case codecNone:
		return source, nil
	case codecGzip:
		if c.gzip == nil {
			c.gzip = gzip.NewWriter(nil)
		}
		c.window.Reset()
		c.gzip.Reset(&c.window)
		if _, err := c.gzip.Write(source); err != nil {
			return nil, err
		}
		if err := c.gzip.Close(); err != nil {
			return nil, err
		}
		return c.window.Bytes(), nil
	case codecSnappy:
		c.out = append(c.out, xerialHeader...)
		for block := range slices.Chunk(source, xerialBlock) {
			at := len(c.out)
			c.out = slices.Grow(c.out, 4+s2.MaxEncodedLen(len(block)))
			length := len(s2.EncodeSnappy(c.out[at+4:cap(c.out)], block))
			c.out = c.out[:at+4+length]
			binary.BigEndian.PutUint32(c.out[at:], uint32(length))
		}
	case codecLZ4:
		c.out = c.lz4.encode(c.out, source)
	case codecZstd:
		if c.zstd == nil {
			var err error
			if c.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true)); err != nil {
				return nil, err
			}
		}
		c.out = c.zstd.EncodeAll(source, c.out)
	default:
		return nil, fmt.Errorf("codec %d is none that we know", codec)
	}
	return c.out, nil
}
