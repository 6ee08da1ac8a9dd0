package kubernetes

import (
	"net/url"
	"strings"
	"testing"

	"barnabas/configprovider/remote"
)

// A path of a reference names one object, or none: whatever is in it, the request stays below that object's namespace.
func FuzzPaths(f *testing.F) {
	for _, seed := range []string{"db", "team/db", "secrets/team/db", "configmaps/team/db", "secrets/team", "../db", "team/..", "a/b/c/d", "", "team/db?watch=true", "Team/db", "team/d..b", "team/db%2f", "-/-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		p := &provider{resource: secrets, namespace: "own", allowed: remote.Allowed{"own", "team"}}
		o, err := p.objectOf(path)
		if err != nil {
			return
		}
		if o.resource != secrets && o.resource != configMaps || o.namespace != "own" && o.namespace != "team" {
			t.Errorf("%q is %+v", path, o)
		}
		place := "api/v1/namespaces/" + o.namespace + "/" + o.resource + "/" + o.name
		if u := (&url.URL{Scheme: "https", Host: "h", Path: "/"}).JoinPath(place); u.EscapedPath() != "/"+place || !strings.HasSuffix(path, o.name) {
			t.Errorf("%q leads to %s, not to %s", path, u, place)
		}
	})
}
