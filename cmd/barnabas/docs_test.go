package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"barnabas/connector"
	"barnabas/connector/mirror"
)

// document reads a document of docs, and what its blocks of the language sh and its spans of code say.
func document(t *testing.T, name string) (commands, spans []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	fenced := false
	var prose strings.Builder
	for line := range strings.Lines(string(text)) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced:
			commands = append(commands, line)
		default:
			prose.WriteString(line + " ")
		}
	}
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(prose.String(), -1) {
		spans = append(spans, m[1])
		if strings.HasPrefix(m[1], "barnabas ") {
			commands = append(commands, m[1])
		}
	}
	return commands, spans
}

// TestTheCommandsOfTheMigrationExist holds every command in the document against the command line: its name, its flags, how many arguments it takes.
func TestTheCommandsOfTheMigrationExist(t *testing.T) {
	t.Parallel()
	commands, _ := document(t, "migration.md")
	if len(commands) < 15 {
		t.Fatalf("only %d commands: %q", len(commands), commands)
	}
	for _, line := range commands {
		words := strings.Fields(strings.ReplaceAll(line, "'", ""))
		if words[0] != "barnabas" {
			t.Errorf("%q is no command of ours", line)
			continue
		}
		c := &cli{process: process{stdin: strings.NewReader(""), stdout: t.Output(), stderr: t.Output()}}
		cmd, rest, err := c.root().Find(words[1:])
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err == nil {
			err = cmd.ValidateArgs(cmd.Flags().Args())
		}
		if err != nil || cmd.HasSubCommands() && cmd.Use == cmd.Name() { // a group of commands does nothing by itself
			t.Errorf("%q: %v", line, err)
		}
	}
}

// TestTheSettingsOfTheMigrationExist holds every setting that the document names against those of the connectors, and those of
// workers and of the dedicated mode that the README explains.
func TestTheSettingsOfTheMigrationExist(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, spans := document(t, "migration.md")
	setting, file := regexp.MustCompile(`^([a-z]+([.-][a-z0-9]+)*\.[a-z0-9-]+)(=.*)?$`), regexp.MustCompile(`\.(sh|md|json|yaml|properties)$`)
	found := 0
	for _, span := range spans {
		m := setting.FindStringSubmatch(span)
		if m == nil || file.MatchString(span) || strings.HasPrefix(span, "mm2-") || strings.HasPrefix(span, "spec.") {
			continue
		}
		found++
		known := strings.Contains(string(readme), m[1])
		for _, p := range []connector.Plugin{mirror.Source(), mirror.Checkpoints(), mirror.Heartbeats()} {
			_, has := p.Keys.Key(m[1])
			known = known || has
		}
		for _, worker := range []string{"group.id", "config.storage.topic", "offset.storage.topic", "status.storage.topic"} {
			known = known || m[1] == worker
		}
		if !known {
			t.Errorf("there is no setting %q", m[1])
		}
	}
	if found < 8 {
		t.Errorf("only %d settings", found)
	}
}
