package clientconfig

import (
	"errors"
	"fmt"
	"regexp"

	"barnabas/config"
)

// LoginModule is one entry of a login context.
type LoginModule struct {
	Class   string
	Options map[string]config.Secret
}

// javaProperty is what Java replaces in the values of a login file.
var javaProperty = regexp.MustCompile(`\$\{[^}]*\}`)

// ParseLoginFile reads the file that Java's java.security.auth.login.config names (sun.security.provider.ConfigFile): login
// contexts by name, each with its modules. Flags are checked and not returned: of modules that only say yes or nothing,
// as Kafka Connect's, one that says yes is enough under any of them. Errors hold nothing of the text but names of contexts.
func ParseLoginFile(text string) (map[string][]LoginModule, error) {
	contexts := map[string][]LoginModule{}
	lex := newTokenizer(text)
	for name := lex.next(); name.kind != tokenEOF; name = lex.next() {
		if name.kind != tokenText || !lex.next().is('{') {
			return nil, errors.New(`it is not written as Name { Class required option="value"; };`)
		}
		if _, twice := contexts[name.text]; twice {
			return nil, fmt.Errorf("the login context %s is there twice", name.text)
		}
		modules, err := parseLoginContext(lex)
		if err != nil {
			return nil, fmt.Errorf("login context %s: %w", name.text, err)
		}
		contexts[name.text] = modules
	}
	return contexts, nil
}

// parseLoginContext reads the modules up to the closing brace and its semicolon.
func parseLoginContext(lex *tokenizer) ([]LoginModule, error) {
	var modules []LoginModule
	for {
		first := lex.next()
		if first.is('}') {
			if !lex.next().is(';') {
				return nil, errors.New("there is no semicolon behind its closing brace")
			}
			return modules, nil
		}
		if first.kind != tokenText {
			return nil, errors.New("there is no login module, or no closing brace")
		}
		entry, err := parseJAASEntry(first, lex)
		if err != nil {
			return nil, err
		}
		m := LoginModule{Class: entry.module, Options: map[string]config.Secret{}}
		for key, value := range entry.options {
			if javaProperty.MatchString(value) {
				return nil, errors.New("an option names a property of a JVM, ${…}: there is none here, write the value")
			}
			m.Options[key] = config.NewSecret(value)
		}
		modules = append(modules, m)
	}
}
