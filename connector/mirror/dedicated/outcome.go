package dedicated

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Outcome is what becomes of one setting of a file.
type Outcome struct {
	Key     string `json:"key"`
	Becomes []Use  `json:"becomes,omitempty"`
	// Meaning says what a setting does that becomes no other.
	Meaning string `json:"meaning,omitempty"`
	// Ignored says why the setting has no effect.
	Ignored string `json:"ignored,omitempty"`
}

// Use is a setting of a worker or connector that comes from one of the file.
type Use struct {
	Link string `json:"link"`
	Part string `json:"part"` // WorkerPart, or the name of a connector
	Key  string `json:"key"`
}

// WorkerPart is the Part of a link's worker.
const WorkerPart = "worker"

func (u Use) compare(o Use) int {
	return cmp.Or(strings.Compare(u.Link, o.Link), strings.Compare(u.Part, o.Part), strings.Compare(u.Key, o.Key))
}

// Outcomes tells what becomes of each setting of the file, ordered by key.
func (f *File) Outcomes() []Outcome {
	// The rules of scope do not look at values: with its own key as the value of each, one sees where it goes.
	traced := &File{written: map[string]string{}, clusters: f.clusters, rest: f.rest}
	for key := range f.written {
		traced.written[key] = key
	}
	uses := map[string][]Use{}
	trace := func(l Link, part string, settings map[string]string) {
		for key, from := range settings {
			if _, ok := f.written[from]; ok {
				uses[from] = append(uses[from], Use{l.String(), part, key})
			}
		}
	}
	for _, l := range f.Links() {
		trace(l, WorkerPart, traced.workerWithOurs(l))
		for _, c := range f.Connectors(l) {
			if c.Off == "" {
				trace(l, c.Name, traced.connectorWithOurs(l, c.Name))
			}
		}
	}
	ignored := map[string]string{}
	for _, w := range f.warnings() {
		if _, ok := f.written[w.Key]; ok {
			ignored[w.Key] = w.Message
		}
	}
	var all []Outcome
	for _, key := range slices.Sorted(maps.Keys(f.written)) {
		o := Outcome{Key: key, Becomes: uses[key], Ignored: ignored[key], Meaning: f.meaning(key)}
		slices.SortFunc(o.Becomes, Use.compare)
		switch {
		case o.Ignored != "":
			o.Becomes, o.Meaning = nil, ""
		case len(o.Becomes) == 0 && o.Meaning == "":
			o.Ignored = "none of the links that run uses it"
		}
		all = append(all, o)
	}
	return all
}

// meaning is what a setting does besides becoming others.
func (f *File) meaning(key string) string {
	_, rest, ok := f.linkOf(key)
	switch {
	case key == keyClusters:
		return "the clusters, between which links run"
	case key == keyInternalREST:
		return "whether the process listens for other workers' requests, with /health and /metrics; without, they go through the internal topics"
	case ok && rest == keyEnabled:
		return "whether the link copies"
	case key == keyHeartbeats || ok && rest == keyHeartbeats:
		return "whether heartbeats are written, for which a link has a worker though it copies nothing"
	case slices.Contains(restNames, key) && f.rest, hasPrefix(key, restPrefixes) && f.rest:
		return "of the internal REST API"
	case strings.HasPrefix(key, "gossip."):
		return "where the workers of the file find each other; each link has a port of its own"
	}
	return ""
}
