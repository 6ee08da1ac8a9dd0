// Package barnabas_test holds the rules of this repository that no linter has a
// word for: which way imports point, who may look into a secret, how long a file
// gets. A rule that is in the way is changed here, with its reason, in the
// commit that needs it.
package barnabas_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "barnabas"

// edges says which of our packages each one may import, tests apart. "*" is all.
// A package that is not here has no place yet: give it one.
var edges = map[string][]string{
	"config":                     {},
	"configprovider":             {"config"},
	"configprovider/remote":      {"config", "configprovider"},
	"configprovider/vault":       {"config", "configprovider", "configprovider/remote"},
	"configprovider/gcp":         {"config", "configprovider", "configprovider/remote"},
	"configprovider/azure":       {"config", "configprovider", "configprovider/remote"},
	"configprovider/kubernetes":  {"config", "configprovider", "configprovider/remote"},
	"configprovider/aws":         {"config", "configprovider", "configprovider/remote"},
	"connection":                 {"config"},
	"k2k":                        {"config", "connection"},
	"connector":                  {"config"},
	"connector/javaregex":        {},
	"connector/txn":              {},
	"connector/converter":        {"config", "connector/versionrange"},
	"connector/tolerance":        {"config", "connector"},
	"connector/reporter":         {"config", "connector", "connector/converter", "connector/tolerance"},
	"connector/sink":             {"config", "connector", "connector/converter", "connector/javaregex", "connector/reporter", "connector/tolerance"},
	"connector/filestream":       {"config", "connector", "connector/converter", "connector/creation", "connector/reporter", "connector/sink", "connector/tolerance", "connector/txn"},
	"connector/rawcopy":          {"config", "connector"},
	"connector/versionrange":     {},
	"connector/creation":         {"config", "connector/javaregex"},
	"connector/transform":        {"config", "connector/rawcopy", "connector/javaregex", "connector/versionrange"},
	"connector/mirror":           {"config", "connector", "connector/creation", "connector/javaregex", "connector/rawcopy", "connector/offsetrun", "connector/takeover", "connector/transform"},
	"connector/mirror/dedicated": {"config"},
	"connector/mirror/strimzi":   {"config", "connector/mirror/dedicated"},
	"connector/offsetrun":        {"config", "connector", "connector/rawcopy"},
	"connector/takeover":         {"config", "connector", "connector/rawcopy", "connector/offsetrun"},
	"clientconfig":               {"config", "connection", "connector", "clientconfig/gssapi", "clientconfig/mskiam", "clientconfig/oauthbearer"},
	"clientconfig/mskiam":        {"config"},
	"clientconfig/gssapi":        {},
	"clientconfig/oauthbearer":   {"config"},
	"worker/herder":              {},
	"worker/gossip":              {"config"},
	"worker/store":               {"config", "connector", "connector/txn"},
	"worker/task":                {"config", "configprovider", "connection", "connector", "connector/creation", "connector/reporter", "clientconfig"},
	"worker/registry":            {"config", "configprovider", "worker/store"},
	"worker":                     {"access", "audit", "config", "configprovider", "connection", "k2k", "connector", "connector/converter", "connector/filestream", "connector/mirror", "connector/reporter", "connector/transform", "connector/versionrange", "clientconfig", "worker/herder", "worker/gossip", "worker/registry", "worker/store", "worker/task"},
	"access":                     {},
	"audit":                      {"access", "config"},
	"rest":                       {"access", "audit", "config", "connection", "k2k", "connector", "connector/mirror", "rest/auth", "worker"}, // answers with its plans and translations
	"rest/auth":                  {"config"},
	"bundle":                     {"config", "rest"},
	"evidence":                   {"audit", "config", "connection", "rest", "worker"},
	"cmd/barnabas":               {"*"},
	"e2e":                        {"*"},
	"e2e/answers":                {},
	"bench":                      {"*"},
}

// onlyIn says which libraries stay in which packages, and why.
var onlyIn = map[string]struct {
	packages []string
	reason   string
}{
	"github.com/hashicorp/memberlist":         {[]string{"worker/gossip"}, "gossip is one room"},
	"github.com/labstack/echo/v4":             {[]string{"rest"}, "its next version must be a change of one package"},
	"github.com/spf13/cobra":                  {[]string{"cmd/barnabas"}, "only the command line has words"},
	"github.com/twmb/franz-go/pkg/kfake":      {[]string{"cmd/barnabas", "e2e"}, "it is for the demo and for tests"},
	"github.com/twmb/franz-go/pkg/sasl":       {[]string{"clientconfig", "e2e"}, "logins are made from Java settings, in one place"},
	"github.com/jcmturner/gokrb5":             {[]string{"clientconfig/gssapi"}, "it is quiet since 2023, and may have to be replaced"},
	"github.com/magiconair/properties":        {[]string{"config"}, "files are read in one place"},
	"github.com/pavlo-v-chernykh/keystore-go": {[]string{"clientconfig"}, "keystores are read in one place"},
}

