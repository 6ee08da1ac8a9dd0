package aws

import (
	"strings"
	"testing"

	"barnabas/configprovider/remote"
)

// A key has a name, and perhaps a time to live, which is never less than nothing; a name stays within allowed.paths, with and
// without a version or label behind it.
func FuzzKeys(f *testing.F) {
	for _, seed := range []string{"password", "password?ttl=300000", "password?ttl=-1", "password?ttl=99999999999", "password?ttl=", "/orders/db:3", "/orders/db:label", "/orders/db:3:4", "/orders/../x", "?ttl=1", "/payments/db", "/orders/db:a/b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		name, ttl := split(key)
		if ttl < 0 || ttl == 0 && name != key || ttl > 0 && !strings.HasPrefix(key, name+"?ttl=") {
			t.Errorf("%q is %q for %s", key, name, ttl)
		}
		p := parameters{&account{allowed: remote.Allowed{"orders"}}}
		plain, selector, _ := strings.Cut(name, ":")
		if p.may(name) == nil && (!strings.HasPrefix(strings.Trim(plain, "/")+"/", "orders/") || strings.Contains(plain, "..") && remote.Name(plain) != nil || strings.ContainsAny(selector, "/:?%#")) {
			t.Errorf("%q may be read", name)
		}
	})
}
