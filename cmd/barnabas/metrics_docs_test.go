package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// rare are metrics that a healthy worker alone does not have.
var rare = []string{
	"barnabas_replication_notes", "barnabas_rest_forwards_total", "barnabas_rest_logins_total", "barnabas_rest_connections_cut_total",
	"barnabas_auto_restarts_total", "barnabas_auto_restart_in_seconds", "barnabas_auto_restart_held", "barnabas_roles_broken",
}

// TestDocsHaveTheMetricsThatThereAre compares docs/metrics.md with a worker at work, both ways.
func TestDocsHaveTheMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	w := startWorkedNode(t)
	w.eventually(t, "a gap and a checkpoint", atWork)
	all, types := w.scrape(t)
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if name, ok := strings.CutPrefix(strings.TrimSpace(cells[0]), "`"); ok && len(cells) == 6 {
			name = strings.TrimSuffix(name, "`")
			if docs[name] != nil {
				t.Errorf("%s is there twice", name)
			}
			docs[name] = cells
		}
	}
	for name, kind := range types {
		if !strings.HasPrefix(name, "kafka_") && !strings.HasPrefix(name, "barnabas_") {
			continue
		}
		cells := docs[name]
		delete(docs, name)
		if cells == nil {
			t.Errorf("%s is not in docs/metrics.md", name)
			continue
		}
		got, want := []string{cells[1], cells[3]}, []string{kind, all.labelsOf(name)}
		if !slices.Equal(got, want) {
			t.Errorf("%s: docs/metrics.md has type and labels %q, it has %q", name, got, want)
		}
		if cells[2] != unitOf(name) && unitOf(name) != "" {
			t.Errorf("%s: docs/metrics.md has unit %q, its name says %q", name, cells[2], unitOf(name))
		}
		if ours := strings.HasPrefix(name, "barnabas_"); ours == strings.Contains(cells[5], "type=") {
			t.Errorf("%s stands for %s", name, cells[5])
		}
	}
	for name := range docs {
		if !slices.Contains(rare, name) {
			t.Errorf("docs/metrics.md has %s, which there is not", name)
		}
	}
}

// atWork tells that everything that takes its time has happened.
func atWork(all exposed) bool {
	return all["barnabas_replication_gaps_total"] != nil && all["barnabas_replication_lag_seconds"] != nil && all["barnabas_replication_lag_bytes"] != nil && all["kafka_connect_mirror_mirrorcheckpointconnector_checkpoint_latency_ms"] != nil &&
		all["kafka_consumer_fetch_manager_records_lag"] != nil && all["kafka_connect_source_task_source_record_write_total"] != nil
}

// labelsOf is how docs/metrics.md lists the labels of a family.
func (e exposed) labelsOf(family string) string {
	labels := map[string]bool{}
	for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
		for _, s := range e[family+suffix] {
			for l := range s.labels {
				labels[l] = true
			}
		}
	}
	delete(labels, "le")
	if len(labels) == 0 {
		return "–"
	}
	return "`" + strings.Join(slices.Sorted(maps.Keys(labels)), "`, `") + "`"
}

// unitOf is the unit that is told by the end of a name.
func unitOf(name string) string {
	for _, u := range []struct{ end, unit string }{
		{`_ms(_min|_max|_avg)?$`, "ms"},
		{`_seconds$`, "s"},
		{`_(ratio|percentage)$`, "0 to 1"},
		{`_byte_rate$`, "bytes/s"},
		{`_bytes?(_count|_total)?$`, "bytes"},
		{`_rate$`, "1/s"},
	} {
		if regexp.MustCompile(u.end).MatchString(name) {
			return u.unit
		}
	}
	return ""
}

// added are the labels that Prometheus and Strimzi's scraping add.
var added = []string{"job", "instance", "namespace", "pod", "kubernetes_pod_name", "strimzi_io_kind", "strimzi_io_cluster"}

// foreign are the metrics that Prometheus itself makes, and that the process has on some systems only.
var foreign = []string{"up", "process_resident_memory_bytes"}

// query is what a PromQL expression asks for.
type query struct {
	selectors []selector
	groups    []string // labels of by(), on() and group_left()
}

type selector struct {
	name     string
	matchers [][3]string // label, operator, value
}

