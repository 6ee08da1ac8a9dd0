package mirror

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"barnabas/connector/offsetrun"
)

// hopEnd is a topic of a cluster.
type hopEnd struct {
	cluster string
	topic   [16]byte
}

func (e hopEnd) compare(o hopEnd) int {
	return cmp.Or(strings.Compare(e.cluster, o.cluster), slices.Compare(e.topic[:], o.topic[:]))
}

// circle is a link between two topics, and the copies by which the source is filled.
type circle struct {
	source, target hopEnd
	hops           []offsetrun.Hop
}

// yields says whether the link has to give way: copies lead from its target back to its source, among which no topic comes
// behind the source, and not all of them leave marks. So in each circle exactly one link gives way. It returns from where the last copy
// is, and over how many clusters the circle goes; 0: it need not.
func (c circle) yields(marks bool) (last [16]byte, clusters int) {
	type place struct {
		topic  [16]byte
		marked bool // all on the way here are
	}
	if c.target.compare(c.source) >= 0 {
		return last, 0
	}
	length := map[place]int{{c.target.topic, marks}: 2}
	for queue := []place{{c.target.topic, marks}}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, h := range c.hops {
			from := hopEnd{h.Cluster, h.Topic}
			if h.Topic != at.topic || h.Topic != c.target.topic && from.compare(c.source) >= 0 {
				continue
			}
			next := place{h.Into, at.marked && h.Marked}
			if h.Into == c.source.topic {
				if !next.marked {
					return h.Topic, length[at]
				}
				continue
			}
			if length[next] == 0 {
				length[next] = length[at] + 1
				queue = append(queue, next)
			}
		}
	}
	return last, 0
}

// addHops adds hops that are not there, and drops those beyond the bound: what is near comes first.
func addHops(hops []offsetrun.Hop, more ...offsetrun.Hop) []offsetrun.Hop {
	for _, h := range more {
		if len(hops) < offsetrun.MaxHops && !slices.Contains(hops, h) {
			hops = append(hops, h)
		}
	}
	return hops
}

// elsewhere leaves out the hops into a topic: those that its readers see themselves. Heard from others, what ended long ago would
// go round in a circle for ever.
func elsewhere(hops []offsetrun.Hop, into [16]byte) []offsetrun.Hop {
	return slices.DeleteFunc(slices.Clone(hops), func(h offsetrun.Hop) bool { return h.Into == into })
}

// leading returns the hops by which records get into a topic, in a fixed order.
func leading(hops []offsetrun.Hop, into [16]byte) []offsetrun.Hop {
	reached := [][16]byte{into}
	for i := 0; i < len(reached); i++ {
		for _, h := range hops {
			if h.Into == reached[i] && !slices.Contains(reached, h.Topic) {
				reached = append(reached, h.Topic)
			}
		}
	}
	hops = slices.DeleteFunc(slices.Clone(hops), func(h offsetrun.Hop) bool { return !slices.Contains(reached, h.Into) })
	slices.SortFunc(hops, func(a, b offsetrun.Hop) int {
		return cmp.Or(slices.Compare(a.Topic[:], b.Topic[:]), slices.Compare(a.Into[:], b.Into[:]), strings.Compare(a.Cluster, b.Cluster))
	})
	return hops
}

// maxUpstream bounds what a task's configuration says of hops, in bytes: it is a record of the config topic, of at most 1 MiB in all.
const maxUpstream = 256 << 10

// formatUpstream writes the hops of the topics of partitions: TOPIC, INTO, marked or not, and CLUSTER. It is empty if there are none.
func formatUpstream(upstream map[string][]offsetrun.Hop, partitions string) string {
	all, size, before := map[string][]string{}, 0, ""
	assigned, err := parsePartitions(partitions)
	if err != nil {
		return ""
	}
	for _, p := range assigned {
		if p.topic == before {
			continue
		}
		before = p.topic
		var texts []string
		for _, h := range upstream[p.topic] {
			marked := "-"
			if h.Marked {
				marked = "m"
			}
			text := strings.Join([]string{base64.RawURLEncoding.EncodeToString(h.Topic[:]), base64.RawURLEncoding.EncodeToString(h.Into[:]), marked, h.Cluster}, " ")
			texts = append(texts, text)
			size += len(text)
		}
		if size += len(p.topic); len(texts) > 0 && size < maxUpstream {
			all[p.topic] = texts
		}
	}
	if len(all) == 0 {
		return ""
	}
	text, err := json.Marshal(all)
	if err != nil {
		return ""
	}
	return string(text)
}

// parseUpstream reads what formatUpstream wrote; what cannot be read is not known.
func parseUpstream(text string) map[string][]offsetrun.Hop {
	var all map[string][]string
	if text == "" || json.Unmarshal([]byte(text), &all) != nil {
		return nil
	}
	upstream := map[string][]offsetrun.Hop{}
	for topic, texts := range all {
		for _, one := range texts {
			parts := strings.SplitN(one, " ", 4)
			if len(parts) != 4 {
				continue
			}
			h := offsetrun.Hop{Marked: parts[2] == "m", Cluster: parts[3]}
			from, err1 := base64.RawURLEncoding.DecodeString(parts[0])
			into, err2 := base64.RawURLEncoding.DecodeString(parts[1])
			if err1 == nil && err2 == nil && len(from) == 16 && len(into) == 16 {
				copy(h.Topic[:], from)
				copy(h.Into[:], into)
				upstream[topic] = addHops(upstream[topic], h)
			}
		}
	}
	return upstream
}
