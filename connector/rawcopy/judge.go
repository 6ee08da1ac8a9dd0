package rawcopy

// Verdict says what becomes of a batch.
type Verdict uint8

// The verdicts.
const (
	Raw    Verdict = iota // goes to the target as it is
	Recode                // its records have to be looked at, and encoded anew
	Skip                  // there is nothing in it to copy
)

// Reason says why a batch is not copied raw.
type Reason uint8

const (
	reasonNone Reason = iota
	reasonControl
	reasonEmpty
	reasonAborted
	reasonBeforeStart
	reasonCompacted
	reasonResume
	reasonLogAppendTime
	reasonTooLarge
	reasonMagic
	reasonCodec
	reasonTransform
	reasonProvenance
	reasonCoalesced // not Judge's: small batches that wait are made one
	reasonRefused   // not Judge's: the target did not take it as it was
	lastReason      = reasonRefused
)

// Reasons is how many reasons there are, from 0, which is none.
const Reasons = int(lastReason) + 1

var reasonNames = [Reasons]string{
	"", "control", "empty", "aborted", "before-start", "compacted", "resume", "log-append-time", "too-large", "magic", "codec", "transform", "provenance", "coalesced", "refused",
}

// String returns the reason's name in metrics and statuses; none is "".
func (r Reason) String() string {
	if int(r) >= len(reasonNames) {
		return "unknown"
	}
	return reasonNames[r]
}

// Limits is what a partition of the target takes, and what was asked for.
type Limits struct {
	// MaxBytes bounds a batch (max.message.bytes of the target's topic); 0: nothing does.
	MaxBytes int32
	// KeepAppendTime: records whose timestamp is the source's time of append keep it. In a raw copy they would
	// get back the one that their producer gave them.
	KeepAppendTime bool
	// Transform: something wants to see each record.
	Transform bool
	// Mark, unless nil, is left on each record.
	Mark *Mark
	// Codecs has a bit for each codec that the target takes, by its number.
	Codecs uint8
}

// Judge says what becomes of b, by its header alone. want is the first offset
// that is still to be copied; a holds the aborted transactions of the fetch response that b is from, and
// is nil if uncommitted records are copied too. Batches are to be shown in the
// order of the log.
//
// No broker checks what is skipped. So Judge does: a damaged batch gets Recode
// instead of Skip, and Decode returns ErrCorrupt for it.
func Judge(b Batch, want int64, a *Aborter, l Limits) (Verdict, Reason) {
	if b.old() {
		if b.LastOffset() < want {
			return skip(b, reasonBeforeStart)
		}
		return Recode, reasonMagic
	}
	aborted := a != nil && a.aborts(b)
	switch count := b.Count(); {
	case b.Control():
		return skip(b, reasonControl)
	case count == 0:
		return skip(b, reasonEmpty)
	case aborted:
		return skip(b, reasonAborted)
	case b.LastOffset() < want:
		return skip(b, reasonBeforeStart)
	case b.BaseOffset() < want:
		return Recode, reasonResume
	case int64(count) != int64(b.LastOffsetDelta())+1:
		return Recode, reasonCompacted
	case l.KeepAppendTime && b.LogAppendTime():
		return Recode, reasonLogAppendTime
	case l.MaxBytes > 0 && int64(len(b)) > int64(l.MaxBytes):
		return Recode, reasonTooLarge
	case b.Magic() > 2:
		return Recode, reasonMagic
	case b.Codec() > lastCodec || l.Codecs>>b.Codec()&1 == 0:
		return Recode, reasonCodec
	case l.Transform:
		return Recode, reasonTransform
	case l.Mark != nil:
		return Recode, reasonProvenance
	}
	return Raw, reasonNone
}

func skip(b Batch, r Reason) (Verdict, Reason) {
	if b.intact() {
		return Skip, r
	}
	return Recode, r
}
