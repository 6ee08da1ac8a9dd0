package rawcopy

import (
	"encoding/binary"
	"slices"

	"github.com/pierrec/lz4/v4"
)

// LZ4 frames are read and written here, and only their blocks by the library: its reader and writer keep
// buffers of 4 MiB, and in magic 0 the header's checksum is wrong on purpose (KAFKA-3160). The
// checksums of a frame are not looked at: the batch has one over all.
const (
	lz4Magic = 0x184d2204

	lz4VersionBits     = 0xc0
	lz4Version         = 0x40
	lz4Independent     = 0x20
	lz4BlockChecksums  = 0x10
	lz4ContentSize     = 0x08
	lz4ContentChecksum = 0x04
	lz4Dictionary      = 0x01

	lz4Stored = 1 << 31 // in a block's length: it is not compressed
	lz4Window = 64 << 10
	lz4Ratio  = 255
)

// decompressLZ4 appends what a frame becomes. What follows the frame is not looked at, as in
// Java's Lz4BlockInputStream.
func decompressLZ4(dst, frame []byte, limit int64) ([]byte, error) {
	if len(frame) < 7 || binary.LittleEndian.Uint32(frame) != lz4Magic {
		return nil, corrupt("no lz4 frame")
	}
	flags, largest := frame[4], int64(1)<<(8+2*(frame[5]>>4&7))
	if flags&lz4VersionBits != lz4Version || largest < 64<<10 || flags&lz4Dictionary != 0 {
		return nil, corrupt("lz4 frame of version and flags %#x with blocks of %d bytes", flags, largest)
	}
	at := 7
	if flags&lz4ContentSize != 0 {
		at += 8
	}
	dst = grow(dst, int(min(2*int64(len(frame)), limit)), limit)
	for {
		if len(frame) < at+4 {
			return nil, corrupt("lz4 frame without an end")
		}
		length := binary.LittleEndian.Uint32(frame[at:])
		at += 4
		if length == 0 {
			return dst, nil
		}
		stored := length&lz4Stored != 0
		length &^= lz4Stored
		if int64(length) > int64(len(frame)-at) || int64(length) > largest {
			return nil, corrupt("lz4 block of %d bytes", length)
		}
		block := frame[at : at+int(length)]
		var err error
		if dst, err = lz4Block(dst, block, flags, stored, largest, limit); err != nil {
			return nil, err
		}
		if at += int(length); flags&lz4BlockChecksums != 0 {
			at += 4
		}
	}
}

// lz4Block appends what one block becomes.
func lz4Block(dst, block []byte, flags byte, stored bool, largest, limit int64) ([]byte, error) {
	left := limit - int64(len(dst))
	if stored {
		if int64(len(block)) > left {
			return nil, tooLarge(limit)
		}
		return append(grow(dst, len(block), limit), block...), nil
	}
	room := min(largest, int64(len(block))*lz4Ratio)
	bounded := min(room, left)
	dst = grow(dst, int(bounded), limit)
	var history []byte
	if flags&lz4Independent == 0 {
		history = dst[max(0, len(dst)-lz4Window):]
	}
	n, err := lz4.UncompressBlockWithDict(block, dst[len(dst):len(dst)+int(bounded)], history)
	if err != nil {
		if bounded < room {
			return nil, tooLarge(limit)
		}
		return nil, err
	}
	return dst[:len(dst)+n], nil
}

// lz4FrameHeader is that of Java's producer: independent blocks of 64 KiB, no
// checksums but the header's own, which is its last byte.
var lz4FrameHeader = []byte{0x04, 0x22, 0x4d, 0x18, lz4Version | lz4Independent, 0x40, 0x82}

const lz4BlockSize = 64 << 10

type lz4Encoder struct{ lz4.Compressor }

// encode appends a frame.
func (e *lz4Encoder) encode(dst, source []byte) []byte {
	dst = append(dst, lz4FrameHeader...)
	for block := range slices.Chunk(source, lz4BlockSize) {
		at := len(dst)
		dst = slices.Grow(dst, 4+len(block))[:at+4+len(block)]
		length, err := e.CompressBlock(block, dst[at+4:])
		header := uint32(length)
		if err != nil || length == 0 || length >= len(block) {
			length = copy(dst[at+4:], block)
			header = uint32(length) | lz4Stored
		}
		binary.LittleEndian.PutUint32(dst[at:], header)
		dst = dst[:at+4+length]
	}
	return append(dst, 0, 0, 0, 0)
}
