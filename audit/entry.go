// Package audit keeps the audit trail: who did what, to what, with which
// outcome, in a topic to which records are only ever added, and which shows when
// one was taken away, changed or put in.
//
// Every worker adds a chain of its own: each record holds the hash of the one
// before it in its chain, and the hash of the newest record of the topic that the
// worker has seen, so that the chains hold each other as well. With a key
// (audit.key) each record carries a code of its own, and nobody without the key can add one.
//
// Easy to get wrong: a record whose write failed may be in the topic all the same, or not.
// A chain therefore ends with the first write that is not confirmed, and another one begins.
package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Outcome is what became of something.
type Outcome string

// The outcomes. A change has two records: that it is attempted, which has to be in the topic before anything is done, and
// what became of it.
const (
	Attempted Outcome = "attempted"
	Done      Outcome = "done"
	Refused   Outcome = "refused" // for what it asked: 4xx
	Failed    Outcome = "failed"  // 5xx, or cut off
	Denied    Outcome = "denied"  // by the roles
)

// Kind says who acted.
type Kind string

// The kinds. Entries of people have none in the topic.
const (
	People  Kind = "people"
	Machine Kind = "machine" // a worker, by itself
)

// What machines do.
const (
	TookLead   = "machine:TookLead"
	EndedLead  = "machine:EndedLead"
	Began      = "machine:Began"      // a connector or task: what it uses is in Entry.Use
	Ended      = "machine:Ended"      // a connector or task
	Fenced     = "machine:Fenced"     // a task has shut former writers out of the target
	Rotated    = "machine:Rotated"    // a connector or task uses another version of a secret, or could not
	EventsLost = "machine:EventsLost" // a worker did more than it could write down
)

// Entry is one record. It holds references to secrets at most, never values.
type Entry struct {
	// Chain, Seq and Prev are its place: the Seq-th of Chain, from 0, after the record of that hash.
	Chain string `json:"chain"`
	Seq   int64  `json:"seq"`
	Prev  string `json:"prev,omitempty"`
	// Seen is the newest record of the topic that the worker knew of.
	Seen *Place `json:"seen,omitempty"`

	At      time.Time `json:"at"`
	Cluster string    `json:"cluster"` // group.id
	Worker  string    `json:"worker"`

	Kind    Kind   `json:"kind,omitempty"`
	User    string `json:"user,omitempty"`
	How     string `json:"how,omitempty"` // authenticated
	Address string `json:"address,omitempty"`
	// Via is the worker that forwarded the request.
	Via string `json:"via,omitempty"`
	// Request is the X-Request-Id.
	Request  string  `json:"request,omitempty"`
	Action   string  `json:"action"`
	Resource string  `json:"resource"`
	Outcome  Outcome `json:"outcome"`
	Status   int     `json:"status,omitempty"` // of the HTTP answer
	// Rule is the statement that allowed or denied it.
	Rule string `json:"rule,omitempty"`
	// Changed are the keys of a configuration, or the fields of a connection or an app, that were to change.
	Changed []string `json:"changed,omitempty"`
	// References are those of Changed whose references to secrets were to change, and how.
	References []ReferenceChange `json:"references,omitempty"`
	Reason     string            `json:"reason,omitempty"`
	// Use is what a connector or task that acts works with.
	Use *Use `json:"use,omitempty"`
}

// Use is what a connector or task works with.
type Use struct {
	Task       int      `json:"task"` // -1: the connector itself
	Generation int64    `json:"generation"`
	Clients    []Client `json:"clients,omitempty"`
	// Topics are those of the source that a task copies, or that it writes to; the first MaxTopics of them.
	Topics []string `json:"topics,omitempty"`
}

// MaxTopics bounds the topics of one entry.
const MaxTopics = 100

// Client is a Kafka client: where it is, as whom, and by what.
type Client struct {
	Role        string       `json:"role"`
	Cluster     string       `json:"cluster"` // its bootstrap servers, as written
	Principal   string       `json:"principal"`
	Credentials []Credential `json:"credentials,omitempty"`
}

// Credential is a reference to a secret, or a file with keys, and the version of it in the provider's terms, if it has any.
type Credential struct {
	Reference string `json:"reference"`
	Version   string `json:"version,omitempty"`
}

// ReferenceChange is what a key referred to, and what it was to refer to. A value has as many references as it likes, and what
// is written around them is never here.
type ReferenceChange struct {
	Key  string   `json:"key"`
	From []string `json:"from,omitempty"`
	To   []string `json:"to,omitempty"`
}

// Place is a record of the topic: its offset, and the SHA-256 of its value, in hex.
type Place struct {
	Offset int64  `json:"offset"`
	Hash   string `json:"hash"`
}

func (p Place) String() string { return fmt.Sprintf("%d:%s", p.Offset, p.Hash) }

// ParsePlace reads what Place.String writes.
func ParsePlace(text string) (p Place, err error) {
	offset, hash, ok := strings.Cut(text, ":")
	if _, err := fmt.Sscanf(offset, "%d", &p.Offset); !ok || err != nil || p.Offset < 0 {
		return p, fmt.Errorf("%q is not OFFSET:HASH", text)
	}
	if b, err := hex.DecodeString(hash); err != nil || len(b) != sha256.Size {
		return p, fmt.Errorf("%q is not OFFSET:HASH", text)
	}
	p.Hash = hash
	return p, nil
}

// Hash returns the hash of a record's value.
func Hash(value []byte) string {
	sum := sha256.Sum256(value)
	return hex.EncodeToString(sum[:])
}

// codeHeader is the header of a record that holds its code, if there is a key.
const codeHeader = "code"

// code returns the HMAC-SHA256 of a record's value.
func code(key, value []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(value)
	return h.Sum(nil)
}

// Decode reads the value of a record.
func Decode(value []byte) (e Entry, err error) {
	if err := json.Unmarshal(value, &e); err != nil {
		return e, fmt.Errorf("not an entry of the audit trail: %w", err)
	}
	if e.Chain == "" || e.Seq < 0 || e.Action == "" || e.Outcome == "" {
		return e, errors.New("not an entry of the audit trail: it has no place in a chain, no action or no outcome")
	}
	return e, nil
}

// chain gives entries their places.
type chain struct {
	name string
	next int64
	prev string
}

// link returns the value of the chain's next record.
func (c *chain) link(e Entry) ([]byte, error) {
	e.Chain, e.Seq, e.Prev = c.name, c.next, c.prev
	return json.Marshal(e)
}

// linked moves the chain behind a record that is in the topic.
func (c *chain) linked(value []byte) { c.next, c.prev = c.next+1, Hash(value) }
