package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/configprovider"
	"barnabas/worker/store"
)

// master returns a new master key as it is written.
func master() string {
	var key [keyBytes]byte
	_, _ = rand.Read(key[:])
	return base64.StdEncoding.EncodeToString(key[:])
}

func cluster(t *testing.T) []kgo.Opt {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return []kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...)}
}

// member is the registry of one worker.
type member struct {
	*Registry
	provider configprovider.Provider
}

func join(t *testing.T, client []kgo.Opt, params map[string]string) member {
	t.Helper()
	r := New()
	p, err := r.Kind().Open(config.Literal(params))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Ensure(t.Context(), store.EnsureOptions{Client: client}, r.StoreTopic()); err != nil {
		t.Fatal(err)
	}
	r.Connect(client, slog.New(slog.DiscardHandler), nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	within, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	if err := r.Ready(within); err != nil {
		t.Fatal(err)
	}
	return member{r, p}
}

func (m member) put(t *testing.T, path, key, value string) int64 {
	t.Helper()
	v, err := m.Put(t.Context(), path, key, config.NewSecret(value), "alice")
	if err != nil {
		t.Fatal(err)
	}
	return v.Version
}

// reads waits until the member reads these values, each after its key.
func (m member) reads(t *testing.T, path string, want ...string) configprovider.Data {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var keys []string
	for i := 0; i < len(want); i += 2 {
		keys = append(keys, want[i])
	}
	for {
		d, err := m.provider.Read(ctx, path, keys)
		var got []string
		for _, k := range keys {
			got = append(got, k, d.Values[k].Reveal())
		}
		if err == nil && slices.Equal(got, want) {
			return d
		}
		select {
		case <-ctx.Done():
			t.Fatalf("read %q, %v; want %q", got, err, want)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// raw are all bytes of the topic's records.
func raw(t *testing.T, client []kgo.Opt, topic string) (all []byte, records int) {
	t.Helper()
	c, err := kgo.NewClient(append(slices.Clone(client), kgo.ConsumeTopics(topic), kgo.KeepControlRecords())...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for committed := int64(-1); ; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatal(err)
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) { committed = max(committed, p.HighWatermark) })
		end := false
		fetches.EachRecord(func(r *kgo.Record) {
			all = append(append(all, r.Key...), r.Value...)
			records++
			end = r.Offset == committed-1
		})
		if end {
			return all, records
		}
	}
}

func TestValuesAreEncryptedAtRestAndReadByEveryWorker(t *testing.T) {
	t.Parallel()
	client, key := cluster(t), master()
	a, b := join(t, client, map[string]string{paramMaster: key}), join(t, client, map[string]string{paramMaster: key})
	canaries := []string{"canary-one-6f1d", "canary-two-93ab", "canary-three-07c2"}
	for i, value := range canaries[:2] {
		if v := a.put(t, "orders", "password", value); v != int64(i+1) {
			t.Errorf("version %d, want %d", v, i+1)
		}
	}
	b.put(t, "orders", "user", canaries[2])
	d := b.reads(t, "orders", "password", canaries[1], "user", canaries[2], "password:1", canaries[0])
	if d.Versions["password"] != "2" || d.Versions["user"] != "1" || d.Versions["password:1"] != "1" || d.TTL == 0 {
		t.Errorf("versions %v, time to live %s", d.Versions, d.TTL)
	}
	all, records := raw(t, client, a.Topic())
	for _, value := range append(canaries, key) {
		for _, form := range []string{value, base64.StdEncoding.EncodeToString([]byte(value)), strings.TrimRight(base64.RawStdEncoding.EncodeToString([]byte(value)), "=")} {
			if bytes.Contains(all, []byte(form)) {
				t.Errorf("the topic holds %s in the clear", value)
			}
		}
	}
	if records < 6 || !bytes.Contains(all, []byte(`"path":"orders"`)) {
		t.Errorf("looked at %d records: %s", records, all)
	}

	if _, err := a.Delete(t.Context(), "orders", "password", 2); err != nil {
		t.Fatal(err)
	}
	b.reads(t, "orders", "password", canaries[0])
	if v := b.put(t, "orders", "password", "again"); v != 3 {
		t.Errorf("after version 2 was deleted the next is %d, want 3", v)
	}
	if _, err := a.Delete(t.Context(), "orders", "", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Delete(t.Context(), "orders", "", 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete what is gone: %v", err)
	}
	b.reads(t, "orders", "password", "", "user", "")
	if v := b.put(t, "orders", "password", "anew"); v != 4 {
		t.Errorf("after all were deleted the next is %d, want 4", v)
	}
}

func TestWorkersThatWriteAtOnceNeverGiveOneNumberTwice(t *testing.T) {
	t.Parallel()
	client, key := cluster(t), master()
	var mu sync.Mutex
	given := map[int64]string{}
	var all sync.WaitGroup
	for i := range 3 {
		m := join(t, client, map[string]string{paramMaster: key})
		all.Go(func() {
			for j := range 4 {
				value := fmt.Sprint("value ", i, " ", j)
				v, err := m.Put(t.Context(), "p", "k", config.NewSecret(value), "")
				if err != nil {
					t.Logf("refused, which may be: %v", err)
					continue
				}
				mu.Lock()
				if before := given[v.Version]; before != "" {
					t.Errorf("version %d is %q and %q", v.Version, before, value)
				}
				given[v.Version] = value
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(given) == 0 {
		t.Fatal("nothing was stored")
	}
	m := join(t, client, map[string]string{paramMaster: key})
	for version, value := range given {
		m.reads(t, "p", fmt.Sprint("k:", version), value)
	}
}

func TestTheMasterKeyIsChangedByWrappingAgain(t *testing.T) {
	t.Parallel()
	client, older, newer := cluster(t), master(), master()
	first := join(t, client, map[string]string{paramMaster: older})
	for i := range 3 {
		first.put(t, "p", fmt.Sprint("k", i), fmt.Sprint("value ", i))
	}
	if _, err := join(t, client, map[string]string{paramMaster: newer}).provider.Read(t.Context(), "p", []string{"k0"}); !errors.Is(err, ErrMaster) {
		t.Errorf("with another master key: %v", err)
	}
	// A worker that only knows the newer key reads what was wrapped with the older, or is about to be.
	before, _ := raw(t, client, first.Topic())
	both := join(t, client, map[string]string{paramMaster: newer, paramOld: older})
	both.reads(t, "p", "k0", "value 0", "k2", "value 2")
	second := join(t, client, map[string]string{paramMaster: newer})
	second.reads(t, "p", "k0", "value 0", "k1", "value 1", "k2", "value 2")
	if after, _ := raw(t, client, first.Topic()); len(after) <= len(before) {
		t.Error("nothing was written")
	}
	if n, err := both.Rewrap(t.Context()); n != 0 || err != nil {
		t.Errorf("wrapped %d again: %v", n, err)
	}
}

func TestAValueIsBoundToItsPlace(t *testing.T) {
	t.Parallel()
	m, err := parseMasters(config.Literal(map[string]string{"k": master()})["k"])
	if err != nil {
		t.Fatal(err)
	}
	at := place{"orders", "password", 1}
	s, err := m.seal(at, config.NewSecret("value"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.open(at, s); err != nil || got.Reveal() != "value" {
		t.Errorf("%v", err)
	}
	for _, elsewhere := range []place{{"orders", "password", 2}, {"orders", "passwor", 1}, {"orderspassword", "", 1}, {"other", "password", 1}} {
		if _, err := m.open(elsewhere, s); err == nil {
			t.Errorf("opened at %v", elsewhere)
		}
	}
	for _, part := range []*[]byte{&s.Data, &s.Wrapped} {
		whole := *part
		for _, broken := range [][]byte{nil, whole[:5], append(slices.Clone(whole), 0), append([]byte{whole[0] ^ 1}, whole[1:]...)} {
			*part = broken
			if _, err := m.open(at, s); err == nil {
				t.Errorf("opened %d bytes of %d", len(broken), len(whole))
			}
		}
		*part = whole
	}
}

func TestWhatTheRegistryDoesNotTake(t *testing.T) {
	t.Parallel()
	m := join(t, cluster(t), map[string]string{paramMaster: master()})
	for _, row := range []struct {
		path, key, value string
		want             error
	}{
		{"a/b", "k", "v", ErrName},
		{"a", "k:1", "v", ErrName},
		{"a", "k}", "v", ErrName},
		{"", "k", "v", ErrName},
		{"..", "k", "v", ErrName},
		{"a", strings.Repeat("k", 129), "v", ErrName},
		{"a", "k", "", ErrValue},
		{"a", "k", strings.Repeat("v", maxValueBytes+1), ErrValue},
	} {
		if _, err := m.Put(t.Context(), row.path, row.key, config.NewSecret(row.value), ""); !errors.Is(err, row.want) {
			t.Errorf("%q, %q: %v, want %v", row.path, row.key, err, row.want)
		}
	}
	for _, params := range []map[string]string{nil, {paramMaster: "short"}, {paramMaster: "canary!"}, {paramMaster: master(), paramCopies: "0"}} {
		if _, err := New().Kind().Open(config.Literal(params)); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v: %v", params, err)
		}
	}
	if _, err := m.Kind().Open(config.Literal(map[string]string{paramMaster: master()})); err == nil {
		t.Error("a second registry was opened")
	}
}

func TestOldVersionsGoWhenThereAreMany(t *testing.T) {
	t.Parallel()
	m := join(t, cluster(t), map[string]string{paramMaster: master()})
	for range maxVersions + 2 {
		m.put(t, "p", "k", "v")
	}
	if all := m.List("p", "k", 0); len(all) != maxVersions || all[0].Version != 3 || all[len(all)-1].Version != maxVersions+2 {
		t.Errorf("%d versions: %v", len(all), all)
	}
}
