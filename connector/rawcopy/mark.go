package rawcopy

// MarkHeader is the key of the headers that tell through which clusters a record has come: one for each, in order, whose
// value is the cluster's id.
const MarkHeader = "barnabas.provenance"

// Mark is what a link leaves on its records, so that they are known again where topics of one name run in a
// circle: the ids of the clusters that it copies between. A record that has been in either is left out. In the target it
// was before, and if it was in the source, then it has left that once already and has come round.
type Mark struct{ Source, Target string }

// Apply marks records and returns those that are to be copied, in the memory of the slice. left is how many are left out.
func (m *Mark) Apply(records []Record) (kept []Record, left int) {
	if m == nil {
		return records, 0
	}
	kept = records[:0]
	for _, r := range records {
		if m.known(&r) {
			left++
			continue
		}
		// What is decoded shares the memory behind its headers with the next record.
		n := len(r.Headers)
		r.Headers = append(r.Headers[:n:n], Header{Key: []byte(MarkHeader), Value: []byte(m.Source)})
		kept = append(kept, r)
	}
	clear(records[len(kept):])
	return kept, left
}

// known says whether a record has been in one of the two clusters before.
func (m *Mark) known(r *Record) bool {
	for _, h := range r.Headers {
		if string(h.Key) == MarkHeader && (string(h.Value) == m.Source || string(h.Value) == m.Target) {
			return true
		}
	}
	return false
}
