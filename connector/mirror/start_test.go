package mirror

import (
	"strings"
	"testing"
)

func TestStartSettingsAreChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ key, value, wrong string }{
		{keyStartPosition, "earliest", ""},
		{keyStartPosition, "latest", ""},
		{keyStartPosition, "2027-01-31T12:00:00+01:00", ""},
		{keyStartPosition, "${file:/x:at}", ""},
		{keyStartPosition, "yesterday", "is not earliest, latest or a time"},
		{keyStartOffsets, "orders-0:17, orders-eu-1:4", ""},
		{keyStartOffsets, "orders:17", "is not like orders-0:17"},
		{keyStartOffsets, "orders-0:-1", "is not like orders-0:17"},
	} {
		found := ""
		for _, p := range validateSource(map[string]string{c.key: c.value}) {
			if p.Key == c.key {
				found += p.Message
			}
		}
		if (found != "") != (c.wrong != "") || !strings.Contains(found, c.wrong) {
			t.Errorf("%s=%s: %q, want %q", c.key, c.value, found, c.wrong)
		}
	}
}