var (
	promToken = regexp.MustCompile(`^(?:"(?:[^"\\]|\\.)*"|[a-zA-Z_:][a-zA-Z0-9_:]*|[0-9]+(?:\.[0-9]+)?[smhd]?|=~|!~|!=|==|>=|<=|[-+*/%^=<>(){}\[\],])`)
	keywords  = []string{"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset"}
	functions = []string{"sum", "max", "min", "avg", "count", "topk", "rate", "increase", "histogram_quantile", "vector", "label_values", "query_result"}
)

// parseQuery reads as much of PromQL as dashboards use: it does not know precedences, but which names, labels and
// functions there are, and that brackets pair.
func parseQuery(text string) (q query, err error) {
	var tokens []string
	for rest := strings.TrimSpace(text); rest != ""; rest = strings.TrimSpace(rest) {
		token := promToken.FindString(rest)
		if token == "" {
			return q, fmt.Errorf("no token: %.20s", rest)
		}
		tokens = append(tokens, token)
		rest = rest[len(token):]
	}
	at := func(i int) string {
		if i < len(tokens) {
			return tokens[i]
		}
		return ""
	}
	var open []string
	pairs := map[string]string{")": "(", "]": "[", "}": "{"}
	listed := "" // the keyword whose list of labels this is
	for i := 0; i < len(tokens); i++ {
		switch token := tokens[i]; {
		case strings.ContainsAny(token[:1], "([{"):
			open = append(open, token)
		case strings.ContainsAny(token[:1], ")]}"):
			if len(open) == 0 || open[len(open)-1] != pairs[token] {
				return q, fmt.Errorf("token %d: %s without its partner", i, token)
			}
			open, listed = open[:len(open)-1], ""
		case !regexp.MustCompile(`^[a-zA-Z_]`).MatchString(token):
		case listed != "":
			q.groups = append(q.groups, token)
		case slices.Contains(keywords, token):
			if at(i+1) == "(" && !slices.Contains([]string{"and", "or", "unless", "bool", "offset"}, token) {
				listed = token
			}
		case len(open) > 0 && open[len(open)-1] == "{":
			value, err := strconv.Unquote(at(i + 2))
			if err != nil || !slices.Contains([]string{"=", "!=", "=~", "!~"}, at(i+1)) || len(q.selectors) == 0 {
				return q, fmt.Errorf("no matcher: %s %s %s", token, at(i+1), at(i+2))
			}
			s := &q.selectors[len(q.selectors)-1]
			s.matchers = append(s.matchers, [3]string{token, at(i + 1), value})
			i += 2
		case at(i+1) == "(" || slices.Contains(functions, token):
			if !slices.Contains(functions, token) {
				return q, fmt.Errorf("unknown function %s", token)
			}
		case i >= 2 && at(i-1) == "," && slices.Contains(tokens[:i], "label_values"):
			q.groups = append(q.groups, token)
		default:
			q.selectors = append(q.selectors, selector{name: token})
		}
	}
	if len(open) > 0 {
		return q, fmt.Errorf("%s is not closed", open)
	}
	return q, nil
}

// answers tells whether there are series for everything in the query, with the labels it uses.
func (e exposed) answers(text string) error {
	q, err := parseQuery(text)
	if err != nil {
		return err
	}
	if len(q.selectors) == 0 {
		return fmt.Errorf("nothing is asked for")
	}
	labels := map[string]bool{}
	for _, s := range q.selectors {
		found := slices.Contains(foreign, s.name)
		for _, series := range e[s.name] {
			for l := range series.labels {
				labels[l] = true
			}
			found = found || s.selects(series)
		}
		if !found {
			return fmt.Errorf("%s has no series with %q", s.name, s.matchers)
		}
	}
	for _, l := range q.groups {
		if !labels[l] && !slices.Contains(added, l) {
			return fmt.Errorf("no series has the label %s", l)
		}
	}
	return nil
}

func (s selector) selects(series exposedSeries) bool {
	for _, m := range s.matchers {
		v, there := series.labels[m[0]]
		switch {
		case slices.Contains(added, m[0]):
		case !there:
			return false
		case m[0] == "status": // any other than that of the test
		case strings.HasPrefix(m[1], "="), strings.HasPrefix(m[1], "!"):
			same := v == m[2]
			if strings.HasSuffix(m[1], "~") {
				same = regexp.MustCompile("^(?:" + strings.ReplaceAll(m[2], "$connector", ".*") + ")$").MatchString(v)
			}
			if same != strings.HasPrefix(m[1], "=") {
				return false
			}
		}
	}
	return true
}

