package mirror

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"barnabas/connector"
)

// notebook keeps what a connector has to say of itself: each thing is logged once, and shown until it is over.
type notebook struct {
	log    *slog.Logger
	report func([]connector.Note) // may be nil

	mu    sync.Mutex
	notes map[string]connector.Note // at most maxNotes, and maxOfAKind of each kind that only has
	// logged is when only has logged last.
	logged time.Time
}

// headings are the kinds of notes in the log.
var headings = map[string]string{
	aboutSettings: "settings of topics are not all synced",
	aboutACLs:     "ACLs of topics are not all synced",
	aboutDeleted:  "a topic was deleted at the source",
	aboutTarget:   "a topic is not copied, or not all of its partitions",
	aboutLoops:    "topics run in a circle",
	aboutGroups:   "a group is not translated, or not set at the target",
}

// maxNotes bounds the notes. What is beyond is only in the log.
const maxNotes = 200

func newNotebook(log *slog.Logger, report func([]connector.Note)) *notebook {
	return &notebook{log: log, report: report, notes: map[string]connector.Note{}}
}

// note says n, which key identifies: as a warning if it is news. A note without a time is of this moment.
func (b *notebook) note(ctx context.Context, key string, n connector.Note) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before, known := b.notes[key]
	if n.Since.IsZero() {
		n.Since = time.Now()
	}
	if known {
		n.Since = before.Since
	} else {
		b.log.WarnContext(ctx, headings[n.About], "note", n.Text)
	}
	if known && n == before || !known && len(b.notes) >= maxNotes {
		return
	}
	b.notes[key] = n
	b.show()
}

// over drops the note of key, and says whether there was one.
func (b *notebook) over(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.notes[key]; !known {
		return false
	}
	delete(b.notes, key)
	b.show()
	return true
}

// maxOfAKind bounds the notes that only keeps, of which there may be thousands.
const maxOfAKind = 100

// only has texts be all that there is to say about something; their keys identify them. Of many the first are shown, and how many more there
// are. What is new is logged as one line, at most once a minute.
func (b *notebook) only(ctx context.Context, about string, texts map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	keys := slices.Sorted(maps.Keys(texts))
	if more := len(keys) - maxOfAKind; more > 0 {
		keys, texts = keys[:maxOfAKind:maxOfAKind], maps.Clone(texts)
		texts[""] = fmt.Sprintf("and %d more", more)
		keys = append(keys, "")
	}
	before := maps.Clone(b.notes)
	maps.DeleteFunc(b.notes, func(_ string, n connector.Note) bool { return n.About == about })
	fresh, first := 0, ""
	for _, key := range keys {
		n := connector.Note{About: about, Text: texts[key], Since: time.Now()}
		if known, ok := before[about+key]; ok {
			n.Since = known.Since
		} else if fresh++; first == "" {
			first = n.Text
		}
		b.notes[about+key] = n
	}
	if maps.Equal(before, b.notes) {
		return
	}
	b.show()
	if now := time.Now(); fresh > 0 && now.Sub(b.logged) >= time.Minute {
		b.logged = now
		b.log.WarnContext(ctx, headings[about], "note", first, "all", len(texts))
	}
}

// show reports the notes in a fixed order. b.mu is held.
func (b *notebook) show() {
	if b.report == nil {
		return
	}
	b.report(slices.SortedFunc(maps.Values(b.notes), func(a, b connector.Note) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Text, b.Text))
	}))
}
