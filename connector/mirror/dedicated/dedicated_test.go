package dedicated

import (
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"barnabas/config"
)

// answer is what MirrorMakerConfig made of a file (testdata/Vectors.java).
type answer struct {
	Error        string
	Clusters     []string
	InternalREST bool `json:"internal.rest"`
	Links        map[string]map[string]map[string]string
}

// refusedHere are files that MirrorMaker's class takes, and what we say to them: it fails with them when it runs, or does nothing.
var refusedHere = map[string]string{
	"alone":          "no link between two of the clusters A is enabled: write for example A->OTHER.enabled=true",
	"empty-clusters": "Configuration 'clusters' must not be empty. Valid values include: any non-empty value",
	"bad-connector":  `Missing required configuration "A.bootstrap.servers": where cluster A is`,
	"bad-inside":     `Missing required configuration "A.bootstrap.servers": where cluster A is`,
	"bad-listeners":  `Missing required configuration "A.bootstrap.servers": where cluster A is`,
	"rest":           `Missing required configuration "A.bootstrap.servers": where cluster A is`,
}

func TestAFileReadsAsMirrorMakerConfigReadsIt(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/cases/*.properties")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".properties")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			written, err := config.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(strings.TrimSuffix(path, ".properties") + ".json")
			if err != nil {
				t.Fatal(err)
			}
			var want answer
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			f, problems, _ := Parse(written)
			if refused := cmp.Or(want.Error, refusedHere[name]); refused != "" {
				if len(problems) == 0 || problems[0].Message != refused {
					t.Errorf("problems %v, want first %q", problems, refused)
				}
			} else if len(problems) > 0 {
				t.Errorf("problems %v, want none", problems)
			}
			if want.Error != "" {
				return
			}
			compare(t, f, want)
		})
	}
}

// compare holds what f says against MirrorMaker's answer, key by key.
func compare(t *testing.T, f *File, want answer) {
	t.Helper()
	if !slices.Equal(f.Clusters(), want.Clusters) || f.InternalREST() != want.InternalREST {
		t.Errorf("clusters %v, internal REST API %v, want %v, %v", f.Clusters(), f.InternalREST(), want.Clusters, want.InternalREST)
	}
	var links []string
	for _, l := range f.Links() {
		links = append(links, l.String())
	}
	if wanted := slices.Sorted(maps.Keys(want.Links)); !slices.Equal(slices.Sorted(slices.Values(links)), wanted) {
		t.Fatalf("links %q, want %q", links, wanted)
	}
	for _, l := range f.Links() {
		link := want.Links[l.String()]
		if diff := gocmp.Diff(link["worker"], f.worker(l)); diff != "" {
			t.Errorf("worker of %s (-MirrorMaker +ours):\n%s", l, diff)
		}
		for _, c := range f.Connectors(l) {
			if diff := gocmp.Diff(link[c.Name], f.connector(l, c.Name)); diff != "" {
				t.Errorf("%s of %s (-MirrorMaker +ours):\n%s", c.Name, l, diff)
			}
			// What we do differently: names that would be the same for all three.
			link[c.Name]["name"], link[c.Name]["connector.class"] = c.Name, c.Class
			if diff := gocmp.Diff(link[c.Name], c.Config); diff != "" {
				t.Errorf("%s of %s as it is run (-MirrorMaker +ours):\n%s", c.Name, l, diff)
			}
		}
	}
}

func parse(t *testing.T, text string) (*File, []config.Problem, []config.Warning) {
	t.Helper()
	written, err := config.ParseProperties(text)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(written)
}

const two = "clusters=A,B\nA.bootstrap.servers=a:1\nB.bootstrap.servers=b:1\nA->B.enabled=true\n"

func TestASettingWithoutEffectIsTold(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ line, want string }{
		{"A->B.tasks.max=3", ""},
		{"A->B.source.consumer.max.poll.records=3", ""},
		{"tasks.max=3", ""},
		{"B.producer.linger.ms=3", ""},
		{"B.offset.flush.interval.ms=3", ""},
		{"gap.policy=stop", ""},
		{"gossip.secret=x", ""},
		{"replication.factr=3", `unknown key "replication.factr" is ignored; did you mean "replication.factor"?`},
		{"tasks.maxx=3", `unknown key "tasks.maxx" is ignored; did you mean "tasks.max"?`},
		{"task.shutdown.graceful.timeout.ms=3", ""},
		{"A->B.topcis=x", `unknown key "A->B.topcis" is ignored; did you mean "A->B.topics"?`},
		{"a.bootstrap.servers=x", `unknown key "a.bootstrap.servers" is ignored; did you mean "A.bootstrap.servers"?`},
		{"A.securty.protocol=x", `unknown key "A.securty.protocol" is ignored; did you mean "A.security.protocol"?`},
		{"A->C.enabled=true", `"A->C.enabled" is of the link A->C, and clusters has only A, B`},
		{"A.topics=x", "A.topics has no effect: topics is of a link, not of a cluster: write A->B.topics"},
		{"exactly.once.source.support=enabled", "exactly.once.source.support has no effect without the name of a cluster, as in MirrorMaker: write B.exactly.once.source.support"},
		{"consumer.isolation.level=read_committed", "consumer.isolation.level has no effect without the name of a cluster, as in MirrorMaker: write A.consumer.isolation.level"},
		{"offset.storage.replication.factor=1\nB.offset.storage.replication.factor=2", "B.offset.storage.replication.factor has no effect: offset.storage.replication.factor without the name of a cluster comes first, as in MirrorMaker"},
		{"listeners=http://:1", "listeners has no effect: there is no REST API unless dedicated.mode.enable.internal.rest=true"},
		{"A -> B.enabled = true", `a blank ends the key "A": write A->… without blanks`},
		{
			"B->A.enabled=true\nreplication.policy.class=org.apache.kafka.connect.mirror.IdentityReplicationPolicy",
			"A->B and B->A both keep the names of topics: one that both copy runs in a circle, and is left out on one of the ways once that shows",
		},
		{"xyz=1", `unknown key "xyz" is ignored`},
	} {
		_, problems, warnings := parse(t, two+row.line)
		var got []string
		for _, w := range warnings {
			got = append(got, w.Message)
		}
		if said := strings.Join(got, "; "); said != row.want || len(problems) > 0 {
			t.Errorf("%s: %q, problems %v, want %q", row.line, said, problems, row.want)
		}
	}
}

func TestAFileThatCannotRunIsRefusedWithItsReason(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ text, want string }{
		{"A.bootstrap.servers=a:1", `Missing required configuration "clusters" which has no default value.`},
		{"clusters=A,B\nA.bootstrap.servers=a:1\nb.bootstrap.servers=b:1", `Missing required configuration "B.bootstrap.servers": where cluster B is; there is "b.bootstrap.servers"`},
		{"clusters=A,B\nemit.heartbeats.enabled=false", "no link between two of the clusters A, B is enabled: write for example A->B.enabled=true"},
	} {
		_, problems, _ := parse(t, row.text)
		if len(problems) != 1 || problems[0].Message != row.want {
			t.Errorf("%q: %v, want %q", row.text, problems, row.want)
		}
	}
}

func TestAConnectorThatWouldDoNothingIsOff(t *testing.T) {
	t.Parallel()
	f, _, _ := parse(t, two+"A->B.emit.checkpoints.enabled=false\n")
	got := map[string]string{}
	for _, l := range f.Links() {
		for _, c := range f.Connectors(l) {
			got[l.String()+" "+c.Name] = c.Off
		}
	}
	want := map[string]string{
		"A->B MirrorSourceConnector": "", "A->B MirrorHeartbeatConnector": "", "A->B MirrorCheckpointConnector": "emit.checkpoints.enabled=false",
		"B->A MirrorSourceConnector": "the link is not enabled", "B->A MirrorHeartbeatConnector": "", "B->A MirrorCheckpointConnector": "the link is not enabled",
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryLinkHasAGossipAddressOfItsOwn(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ lines, first, second string }{
		{"", "127.0.0.1:0  ", "127.0.0.1:0  "},
		{"gossip.secret=${env:S}", "0.0.0.0:0  ", "0.0.0.0:0  "},
		{"gossip.bind=10.0.0.1:7000\ngossip.advertise=me:8000\ngossip.join=one:7000, two", "10.0.0.1:7000 me:8000 one:7000,two:7946", "10.0.0.1:7001 me:8001 one:7001,two:7947"},
		{"B.gossip.bind=10.0.0.2:7000\ngossip.bind=10.0.0.1:9000", "10.0.0.2:7000  ", "10.0.0.1:9001  "},
	} {
		f, _, _ := parse(t, two+row.lines)
		links := f.Links()
		for i, want := range []string{row.first, row.second} {
			s := f.Worker(links[i])
			if got := s["gossip.bind"] + " " + s["gossip.advertise"] + " " + s["gossip.join"]; got != want {
				t.Errorf("%q: %s has %q, want %q", row.lines, links[i], got, want)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/cases/*.properties")
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		written, err := config.ParseProperties(text)
		if err != nil {
			return
		}
		before := maps.Clone(written)
		file, problems, _ := Parse(written)
		for _, l := range file.Links() {
			if len(problems) == 0 && file.Worker(l)["bootstrap.servers"] == "" {
				t.Errorf("a worker of %s without a cluster, and no problem", l)
			}
			for _, c := range file.Connectors(l) {
				if c.Config["name"] != c.Name {
					t.Errorf("%s of %s is called %q", c.Name, l, c.Config["name"])
				}
			}
		}
		if !maps.Equal(before, written) {
			t.Error("the settings have been changed")
		}
	})
}
