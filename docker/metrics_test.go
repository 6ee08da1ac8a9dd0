package docker_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// read parses a file of YAML, which JSON is, too.
func read(t *testing.T, name string, v any) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".json") {
		err = json.Unmarshal(text, v)
	} else {
		err = yaml.Unmarshal(text, v)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// TestMetricsServicesFindTheirFiles follows the paths from the compose file to the dashboard, and sees that make up alone
// does not start what shows metrics.
func TestMetricsServicesFindTheirFiles(t *testing.T) {
	t.Parallel()
	var compose struct {
		Services map[string]struct {
			Profiles, Volumes, Ports []string
			Environment              map[string]string
		}
	}
	read(t, "docker-compose.yml", &compose)
	at := map[string]string{} // in a container: here
	for name, s := range compose.Services {
		shows := name == "prometheus" || name == "grafana"
		if shows != slices.Equal(s.Profiles, []string{"metrics"}) {
			t.Errorf("%s has the profiles %q", name, s.Profiles)
		}
		if !shows {
			continue
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s is open to others at %s", name, p)
			}
		}
		for _, v := range s.Volumes {
			parts := strings.Split(v, ":")
			if len(parts) != 3 || parts[2] != "ro" {
				t.Fatalf("%s mounts %s", name, v)
			}
			at[parts[1]] = parts[0]
		}
	}
	here := func(path string) string {
		for inside, outside := range at {
			if rest, ok := strings.CutPrefix(path, inside); ok {
				return filepath.Join(outside, rest)
			}
		}
		t.Fatalf("%s is not mounted", path)
		return ""
	}
	var prometheus struct {
		Rules  []string `yaml:"rule_files"`
		Scrape []struct {
			Job string `yaml:"job_name"`
			DNS []struct {
				Names []string
				Type  string
				Port  int
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	read(t, here("/etc/prometheus/prometheus.yml"), &prometheus)
	if s := prometheus.Scrape; len(s) != 1 || len(s[0].DNS) != 1 || !slices.Equal(s[0].DNS[0].Names, []string{"worker"}) || s[0].DNS[0].Port != 8083 {
		t.Errorf("what is scraped: %+v", s)
	}
	for _, r := range prometheus.Rules {
		read(t, here(r), &struct{}{})
	}
	var sources struct {
		Datasources []struct{ UID, URL string }
	}
	read(t, here("/etc/grafana/provisioning/datasources/prometheus.yml"), &sources)
	var providers struct {
		Providers []struct {
			Options struct{ Path string }
		}
	}
	read(t, here("/etc/grafana/provisioning/dashboards/barnabas.yml"), &providers)
	if len(sources.Datasources) != 1 || len(providers.Providers) != 1 {
		t.Fatalf("%+v %+v", sources, providers)
	}
	if home := compose.Services["grafana"].Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]; filepath.Dir(home) != providers.Providers[0].Options.Path {
		t.Errorf("the first page is %s", home)
	}
	var dashboard struct {
		Panels []struct {
			ID         int
			Title      string
			Datasource struct{ UID string }
			GridPos    struct{ X, Y, W, H int }
		}
	}
	read(t, here(providers.Providers[0].Options.Path+"/barnabas.json"), &dashboard)
	seen := map[int]bool{}
	for _, p := range dashboard.Panels {
		if seen[p.ID] || p.Datasource.UID != sources.Datasources[0].UID || p.GridPos.X+p.GridPos.W > 24 || p.Title == "" {
			t.Errorf("panel %+v", p)
		}
		seen[p.ID] = true
	}
}
