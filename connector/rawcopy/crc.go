package rawcopy

import "hash/crc32"

// The CRC of a batch is CRC32C (Castagnoli) over all from its attributes on. CRCs are linear: when
// bytes change, the CRC changes by the CRC of the difference, shifted past the bytes behind it. So a
// changed header needs no look at the records, and if those are not what the CRC was made of, the
// CRC is as wrong afterwards as it was before: the target's broker refuses the batch.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Numbers here are polynomials over GF(2) modulo the CRC's, bits reflected: the highest bit is the
// factor of x^0.
const (
	reversedCastagnoli = 0x82f63b78
	polynomialOne      = 1 << 31
)

// multiply returns a·b. The four bytes of a are independent of each other, so that a processor can
// do them at once.
func multiply(a, b uint32) uint32 {
	b1 := byteOn(b)
	b2 := byteOn(b1)
	b3 := byteOn(b2)
	var p, q uint32
	for range 8 {
		p ^= b & -(a >> 31)
		q ^= b1 & -(a >> 23 & 1)
		p ^= b2 & -(a >> 15 & 1)
		q ^= b3 & -(a >> 7 & 1)
		a <<= 1
		b = b>>1 ^ reversedCastagnoli&-(b&1)
		b1 = b1>>1 ^ reversedCastagnoli&-(b1&1)
		b2 = b2>>1 ^ reversedCastagnoli&-(b2&1)
		b3 = b3>>1 ^ reversedCastagnoli&-(b3&1)
	}
	return p ^ q
}

// byteOn returns b·x^8.
func byteOn(b uint32) uint32 { return b>>8 ^ castagnoli[byte(b)] }

// A number of bytes is cut into digits of 12 bits: two multiplications shift past up to 16 MiB.
const (
	digitBits = 12
	digits    = 1 << digitBits
)

// shifts holds x^(8·n·4096^i) at [i][n].
var shifts = func() (t [3][digits]uint32) {
	unit := uint32(polynomialOne >> 8) // x^8
	for i := range t {
		power := uint32(polynomialOne)
		for n := range t[i] {
			t[i][n] = power
			power = multiply(power, unit)
		}
		unit = power
	}
	return t
}()

// shift returns what a difference of CRCs becomes n bytes further on. n is less than 2^36.
func shift(delta uint32, n int) uint32 {
	for i := range shifts {
		if digit := n & (digits - 1); digit != 0 {
			delta = multiply(delta, shifts[i][digit])
		}
		n >>= digitBits
	}
	return delta
}

// headerCRC returns the CRC of the part of the header that the batch's CRC covers. Those of two
// headers differ by what the CRCs of the batches differ by before the shift.
func (b Batch) headerCRC() uint32 { return crc32.Update(0, castagnoli, b[atAttributes:atRecords]) }

// intact says whether the CRC is that of the content. It reads all of the batch.
func (b Batch) intact() bool {
	if b.old() {
		return crc32.ChecksumIEEE(b[atMagic:]) == b.CRC()
	}
	return b.sum() == b.CRC()
}

// sum returns the CRC that a batch of magic 2 should have.
func (b Batch) sum() uint32 { return crc32.Checksum(b[atAttributes:], castagnoli) }