// expressions finds the strings below these keys, wherever they are.
func expressions(v any, keys ...string) (all []string) {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			if text, ok := inner.(string); ok && slices.Contains(keys, k) {
				all = append(all, text)
			}
			all = append(all, expressions(inner, keys...)...)
		}
	case []any:
		for _, inner := range v {
			all = append(all, expressions(inner, keys...)...)
		}
	}
	return all
}

// strimziAsks are the metrics, with the labels that are matched or grouped by, that Strimzi's dashboards and alerts for Kafka
// Connect and MirrorMaker 2 ask for (October 2026), those of JVM and containers apart.
var strimziAsks = []string{
	`kafka_connect_worker_connector_count{strimzi_io_kind="KafkaMirrorMaker2"}`, `kafka_connect_worker_task_count`,
	`sum(kafka_connect_worker_connector_running_task_count)`, `sum(kafka_connect_worker_connector_paused_task_count) by (connector)`,
	`sum(kafka_connect_worker_connector_failed_task_count) by (connector)`, `sum(kafka_connect_worker_connector_unassigned_task_count) by (connector)`,
	`sum(kafka_connect_worker_connector_destroyed_task_count) by (connector)`, `kafka_connect_worker_rebalance_rebalancing`,
	`sum(kafka_connect_coordinator_assigned_connectors) by (kubernetes_pod_name)`, `sum(kafka_connect_coordinator_assigned_tasks) by (kubernetes_pod_name)`,
	`sum(kafka_connect_connector_status) by (connector, status)`, `sum(kafka_connect_connector_status{status="failed"}) by (namespace, pod)`,
	`sum(kafka_connect_connector_connector_class) by (connector, connector_class)`,
	`sum(kafka_connect_connector_connector_version) by (connector, connector_version)`, `sum(kafka_connect_connector_connector_type) by (connector, connector_type)`,
	`sum(kafka_connect_task_error_total_record_failures) by (connector, task)`, `sum(kafka_connect_connector_task_status) by (connector, task, status)`,
	`kafka_admin_client_connection_count`, `kafka_consumer_connection_count`, `kafka_producer_connection_count`,
	`rate(kafka_consumer_incoming_byte_total[5m])`, `rate(kafka_producer_outgoing_byte_total[5m])`,
	`kafka_connect_connector_task_offset_commit_avg_time_ms{connector=~"\".*SourceConnector\"", task=~"[0-9]+"}`,
	`kafka_connect_source_task_source_record_active_count{connector=~"\".*SourceConnector\""}`,
	`sum(kafka_consumer_fetch_manager_records_lag{clientid=~".*replication-consumer\""}) by (topic, partition)`,
	`kafka_connect_mirror_mirrorsourceconnector_byte_rate`, `kafka_connect_mirror_mirrorsourceconnector_record_rate`,
	`sum(kafka_connect_mirror_mirrorsourceconnector_record_age_ms) by (partition, topic)`,
	`sum(kafka_connect_mirror_mirrorsourceconnector_record_age_ms_min) by (partition, topic)`,
	`sum(kafka_connect_mirror_mirrorsourceconnector_record_age_ms_max) by (partition, topic)`,
	`sum(kafka_connect_mirror_mirrorsourceconnector_record_age_ms_avg) by (partition, topic)`,
	`sum(kafka_connect_mirror_mirrorsourceconnector_replication_latency_ms) by (partition, topic)`,
	`sum(kafka_connect_mirror_mirrorsourceconnector_replication_latency_ms_min) by (partition, topic)`,
	`sum(kafka_connect_mirror_mirrorsourceconnector_replication_latency_ms_max) by (partition, topic)`,
	`sum(kafka_connect_mirror_mirrorsourceconnector_replication_latency_ms_avg) by (partition, topic)`,
	`sum by (source, target, topic, partition, group) (kafka_connect_mirror_mirrorcheckpointconnector_checkpoint_latency_ms)`,
}