// pure are packages that decide and do not act: what they may import of the
// standard library, and what they may not call of it.
var pure = map[string][]string{
	"connection":    {"bytes", "cmp", "encoding/json", "errors", "fmt", "maps", "net", "reflect", "regexp", "slices", "strconv", "strings", "time", "barnabas/config"},
	"k2k":           {"bytes", "cmp", "encoding/json", "errors", "fmt", "reflect", "regexp", "slices", "strconv", "strings", "time", "barnabas/config", "barnabas/connection"},
	"worker/herder": {"cmp", "container/heap", "encoding/json", "errors", "fmt", "iter", "maps", "math", "slices", "sort", "strconv", "strings", "time"},
}

var impure = []string{"time.Now", "time.Since", "time.Until", "time.Sleep", "time.After", "time.AfterFunc", "time.NewTimer", "time.NewTicker", "time.Tick", "fmt.Print", "fmt.Println", "fmt.Printf"}

// revealers may look into a config.Secret.
var revealers = map[string]string{
	"audit":                     "the key of the codes goes into an HMAC",
	"config":                    "gives typed values of settings, and decodes keys",
	"configprovider":            "puts a value together from what its references resolve to",
	"configprovider/remote":     "hands parameters and credentials to secret managers, and keeps them out of what these say",
	"configprovider/vault":      "logs in to Vault",
	"configprovider/kubernetes": "sends its token to the API, and joins values that a pattern names",
	"configprovider/gcp":        "hands credentials to Google's library, and its tokens to Secret Manager",
	"configprovider/azure":      "logs in to Azure",
	"configprovider/aws":        "hands access keys to Amazon's SDK",
	"clientconfig":              "hands values to the Kafka client and its TLS",
	"clientconfig/mskiam":       "signs with access keys",
	"clientconfig/oauthbearer":  "sends client secrets to token endpoints, and tokens to brokers",
	"worker/gossip":             "hands keys to memberlist's cipher",
	"worker/registry":           "encrypts and decrypts the values of the secret registry",
	"worker/store":              "writes the session key as Kafka Connect does",
	"worker":                    "signs internal requests with the session key",
	"cmd/barnabas":              "tells the demo's embedded clusters which passwords to accept, and looks for them everywhere else",
	"rest":                      "puts the caller's password into the header of a request",
	"rest/auth":                 "compares a caller's password with that of a user",
}

// source is a Go file of ours.
type source struct {
	file string // with slashes, from the top of the repository
	pkg  string // the folder, "." for the top
	test bool
	text []byte
	ast  *ast.File
	fset *token.FileSet
}

func (s source) imports() []string {
	var all []string
	for _, i := range s.ast.Imports {
		name, _ := strconv.Unquote(i.Path.Value)
		all = append(all, name)
	}
	return all
}

func (s source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.file, s.fset.Position(n.Pos()).Line)
}

// files gives the names of all files that are or may be committed.
func files(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if d.IsDir() {
			if slices.Contains([]string{".git", ".cache", "bin", "dist", "docker/secrets"}, name) {
				return fs.SkipDir
			}
			return nil
		}
		all = append(all, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var parsed = sync.OnceValues(func() ([]source, error) {
	var all []source
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch name = filepath.ToSlash(name); {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || name == "bin" || name == "dist"):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		s := source{file: name, pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), text: text, fset: token.NewFileSet()}
		if s.ast, err = parser.ParseFile(s.fset, name, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return err
		}
		all = append(all, s)
		return nil
	})
	return all, err
})

func sources(t *testing.T) []source {
	t.Helper()
	all, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestImportsPointOneWay(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.test || s.pkg == "." {
			continue
		}
		allowed, ok := edges[s.pkg]
		if sub := strings.HasPrefix(s.pkg, "e2e/") || strings.HasPrefix(s.pkg, "cmd/barnabas/"); sub {
			allowed, ok = []string{"*"}, true
		}
		if !ok {
			t.Errorf("%s: package %s has no place in the table of imports (rules_test.go)", s.file, s.pkg)
			continue
		}
		for _, i := range s.imports() {
			of, ours := strings.CutPrefix(i, module+"/")
			if ours && !slices.Contains(allowed, of) && !slices.Contains(allowed, "*") {
				t.Errorf("%s: %s does not import %s: the arrow points the other way, or what both need belongs to a package below", s.file, s.pkg, of)
			}
		}
	}
}

