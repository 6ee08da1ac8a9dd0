package herder

// This file sees to it that a change that is ordered again, because no answer came to the first order, is made once. Without it a
// deletion whose answer was lost would be repeated after the next leader has taken over, and would delete what somebody else had
// created in between. So who orders names the request, and what has been done of it stands in the log, in the transaction of
// the change itself.

// Done says that what a request ordered has been done.
type Done struct {
	// Number counts such records. The record that is Slots later takes its place.
	Number  int64  `json:"number"`
	Request string `json:"request"`           // and what was done of it
	Created bool   `json:"created,omitempty"` // see Reply
}

func (Done) record() {}

// Slots is how many requests are remembered. They are ordered again within a minute, or never.
const Slots = 8192

// Slot is the place of the record in the log.
func (d Done) Slot() int64 { return d.Number % Slots }

// done is what is remembered of requests.
type done struct {
	requests map[string]Done
	slots    map[int64]string
	next     int64
}

func newDone() done { return done{requests: map[string]Done{}, slots: map[int64]string{}, next: 1} }

func (d *done) apply(r Done) {
	if r.Number < 1 || r.Request == "" {
		return // no leader of ours wrote it
	}
	if old, taken := d.slots[r.Slot()]; taken {
		delete(d.requests, old)
	}
	d.slots[r.Slot()], d.requests[r.Request] = r.Request, r
	d.next = max(d.next, r.Number+1)
}

// once performs an order, unless it is done. What it does is part of its name: a request may order several changes, as that of an app
// which stops a connector and starts it again.
func (d *draft) once(q Ordered) Reply {
	request := madeName(q.Request, q.Order)
	if request == "" {
		return d.perform(q.Order)
	}
	if have, again := d.m.done.requests[request]; again {
		return Reply{Created: have.Created}
	}
	r := d.perform(q.Order)
	if r.Err == nil {
		d.records = append(d.records, Done{Number: d.m.done.next + d.done, Request: request, Created: r.Created})
		d.done++
	}
	return r
}

// madeName names what a request orders; empty, if it may be done again.
func madeName(request string, o Order) string {
	if request == "" {
		return ""
	}
	switch o := o.(type) {
	case PutConnector:
		return request + " put " + o.Name
	case DeleteConnector:
		return request + " delete " + o.Name
	case SetTarget:
		return request + " " + string(o.State) + " " + o.Name
	case PutDocument:
		return request + " write " + o.Document.Key
	case Together:
		if len(o.Orders) > 0 {
			return madeName(request, o.Orders[0])
		}
	}
	return ""
}

// Wrote tells whether a request has written a document already, and whether what that describes was made by it.
func (m *Machine) Wrote(request, key string) (written, created bool) {
	have, written := m.done.requests[madeName(request, PutDocument{Document: Document{Key: key}})]
	return written, have.Created
}
