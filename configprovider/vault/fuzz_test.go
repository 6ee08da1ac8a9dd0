package vault

import (
	"net/url"
	"strings"
	"testing"

	"barnabas/configprovider/remote"
)

// A path of a reference leads to no place where Vault tells of itself, and to none outside of allowed.paths.
func FuzzPaths(f *testing.F) {
	for _, seed := range []string{"secret/db", "secret/data/db", "sys/mounts", "SYS/x", "/sys/x", "secret/../sys/x", "ns/secret/db", "auth/token/lookup-self", "secret//db", "secret/d?b", "secret/%2e%2e/sys", "identity", "cubbyhole/x", "ä/b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		p, bound := &provider{}, &provider{allowed: remote.Allowed{"secret/team"}}
		if bound.may(path) == nil && !strings.HasPrefix(strings.Trim(path, "/")+"/", "secret/team/") {
			t.Errorf("%q is allowed", path)
		}
		name := strings.Trim(path, "/")
		if p.may(name) != nil {
			return
		}
		u := (&url.URL{Scheme: "https", Host: "h", Path: "/v1/"}).JoinPath(remote.Escape(name))
		if strings.TrimPrefix(u.Path, "/v1/") != name || u.Host != "h" {
			t.Errorf("%q leads to %s", path, u)
		}
		first, _, _ := strings.Cut(name, "/")
		for _, own := range reserved {
			if strings.EqualFold(first, own) {
				t.Errorf("%q is Vault's own", path)
			}
		}
	})
}