func TestLibrariesStayInTheirRooms(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, i := range s.imports() {
			for library, room := range onlyIn {
				inRoom := slices.ContainsFunc(room.packages, func(p string) bool { return s.pkg == p || strings.HasPrefix(s.pkg, p+"/") })
				if (i == library || strings.HasPrefix(i, library+"/")) && !inRoom {
					t.Errorf("%s: %s is for %s only: %s", s.file, library, strings.Join(room.packages, ", "), room.reason)
				}
			}
		}
	}
}

func TestTheBrainHasNoHands(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		allowed, ok := pure[s.pkg]
		if s.test || !ok {
			continue
		}
		for _, i := range s.imports() {
			if !slices.Contains(allowed, i) {
				t.Errorf("%s: %s decides and does not act: it does not import %s", s.file, s.pkg, i)
			}
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(impure, x.Name+"."+sel.Sel.Name) {
					t.Errorf("%s: %s decides and does not act: %s.%s comes in as an event", s.at(n), s.pkg, x.Name, sel.Sel.Name)
				}
			}
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: %s starts no goroutine", s.at(g), s.pkg)
			}
			return true
		})
	}
}

func TestFewMayLookIntoASecret(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Reveal" {
				return true
			}
			found[s.pkg] = true
			if revealers[s.pkg] == "" {
				t.Errorf("%s: %s may not look into a secret; pass it on as it is, or say in rules_test.go which library needs the value", s.at(n), s.pkg)
			}
			return true
		})
	}
	for pkg := range revealers {
		if !found[pkg] {
			t.Errorf("%s looks into no secret: strike it off the list", pkg)
		}
	}
}

// kgo's own EndTransaction can take a commit for one of nothing, see connector/txn.
func TestTransactionsEndInOnePlace(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && s.pkg != "connector/txn" && (sel.Sel.Name == "EndTransaction" || sel.Sel.Name == "EndAndBeginTransaction") {
				t.Errorf("%s: end transactions with connector/txn.End", s.at(n))
			}
			return true
		})
	}
}

func TestNamesSayWhatIsInside(t *testing.T) {
	t.Parallel()
	packages := []string{"util", "utils", "common", "helper", "helpers", "types", "models", "base", "misc", "pkg", "shared", "lib", "internal"}
	kinds := []string{"types.go", "interfaces.go", "errors.go", "constants.go", "utils.go", "util.go", "helpers.go", "misc.go", "common.go"}
	for _, s := range sources(t) {
		for part := range strings.SplitSeq(s.pkg, "/") {
			if slices.Contains(packages, part) {
				t.Errorf("%s: %q says nothing about what is inside: name the package by its noun", s.file, part)
			}
		}
		if slices.Contains(kinds, path.Base(s.file)) {
			t.Errorf("%s: name the file by what it holds, not by its kind", s.file)
		}
	}
}

func TestFilesStayReadable(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		switch n := bytes.Count(s.text, []byte("\n")); {
		case n > 1000:
			t.Errorf("%s has %d lines: it is more than one thing", s.file, n)
		case n > 500:
			t.Logf("%s has %d lines: read it again", s.file, n)
		}
	}
}

// TestNothingIsLeftBehind looks for words that promise what is not there, and
// for what is true on one machine only.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	left := map[string]string{ // written apart, so that this file is not one of the finds
		"TO" + "DO": "do it, or open an issue", "FIX" + "ME": "fix it, or open an issue", "not " + "implemented": "say what is there instead",
		"proxy." + "golang.org": "the reader's own settings say where modules come from", "repo1." + "maven.org": "the reader's own settings say where jars come from",
		"repo.maven." + "apache.org": "the reader's own settings say where jars come from", "docker" + ".io/": "the reader's own settings say where images come from",
		"ghcr" + ".io": "the reader's own settings say where images come from", "registry." + "npmjs.org": "nothing here comes from there",
		"/wo" + "rk/": "a path of one machine", "/ro" + "ot/": "a path of one machine",
	}
	for _, name := range files(t) {
		if slices.Contains([]string{"LICENSE", "go.sum"}, name) || strings.Contains(name, "testdata/") || strings.Contains(name, "/vectors/") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(text[:min(len(text), 512)], 0) >= 0 {
			continue // not text
		}
		for word, instead := range left {
			for i, line := range strings.Split(string(text), "\n") {
				if strings.Contains(line, word) {
					t.Errorf("%s:%d: %q: %s", name, i+1, word, instead)
				}
			}
		}
	}
}
