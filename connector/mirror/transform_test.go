package mirror

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
)

// chained adds a chain to a connector's configuration.
func chained(c map[string]string, more ...string) {
	for i := 0; i < len(more); i += 2 {
		value := more[i+1]
		if strings.HasSuffix(more[i], ".type") {
			value = "org.apache.kafka.connect.transforms." + value
		}
		c[more[i]] = value
	}
}

func valuesOf(all map[int32][]copied) string {
	var texts []string
	for _, id := range slices.Sorted(maps.Keys(all)) {
		for _, c := range all[id] {
			texts = append(texts, string(c.Value))
		}
	}
	return strings.Join(texts, " ")
}

func TestRegexRouterRenamesCopiesAndLeavesThemRaw(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	chained(r.config, "transforms", "R", "transforms.R.type", "RegexRouter", "transforms.R.regex", "A\\.(.*)", "transforms.R.replacement", "eu-$1")
	r.createTopic(r.source, "orders", 2, nil)
	write(t, r.source, numbered("orders", 0, 0, 100)...)
	write(t, r.source, numbered("orders", 1, 0, 100)...)
	stop := r.run()
	r.waitEqual("orders", "eu-orders")
	eventually(t, "the report says where to", func() bool {
		p := r.partitionProgress("orders", 1)
		return p.TargetTopic == "eu-orders" && p.Mode == "raw" && p.CopiedOffset == 100
	})
	if err := stop(); err != nil || len(r.failed()) > 0 || r.target.TopicInfo("A.orders") != nil {
		t.Errorf("connector: %v, tasks: %v, or there is A.orders", err, r.failed())
	}
}

func TestTopicsThatAreNamedAlikeAreNotMixed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	chained(r.config, "transforms", "R", "transforms.R.type", "RegexRouter", "transforms.R.regex", "A\\.orders.*", "transforms.R.replacement", "all")
	r.createTopic(r.source, "orders-1", 1, nil)
	r.createTopic(r.source, "orders-2", 1, nil)
	write(t, r.source, numbered("orders-1", 0, 0, 5)...)
	write(t, r.source, numbered("orders-2", 0, 0, 5)...)
	stop := r.run()
	r.waitEqual("orders-1", "all")
	eventually(t, "the status says what is left out", func() bool {
		return locked(r, func() bool {
			return len(r.notes) == 1 && strings.Contains(r.notes[0].Text, "topic orders-2 is left out: transforms name its copy all, as that of orders-1")
		})
	})
	if err := stop(); err != nil || len(r.failed()) > 0 {
		t.Errorf("connector: %v, tasks: %v", err, r.failed())
	}
}

// filtering is a chain that drops tombstones and masks.
var filtering = []string{
	"transforms", "F,M", "predicates", "T", "predicates.T.type", "predicates.RecordIsTombstone",
	"transforms.F.type", "Filter", "transforms.F.predicate", "T",
	"transforms.M.type", "MaskField$Value", "transforms.M.fields", "card",
}

func TestRecordsAreTransformedExactlyOnceOverRestarts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	chained(r.config, filtering...)
	r.createTopic(r.source, "orders", 1, nil)
	var want []string
	fill := func(from int) {
		var records []*kgo.Record
		for i := from; i < from+40; i++ {
			record := &kgo.Record{Topic: "orders", Key: fmt.Append(nil, i)}
			if i%4 != 0 {
				record.Value = fmt.Appendf(nil, `{"n":%d, "card":"4111"}`, i)
				want = append(want, fmt.Sprintf(`{"n":%d, "card":""}`, i))
			}
			records = append(records, record)
		}
		write(t, r.source, records...)
	}
	for round := range 3 {
		fill(round * 40)
		stop := r.run()
		eventually(t, "the copy is there", func() bool { return valuesOf(read(t, r.target, "A.orders")) == strings.Join(want, " ") })
		eventually(t, "the report says how", func() bool {
			p := r.partitionProgress("orders", 0)
			return p.Mode == "decoded" && p.Reason == "decoded: transform" && p.State == "RUNNING" && p.CopiedOffset == int64(round+1)*40
		})
		if err := stop(); err != nil || len(r.failed()) > 0 {
			t.Fatalf("connector: %v, tasks: %v", err, r.failed())
		}
	}
	open := func(at []string) openClient {
		return func(extra ...kgo.Opt) (*kgo.Client, error) {
			return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(at...)}, extra...)...)
		}
	}
	o := VerifyOptions{Config: config.Literal(r.config), Source: open(r.source.ListenAddrs()), Target: open(r.target.ListenAddrs())}
	report, err := Verify(t.Context(), o)
	if err != nil || !report.Equal || report.Totals.Missing > 0 {
		t.Errorf("verify: %v, %+v", err, report.Totals)
	}
	o.Sample = 0.5
	if _, err := Verify(t.Context(), o); err == nil || !strings.Contains(err.Error(), "orders are transformed") {
		t.Errorf("verify of a sample: %v", err)
	}
}

func TestRecordThatCannotBeTransformedStopsItsPartition(t *testing.T) {
	t.Parallel()
	for _, tolerance := range []string{"none", "all"} {
		t.Run(tolerance, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.maxTasks = 1
			chained(r.config, filtering...)
			r.config["errors.tolerance"] = tolerance
			r.createTopic(r.source, "orders", 2, nil)
			write(t, r.source, &kgo.Record{Topic: "orders", Value: []byte(`{"card":1}`)}, &kgo.Record{Topic: "orders", Value: []byte("no json")},
				&kgo.Record{Topic: "orders", Value: []byte(`{"card":[2]}`)}, &kgo.Record{Topic: "orders", Partition: 1, Value: []byte(`{"card":true}`)})
			stop := r.run()
			want := `{"card":0} {"card":false}`
			if tolerance == "all" {
				want = `{"card":0} {"card":[]} {"card":false}`
			}
			eventually(t, "what can be copied is there", func() bool { return valuesOf(read(t, r.target, "A.orders")) == want })
			eventually(t, "the report names the record", func() bool {
				p := r.partitionProgress("orders", 0)
				return strings.Contains(p.Reason, "transform M: it is not JSON") &&
					(tolerance == "all" && p.State == stateDegraded && p.CopiedOffset == 3 || p.State == stateStopped && strings.Contains(p.Reason, "orders-0@1"))
			})
			if err := stop(); err != nil || len(r.failed()) > 0 {
				t.Errorf("connector: %v, tasks: %v", err, r.failed())
			}
		})
	}
}
