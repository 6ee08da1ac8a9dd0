package rest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"barnabas/worker"
)

// TestSettingsAreJudgedAsConnectDoes replays what e2e/record has asked Kafka Connect about versions of plugins, groups of topics to
// create and tasks.max.enforce.
func TestSettingsAreJudgedAsConnectDoes(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../e2e/vectors/settings.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		Class    string
		Settings map[string]string
		Status   int
		Count    int
		Errors   map[string][]string
	}
	if err := json.Unmarshal(raw, &rows); err != nil || len(rows) < 100 {
		t.Fatal(len(rows), err)
	}
	c := newCluster(t, 1)
	for _, row := range rows {
		file := row.Class != "MirrorSourceConnector"
		if file && row.Settings["transforms"] != "" {
			continue // file connectors run no transforms here
		}
		written := map[string]string{
			"name": "x", "connector.class": "org.apache.kafka.connect.mirror." + row.Class, "source.cluster.alias": "A", "target.cluster.alias": "B",
			"source.cluster.bootstrap.servers": c.bootstrap(), "target.cluster.bootstrap.servers": c.bootstrap(),
		}
		if file {
			topics := map[string]string{"FileStreamSourceConnector": "topic", "FileStreamSinkConnector": "topics"}[row.Class]
			written = map[string]string{"name": "x", "connector.class": "org.apache.kafka.connect.file." + row.Class, "file": filepath.Join(t.TempDir(), "lines"), topics: "lines"}
		}
		maps.Copy(written, row.Settings)
		text, err := json.Marshal(written)
		if err != nil {
			t.Fatal(err)
		}
		body := string(text)
		got := ask(t, c.nodes[0].url, "PUT", "/connector-plugins/"+row.Class+"/config/validate", map[string]string{"Content-Type": jsonType}, &body)
		var infos worker.ConfigInfos
		if err := json.Unmarshal([]byte(got.body), &infos); err != nil {
			t.Fatal(err, got.body)
		}
		found := map[string][]string{}
		for _, i := range infos.Configs {
			if len(i.Value.Errors) > 0 {
				found[i.Value.Name] = i.Value.Errors
			}
		}
		if row.Errors == nil {
			row.Errors = map[string][]string{}
		}
		if diff := cmp.Diff(row.Errors, found); got.status != row.Status || infos.ErrorCount != row.Count || diff != "" {
			t.Errorf("%s %v: %d with %d errors, want %d with %d (-Connect +Barnabas):\n%s", row.Class, row.Settings, got.status, infos.ErrorCount, row.Status, row.Count, diff)
		}
	}
}

// TestPluginsBesideConnectors asks for the list and for the settings of each.
func TestPluginsBesideConnectors(t *testing.T) {
	t.Parallel()
	n := newCluster(t, 1).nodes[0]
	only, err := n.client.Plugins(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := n.client.AllPlugins(t.Context())
	if err != nil || fmt.Sprint(all[:len(only)]) != fmt.Sprint(only) {
		t.Fatalf("%v %v", all, err)
	}
	kinds := map[string]int{}
	for _, p := range all[len(only):] {
		kinds[string(p.Type)]++
		if _, err := n.client.PluginConfig(t.Context(), p.Class); err != nil {
			t.Errorf("%s: %v", p.Class, err)
		}
	}
	if kinds["transformation"] != 8 || kinds["predicate"] != 3 || kinds["converter"] != 9 || kinds["header_converter"] != 10 {
		t.Errorf("kinds: %v", kinds)
	}
	for name, want := range map[string]int{"RegexRouter": 2, "Json": 6, "JsonConverter": 6, "Filter": 0, "org.apache.kafka.connect.transforms.MaskField$Value": 3, "TopicNameMatches": 1} {
		if keys, err := n.client.PluginConfig(t.Context(), name); err != nil || len(keys) != want {
			t.Errorf("%s: %d settings, %v, want %d", name, len(keys), err, want)
		}
	}
	for path, status := range map[string]int{"MirrorSource/config?version=4.3.1": 200, "RegexRouter/config?version=9.9": 400, "Cast$Key/config": 404} {
		if got := ask(t, n.url, "GET", "/connector-plugins/"+path, nil, nil); got.status != status {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
}
