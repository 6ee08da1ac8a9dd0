package clientconfig

import (
	"strings"
	"testing"
)

const connectLogin = `/* of Connect */
KafkaClient { org.example.Other optional a=b c="d e"; };
KafkaConnect {
  org.apache.kafka.connect.rest.basic.auth.extension.PropertyFileLoginModule required // users
  file="/mnt/secret/credentials.properties";
  x.Y SUFFICIENT;
};
`

func TestLoginFileIsReadAsJavaDoes(t *testing.T) {
	t.Parallel()
	contexts, err := ParseLoginFile(connectLogin)
	if err != nil {
		t.Fatal(err)
	}
	modules := contexts["KafkaConnect"]
	if len(contexts) != 2 || len(modules) != 2 || modules[1].Class != "x.Y" ||
		modules[0].Class != "org.apache.kafka.connect.rest.basic.auth.extension.PropertyFileLoginModule" ||
		modules[0].Options["file"].Reveal() != "/mnt/secret/credentials.properties" {
		t.Errorf("got %v", contexts)
	}
}

func TestLoginFileErrorsHoldNothingOfIt(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no brace":          `KafkaConnect x required secret="hunter2";`,
		"not closed":        `KafkaConnect { x required secret="hunter2";`,
		"no last semicolon": `KafkaConnect { x required secret="hunter2"; }`,
		"no semicolon":      `KafkaConnect { x required secret="hunter2" };`,
		"no flag":           `KafkaConnect { x secret="hunter2"; };`,
		"twice":             `A { x required secret="hunter2"; }; A { x required; };`,
		"a property":        `A { x required secret="${hunter2}"; };`,
		"a number":          `12 { x required secret="hunter2"; };`,
	} {
		_, err := ParseLoginFile(text)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzParseLoginFile(f *testing.F) {
	f.Add(connectLogin)
	f.Add(`A{b required;};`)
	f.Add(`A { `)
	f.Fuzz(func(t *testing.T, text string) {
		contexts, err := ParseLoginFile(text)
		if (err == nil) == (contexts == nil) {
			t.Errorf("contexts %v, error %v", contexts, err)
		}
	})
}
