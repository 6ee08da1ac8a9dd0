package clientconfig

import (
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
)

// rc2Permutation is PITABLE of RFC 2268: the digits of pi.
const rc2Permutation = "" +
	"d978f9c419ddb5ed28e9fd794aa0d89dc67e37832b76538e624c6488448bfba2" +
	"179a59f587b34f1361456d8d09817d32bd8f40eb86b77b0bf09521225c6b4e82" +
	"54d66593ce60b21c7356c014a78cf1dc1275ca1f3bbee4d1423dd430a33cb626" +
	"6fbf0eda4669075727f21d9bbc944303f811c7f690ef3ee706c3d52fc8661ed7" +
	"08e8eade8052eef784aa72ac354d6a2a961ad2715a1549744b9fd05e0418a4ec" +
	"c2e0416e0f51cbcc2491af50a1f47039997c3a8523b8b47afc02365b25559731" +
	"2d5dfa98e38a92ae05df2910676cbac9d300e6cfe19ea82c6316013f58e289a9" +
	"0d38341bab33ffb0bb480c5fb9b1cd2ec5f3db47e5a59c770aa62068fe7fc1ad"

// rc2 decrypts with RC2, which old stores are encrypted with: OpenSSL before 3.0 and Java before 8u301 did so by
// default. It is no secret to anybody who tries 2^40 keys.
type rc2 struct{ key [64]uint16 }

// newRC2 expands key (RFC 2268, 2) to an effective length of its own bits.
func newRC2(key []byte) (cipher.Block, error) {
	table, err := hex.DecodeString(rc2Permutation)
	if err != nil || len(key) == 0 || len(key) > 128 {
		return nil, errKeyFormat
	}
	var l [128]byte
	copy(l[:], key)
	t8 := len(key)
	for i := t8; i < 128; i++ {
		l[i] = table[l[i-1]+l[i-t8]]
	}
	l[128-t8] = table[l[128-t8]]
	for i := 127 - t8; i >= 0; i-- {
		l[i] = table[l[i+1]^l[i+t8]]
	}
	c := new(rc2)
	for i := range c.key {
		c.key[i] = binary.LittleEndian.Uint16(l[2*i:])
	}
	return c, nil
}

// BlockSize is 8.
func (*rc2) BlockSize() int { return 8 }

// Encrypt is not needed: nothing is written here.
func (*rc2) Encrypt(_, _ []byte) { panic("rc2: only decrypts") }

// Decrypt undoes five, six and five rounds of mixing with mashing between them (RFC 2268, 4).
func (c *rc2) Decrypt(dst, src []byte) {
	var r [4]uint16
	for i := range r {
		r[i] = binary.LittleEndian.Uint16(src[2*i:])
	}
	j := len(c.key)
	unmix := func(rounds int) {
		for range rounds {
			for i := 3; i >= 0; i-- {
				j--
				r[i] = bits.RotateLeft16(r[i], -[4]int{1, 2, 3, 5}[i])
				r[i] -= c.key[j] + r[(i+3)%4]&r[(i+2)%4] + ^r[(i+3)%4]&r[(i+1)%4]
			}
		}
	}
	unmash := func() {
		for i := 3; i >= 0; i-- {
			r[i] -= c.key[r[(i+3)%4]&63]
		}
	}
	unmix(5)
	unmash()
	unmix(6)
	unmash()
	unmix(5)
	for i := range r {
		binary.LittleEndian.PutUint16(dst[2*i:], r[i])
	}
}