// confluentAsks are metrics that Confluent's kafka-connect-cluster dashboard asks for, under its names (October 2026).
var confluentAsks = []string{
	"kafka_connect_connect_worker_metrics_connector_count", "kafka_connect_connect_worker_metrics_task_count",
	"kafka_connect_connect_worker_metrics_connector_startup_success_total", "kafka_connect_connect_worker_metrics_connector_startup_failure_total",
	"kafka_connect_connect_worker_metrics_task_startup_success_total", "kafka_connect_connect_worker_metrics_task_startup_failure_total",
	"kafka_connect_connect_worker_metrics_connector_total_task_count", "kafka_connect_connect_worker_metrics_connector_running_task_count",
	"kafka_connect_connect_worker_metrics_connector_failed_task_count", "kafka_connect_connect_worker_metrics_connector_paused_task_count",
	"kafka_connect_connect_worker_metrics_connector_unassigned_task_count", "kafka_connect_connect_worker_metrics_connector_destroyed_task_count",
	"kafka_connect_connect_worker_rebalance_metrics_rebalance_avg_time_ms", "kafka_connect_connect_worker_rebalance_metrics_time_since_last_rebalance_ms",
	"kafka_connect_connector_task_metrics_batch_size_avg", "kafka_connect_connector_task_metrics_offset_commit_avg_time_ms",
	"kafka_connect_connector_task_metrics_offset_commit_success_percentage", "kafka_connect_connector_task_metrics_running_ratio",
	"kafka_connect_connector_task_metrics_pause_ratio", "kafka_connect_source_task_metrics_source_record_active_count_avg",
	"kafka_connect_source_task_metrics_source_record_active_count_max", "kafka_connect_source_task_metrics_source_record_poll_rate",
	"kafka_connect_source_task_metrics_source_record_write_rate", "kafka_connect_task_error_metrics_deadletterqueue_produce_failures",
	"kafka_connect_task_error_metrics_deadletterqueue_produce_requests", "kafka_connect_task_error_metrics_total_errors_logged",
	"kafka_connect_task_error_metrics_total_record_errors", "kafka_connect_task_error_metrics_total_record_failures",
	"kafka_connect_task_error_metrics_total_records_skipped", "kafka_connect_task_error_metrics_total_retries",
}

// relabelled returns the names after the rules that are commented out in docker/prometheus/prometheus.yml.
func relabelled(t *testing.T, names []string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docker/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	_, rules, _ := strings.Cut(string(text), "# metric_relabel_configs:\n")
	var configs []struct {
		Regex, Replacement string
		Target             string `yaml:"target_label"`
	}
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(rules, "    # ", "")), &configs); err != nil || len(configs) != 3 {
		t.Fatalf("%d rules: %v", len(configs), err)
	}
	names = slices.Clone(names)
	for _, c := range configs {
		if c.Target != "__name__" {
			t.Errorf("a rule writes %s", c.Target)
		}
		for i, name := range names {
			names[i] = regexp.MustCompile("^(?:"+c.Regex+")$").ReplaceAllString(name, strings.ReplaceAll(c.Replacement, "$1", "${1}"))
		}
	}
	return names
}

func TestRelabelledNamesAreConfluents(t *testing.T) {
	t.Parallel()
	w := startWorkedNode(t)
	w.eventually(t, "a gap and a checkpoint", atWork)
	all, _ := w.scrape(t)
	names := relabelled(t, slices.Collect(maps.Keys(all)))
	for _, name := range confluentAsks {
		if !slices.Contains(names, name) {
			t.Errorf("there is no %s", name)
		}
	}
}

func TestDashboardsAndAlertsAreAnswered(t *testing.T) {
	t.Parallel()
	w := startWorkedNode(t)
	w.eventually(t, "a gap and a checkpoint", atWork)
	all, _ := w.scrape(t)
	var dashboard, rules any
	text, err := os.ReadFile("../../docker/grafana/dashboards/barnabas.json")
	if err == nil {
		err = json.Unmarshal(text, &dashboard)
	}
	if err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile("../../docker/prometheus/rules.yml"); err == nil {
		err = yaml.Unmarshal(text, &rules)
	}
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string][]string{
		"the dashboard": expressions(dashboard, "expr", "definition"), "alerts": expressions(rules, "expr"), "Strimzi's": strimziAsks,
	}
	for where, queries := range asked {
		if len(queries) < 8 {
			t.Errorf("%s: %d queries", where, len(queries))
		}
		for _, q := range queries {
			if err := all.answers(q); err != nil {
				t.Errorf("%s: %s: %v", where, q, err)
			}
		}
	}
	for _, q := range []string{
		`kafka_connect_worker_count`, `sum by (topik) (barnabas_replication_lag_records)`, `barnabas_replication_lag_records{conector="x"}`,
		`sum(barnabas_leader`, `summ(barnabas_leader)`, `barnabas_members{state="lost"}`, `barnabas_members{state}`, `barnabas_leader ; 1`, `1`,
	} {
		if all.answers(q) == nil {
			t.Errorf("the check takes %s", q)
		}
	}
}
