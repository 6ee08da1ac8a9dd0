package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"barnabas/audit"
	"barnabas/rest"
)

// TestFollowingMissesNoEntry has many more entries come at once than one page holds.
func TestFollowingMissesNoEntry(t *testing.T) {
	t.Parallel()
	const end = 1005
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		number := func(name string, otherwise int64) int64 {
			if n, err := strconv.ParseInt(r.URL.Query().Get(name), 10, 64); err == nil {
				return n
			}
			return otherwise
		}
		page, from := rest.AuditPage{Entries: []audit.Found{}}, number("after", -1)+1
		for offset := number("before", end) - 1; offset >= from; offset-- {
			if int64(len(page.Entries)) == number("limit", 100) {
				page.Next = offset + 1
				break
			}
			page.Entries = append(page.Entries, audit.Found{Offset: offset})
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(page)
	}))
	t.Cleanup(server.Close)
	client, err := rest.NewClient(rest.ClientOptions{URLs: []string{server.URL}})
	if err != nil {
		t.Fatal(err)
	}
	for last, want := range map[int64]int{-1: 100, 0: end, 1: end - 2, 700: end - 701, end - 1: 0} {
		page, err := newer(t.Context(), client, audit.Query{}, last)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Entries) != want {
			t.Errorf("after %d: %d entries, not %d", last, len(page.Entries), want)
		}
		for i, e := range page.Entries {
			if e.Offset != end-1-int64(i) {
				t.Fatalf("after %d: offset %d at place %d", last, e.Offset, i)
			}
		}
	}
}
