package rawcopy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// seeded returns random numbers, and says with which seed if the test fails.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

func noise(random *rand.Rand, n int) []byte {
	b := make([]byte, (n+7)/8*8)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], random.Uint64())
	}
	return b[:n]
}

func someStamp(random *rand.Rand) Stamp {
	return Stamp{ProducerID: int64(random.Uint64() >> 1), Epoch: int16(random.Uint32() >> 17), BaseSequence: int32(random.Uint32() >> 1), Transactional: random.IntN(2) == 0}
}

func TestPatchedCRCIsTheRightOne(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	sizes := []int{0, 1, 2, 7, 8, 4095, 4096, 4097, 1 << 20, 16<<20 - 1, 16 << 20, 16<<20 + 1, 40<<20 + 12345}
	for range 300 {
		sizes = append(sizes, random.IntN(70_000))
	}
	for _, size := range sizes {
		b := make(Batch, atRecords+size)
		copy(b, noise(random, min(len(b), 1<<20)))
		b[atMagic] = 2
		b.reseal()
		for range 3 { // also when it has been stamped before
			stamp := someStamp(random)
			payload := b[atCount:]
			before := slices.Clone(payload[:min(len(payload), 4096)])
			codec, delta, first, latest := b.Codec(), b.LastOffsetDelta(), b.FirstTimestamp(), b.MaxTimestamp()
			Rewrite(b, stamp)
			if !b.intact() {
				t.Fatalf("%d bytes: CRC %08x is not that of the content", size, b.CRC())
			}
			got := Stamp{b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), b.Transactional()}
			if got != stamp || b.BaseOffset() != 0 || b.LeaderEpoch() != -1 {
				t.Fatalf("%d bytes: got %+v at %d of epoch %d, want %+v", size, got, b.BaseOffset(), b.LeaderEpoch(), stamp)
			}
			if b.Attributes()&^(codecBits|transactionalBit) != 0 || b.Codec() != codec {
				t.Fatalf("%d bytes: attributes %#x", size, b.Attributes())
			}
			if b.LastOffsetDelta() != delta || b.FirstTimestamp() != first || b.MaxTimestamp() != latest || !bytes.Equal(payload[:len(before)], before) {
				t.Fatalf("%d bytes: something else has changed", size)
			}
		}
	}
}

// reseal is seal with the library's CRC, for large batches.
func (b Batch) reseal() { binary.BigEndian.PutUint32(b[atCRC:], b.sum()) }

func TestDamageStaysVisible(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	whole := header{base: 77, attributes: 4, lastDelta: 9, count: 10, producer: 5, epoch: 1, sequence: 100}.batch(noise(random, 300))
	for i := atCRC; i < len(whole); i++ {
		for bit := range 8 {
			b := slices.Clone(whole)
			b[i] ^= 1 << bit
			Rewrite(b, someStamp(random))
			Rewrite(b, someStamp(random))
			if b.intact() {
				t.Fatalf("bit %d of byte %d was flipped, and the CRC says that all is well", bit, i)
			}
		}
	}
}

func TestSamePayload(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	source := header{base: 77, attributes: 3 | transactionalBit, lastDelta: 9, count: 10, first: 1, latest: 2, producer: 5, epoch: 1, sequence: 100}.batch(noise(random, 5000))
	target := slices.Clone(source)
	Rewrite(target, someStamp(random))
	target.setBaseOffset(123456)
	change := func(f func(Batch)) Batch {
		b := slices.Clone(target)
		f(b)
		return b.seal()
	}
	for name, row := range map[string]struct {
		target Batch
		want   bool
	}{
		"the raw copy":               {target, true},
		"itself":                     {source, true},
		"another count":              {change(func(b Batch) { b[atCount+3]++ }), false},
		"another codec":              {change(func(b Batch) { b[atAttributes+1] ^= 1 }), false},
		"another first time":         {change(func(b Batch) { b[atFirstTimestamp+7]++ }), false},
		"another largest time":       {change(func(b Batch) { b[atMaxTimestamp+7]++ }), false},
		"the time of append":         {change(func(b Batch) { b[atMaxTimestamp+7]++; b[atAttributes+1] |= appendTimeBit }), true},
		"another payload":            {change(func(b Batch) { b[len(b)-1]++ }), false},
		"another offset delta":       {change(func(b Batch) { b[atLastOffsetDelta+3]++ }), false},
		"shorter":                    {change(func(Batch) {})[:len(target)-1], false},
		"damaged since":              {func() Batch { b := slices.Clone(target); b[atCRC]++; return b }(), false},
		"a message of an old format": {Batch(vectors(t)["magic0-lz4"]), false},
	} {
		if got := SamePayload(source, row.target); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if SamePayload(Batch(vectors(t)["magic0-lz4"]), Batch(vectors(t)["magic0-lz4"])) {
		t.Error("old formats cannot be raw copies")
	}
}

func TestNothingIsAllocatedForARawBatch(t *testing.T) {
	log := slices.Concat([]byte(header{count: 1}.batch(make([]byte, 1000))), header{base: 1, count: 1, producer: 7, attributes: transactionalBit}.batch(make([]byte, 100_000)))
	aborter := &Aborter{}
	list := abortedList(8, 0, 9, 1, 7, 5)
	l := Limits{MaxBytes: 1 << 20, Codecs: 0x1f}
	copied := 0
	got := testing.AllocsPerRun(100, func() {
		aborter.Begin(list)
		for rest := log; ; {
			b, more, err := Split(rest)
			if err != nil || len(b) == 0 {
				return
			}
			if v, _ := Judge(b, 0, aborter, l); v == Raw {
				Rewrite(b, Stamp{ProducerID: 1})
				b.setBaseOffset(1)
				copied++
			}
			rest = more
		}
	})
	if got != 0 || copied == 0 {
		t.Errorf("%v allocations, %d copied", got, copied)
	}
	if got := testing.AllocsPerRun(100, func() { SamePayload(log, log) }); got != 0 {
		t.Errorf("SamePayload: %v allocations", got)
	}
}

func TestMultiplicationIsThatOfPolynomials(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	for range 100 {
		a, b, c := random.Uint32(), random.Uint32(), random.Uint32()
		if multiply(a, b) != multiply(b, a) || multiply(a, b^c) != multiply(a, b)^multiply(a, c) || multiply(a, polynomialOne) != a || multiply(multiply(a, b), c) != multiply(a, multiply(b, c)) {
			t.Fatal(fmt.Sprint(a, b, c))
		}
	}
}
