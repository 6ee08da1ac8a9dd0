package filestream

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"barnabas/config"
	"barnabas/connector"
	"barnabas/connector/converter"
)

// TestValidationAnswersLikeConnect compares with what Kafka Connect 4.3.1 answered to the same configurations.
func TestValidationAnswersLikeConnect(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/validate.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		Config map[string]string
		Errors map[string][]string
		Names  []string
		Status int // of an answer that is none
	}
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	// These are judged by the worker, for all connectors alike.
	elsewhere := func(key, value string) bool {
		return strings.HasPrefix(key, "transforms") || strings.HasPrefix(key, "predicates") || key == "connector.plugin.version" ||
			strings.Contains(key, ".override.") || key == "transaction.boundary" && value == "connector" ||
			strings.HasSuffix(value, ".FileStreamSinkTask") && key != "connector.class" // a class that is not here at all
	}
	compared := 0
	for _, r := range rows {
		skip := r.Status != 0 // Connect fails at the regex, and so does the connector here
		for key, value := range r.Config {
			skip = skip || elsewhere(key, value)
		}
		if skip {
			continue
		}
		plugin := Source()
		if r.Config["connector.class"] == sinkClass {
			plugin = Sink()
		}
		got, names := answer(plugin, r.Config)
		if support := r.Errors["exactly.once.support"]; len(support) > 0 && strings.HasPrefix(support[0], "This worker") {
			if support = support[1:]; len(support) == 0 { // the worker's own part
				delete(r.Errors, "exactly.once.support")
			} else {
				r.Errors["exactly.once.support"] = support
			}
		}
		for _, errors := range []map[string][]string{got, r.Errors} {
			for key, list := range errors {
				for i, e := range list {
					errors[key][i], _, _ = strings.Cut(e, "Invalid regex: ") // in words of our own
					if strings.Contains(e, "case insensitive") {             // Java's order is that of a set
						errors[key][i], _, _ = strings.Cut(e, "insensitive): ")
					}
				}
			}
		}
		if diff := cmp.Diff(r.Errors, got); diff != "" {
			t.Errorf("%v (-Connect +ours):\n%s", r.Config, diff)
		}
		if diff := cmp.Diff(r.Names, names); diff != "" {
			t.Errorf("keys for %v (-Connect +ours):\n%s", r.Config, diff)
		}
		compared++
	}
	if compared < 90 {
		t.Errorf("%d configurations compared", compared)
	}
}

func answer(plugin connector.Plugin, written map[string]string) (errors map[string][]string, names []string) {
	settings := config.Literal(written)
	converters, problems := converter.Infos(settings)
	if plugin.Validate != nil {
		problems = append(problems, plugin.Validate(written)...)
	}
	infos := plugin.Keys.Infos(plugin.Class, settings, problems...)
	errors = map[string][]string{}
	for _, i := range append(infos.Configs, converters...) {
		names = append(names, i.Value.Name)
		if len(i.Value.Errors) > 0 {
			errors[i.Value.Name] = i.Value.Errors
		}
	}
	return errors, names
}
