package gcp

import (
	"net/url"
	"strings"
	"testing"

	"barnabas/configprovider/remote"
)

// What a reference names becomes part of a request's path: a project, a secret and a version, and nothing that leads elsewhere.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{"db", "projects/other/secrets/db", "db?version=3", "db?version=latest", "db?projectid=other", "projects/../secrets/db", "db/../x", "a:access", "projects/x.y:z/secrets/db", "db?version=3/../4", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		name, options, err := remote.Pinned(path, "version", "projectid")
		m := secret.FindStringSubmatch(name)
		if err != nil || m == nil {
			return
		}
		for option, pattern := range map[string]interface{ MatchString(string) bool }{"version": version, "projectid": project} {
			if value := options[option]; value != "" && pattern.MatchString(value) && strings.ContainsAny(value, "/%?#\\ ") {
				t.Errorf("%q: %s %q", path, option, value)
			}
		}
		place := "v1/projects/" + url.PathEscape(m[2]+"p") + "/secrets/" + m[3] + "/versions/1:access"
		if u := (&url.URL{Scheme: "https", Host: "h", Path: "/"}).JoinPath(place); u.EscapedPath() != "/"+place || u.RawQuery != "" {
			t.Errorf("%q leads to %s, not to %s", path, u, place)
		}
	})
}
