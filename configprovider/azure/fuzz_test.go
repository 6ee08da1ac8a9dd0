package azure

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"barnabas/configprovider/remote"
)

// A reference asks only the vaults of the provider, and there only for a secret.
func FuzzReferences(f *testing.F) {
	for _, seed := range []string{"db", "db?version=abc", "team.vault.azure.net", "https://team.vault.azure.net/", "https://other.vault.azure.net", "other.example", "../keys/x", "db/versions", "a..b", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, written string) {
		p := &provider{vaults: []*url.URL{{Scheme: "https", Host: "team.vault.azure.net", Path: "/"}}}
		at := strings.TrimSuffix(strings.TrimPrefix(written, "https://"), "/")
		if strings.Contains(at, ".") { // a vault, of which nothing is asked here
			if _, err := p.Read(t.Context(), written, nil); (err == nil) != strings.EqualFold(at, "team.vault.azure.net") {
				t.Errorf("%q: %v", written, err)
			}
			return
		}
		name, options, err := remote.Pinned(written, "version")
		if err != nil || !secret.MatchString(name) || !version.MatchString(options["version"]) {
			return
		}
		place := path.Join("secrets", name, options["version"])
		if u := p.vaults[0].JoinPath(place); u.EscapedPath() != "/"+place || !strings.HasPrefix(u.Path, "/secrets/"+name) || u.RawQuery != "" {
			t.Errorf("%q asks for %s", written, u)
		}
	})
}
