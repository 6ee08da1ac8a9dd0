package audit

import (
	"crypto/hmac"
	"fmt"
	"slices"
	"time"
)

// Finding is something that is wrong with a trail.
type Finding struct {
	Offset int64  `json:"offset"`
	What   string `json:"what"`
}

// Report is what a verification has found.
type Report struct {
	Records int64     `json:"records"`
	Chains  int       `json:"chains"`
	From    time.Time `json:"from,omitzero"`
	To      time.Time `json:"to,omitzero"`
	// Head is the newest record. Whoever keeps it elsewhere can ask for it the next time: what is cut off at the end of a
	// trail shows in nothing else.
	Head *Place `json:"head,omitempty"`
	// Findings are at most maxFindings; More counts the others.
	Findings []Finding `json:"findings"`
	More     int       `json:"more,omitempty"`
	// Coded says whether the codes of the records were checked, which takes the key.
	Coded bool `json:"coded"`
}

// Whole says that nothing is wrong.
func (r Report) Whole() bool { return len(r.Findings) == 0 }

const maxFindings = 100

// verifier walks over a trail, from its beginning to its end.
type verifier struct {
	key    []byte // nil: codes are not checked
	expect *Place
	report Report
	next   int64 // the offset that comes next
	hashes []string
	chains map[string]*walked
}

// walked is how far a chain has been followed.
type walked struct {
	next   int64
	prev   string
	offset int64 // of its newest record
}

func newVerifier(key []byte, expect *Place) *verifier {
	return &verifier{key: key, expect: expect, chains: map[string]*walked{}, report: Report{Findings: []Finding{}, Coded: key != nil}}
}

func (v *verifier) find(offset int64, format string, args ...any) {
	if len(v.report.Findings) >= maxFindings {
		v.report.More++
		return
	}
	v.report.Findings = append(v.report.Findings, Finding{offset, fmt.Sprintf(format, args...)})
}

// record looks at the next record.
func (v *verifier) record(offset int64, value, given []byte) {
	if offset > v.next {
		v.find(v.next, "the records from offset %d to %d are gone", v.next, offset-1)
	}
	for int64(len(v.hashes)) < offset {
		v.hashes = append(v.hashes, "") // unknown
	}
	hash := Hash(value)
	v.hashes, v.next = append(v.hashes, hash), offset+1
	v.report.Records++
	v.report.Head = &Place{offset, hash}
	if v.key != nil && !hmac.Equal(given, code(v.key, value)) {
		v.find(offset, "its code is not that of the key: it was changed, or put in by somebody without the key")
	}
	e, err := Decode(value)
	if err != nil {
		v.find(offset, "%s: it was changed or put in", err)
		return
	}
	if v.report.From.IsZero() || e.At.Before(v.report.From) {
		v.report.From = e.At
	}
	if e.At.After(v.report.To) {
		v.report.To = e.At
	}
	v.link(offset, e, hash)
	v.seen(offset, e)
}

// link holds a record against the one before it in its chain.
func (v *verifier) link(offset int64, e Entry, hash string) {
	c := v.chains[e.Chain]
	switch {
	case c == nil && (e.Seq != 0 || e.Prev != ""):
		v.find(offset, "it is number %d of chain %s, of which the beginning is gone", e.Seq, e.Chain)
	case c == nil:
	case e.Seq < c.next:
		v.find(offset, "it is number %d of chain %s, which has that one already: it was put in", e.Seq, e.Chain)
		return // the chain goes on behind the true one
	case e.Seq > c.next:
		v.find(offset, "numbers %d to %d of chain %s are gone between offset %d and this one", c.next, e.Seq-1, e.Chain, c.offset)
	case e.Prev != c.prev:
		v.find(c.offset, "it is not the record that number %d of its chain, at offset %d, was written after: one of the two was changed", e.Seq, offset)
	}
	v.chains[e.Chain] = &walked{e.Seq + 1, hash, offset}
}

// seen holds the record that an entry tells of against the one that is there.
func (v *verifier) seen(offset int64, e Entry) {
	switch s := e.Seen; {
	case s == nil:
	case s.Offset >= offset:
		v.find(offset, "it tells of a record at offset %d, which came later: records before it are gone", s.Offset)
	case s.Offset >= 0 && v.hashes[s.Offset] != "" && v.hashes[s.Offset] != s.Hash:
		v.find(s.Offset, "it is not the record that offset %d tells of: it was changed", offset)
	}
}

// end returns what was found, with the end of the topic.
func (v *verifier) end(end int64) Report {
	if end > v.next {
		v.find(v.next, "the records from offset %d to %d are gone", v.next, end-1)
	}
	if p := v.expect; p != nil {
		switch {
		case p.Offset >= int64(len(v.hashes)):
			v.find(p.Offset, "the trail ends before the record that was expected here: it was cut off")
		case v.hashes[p.Offset] != "" && v.hashes[p.Offset] != p.Hash:
			v.find(p.Offset, "it is not the record that was expected here: it was changed")
		}
	}
	v.report.Chains = len(v.chains)
	slices.SortStableFunc(v.report.Findings, func(a, b Finding) int { return int(a.Offset - b.Offset) })
	return v.report
}
