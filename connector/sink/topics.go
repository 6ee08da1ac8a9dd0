package sink

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/connector/javaregex"
	"barnabas/connector/tolerance"
)

// Keys of the topics.
const (
	KeyTopics = "topics"
	KeyRegex  = "topics.regex"
)

// topics are what a sink reads.
type topics struct {
	names []string
	regex *javaregex.Regex
	look  time.Time // when the cluster is to be looked at again
}

// Bounds of looking for topics that match the regex, where Kafka's consumer takes metadata.max.age.ms, 5 minutes.
const (
	lookEvery   = 5 * time.Second
	lookTimeout = 10 * time.Second
)

func newTopics(values config.Values) (topics, error) {
	t := topics{names: slices.DeleteFunc(slices.Clone(values.List(KeyTopics)), func(name string) bool { return name == "" })}
	if len(t.names) > 0 {
		return t, nil
	}
	regex, err := javaregex.Compile(values.String(KeyRegex))
	if err != nil {
		return t, fmt.Errorf("%s: %w", KeyRegex, err)
	}
	t.regex = regex
	return t, nil
}

// next is when follow has something to do, zero: never.
func (t *topics) next() time.Time { return t.look }

// follow adds the topics that match the regex and were not there before.
func (t *topics) follow(ctx context.Context, client *kgo.Client) error {
	if t.regex == nil || time.Now().Before(t.look) {
		return nil
	}
	t.look = time.Now().Add(lookEvery)
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	there, err := kadm.NewClient(client).ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	var gone []string
	for _, name := range t.names {
		if !there.Has(name) {
			gone = append(gone, name)
		}
	}
	if gone != nil { // a new one of the same name is another topic
		client.PurgeTopicsFromConsuming(gone...)
		t.names = slices.DeleteFunc(t.names, func(name string) bool { return slices.Contains(gone, name) })
	}
	var added []string
	for _, name := range there.Names() {
		if slices.Contains(t.names, name) || there[name].IsInternal {
			continue
		}
		ok, err := t.regex.Match(name)
		if err != nil {
			return fmt.Errorf("%s: matching %q: %w", KeyRegex, name, err)
		}
		if ok {
			added = append(added, name)
		}
	}
	t.names = append(t.names, added...)
	client.AddConsumeTopics(added...)
	return nil
}

// Validate is SinkConnectorConfig.validate: what single keys do not tell of a sink.
func Validate(written map[string]string) []config.Problem {
	list, regex := strings.TrimSpace(written[KeyTopics]), strings.TrimSpace(written[KeyRegex])
	letters := strings.TrimSpace(written[tolerance.KeyTopic])
	var problems []config.Problem
	add := func(key, message string) { problems = append(problems, config.Problem{Key: key, Message: message}) }
	both := func(message string) {
		add(KeyTopics, message)
		add(KeyRegex, message)
	}
	switch {
	case list != "" && regex != "":
		both("topics and topics.regex are mutually exclusive options, but both are set.")
	case list == "" && regex == "":
		both("Must configure one of topics or topics.regex")
	}
	if letters == "" {
		return problems
	}
	if list != "" {
		names := parseTopics(list)
		if slices.Contains(names, letters) {
			add(KeyTopics, fmt.Sprintf("The DLQ topic '%s' may not be included in the list of topics ('topics=[%s]') consumed by the connector", letters, strings.Join(names, ", ")))
		}
	}
	if regex != "" {
		if r, err := javaregex.Compile(written[KeyRegex]); err == nil {
			if ok, _ := r.Match(letters); ok {
				add(KeyRegex, fmt.Sprintf("The DLQ topic '%s' may not be matched by the regex for the topics ('topics.regex=%s') consumed by the connector", letters, written[KeyRegex]))
			}
		}
	}
	return problems
}

func parseTopics(list string) []string {
	var names []string
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item != "" && !slices.Contains(names, item) {
			names = append(names, item)
		}
	}
	return names
}

// CheckRegex is Kafka's RegexValidator. What is wrong with the regex is said in our words.
func CheckRegex(v config.Value) string {
	if v.Null() || v.Text() == "" {
		return ""
	}
	if _, err := javaregex.Compile(v.Text()); err != nil {
		return v.Invalid("Invalid regex: " + err.Error())
	}
	return ""
}
