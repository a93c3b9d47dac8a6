// Package integration holds the suites that need more than one package: the house rules, and whole systems over real components.
package integration

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/tenure-dev/tenure/"

// arrow is one row of the house rules: packages below From may import, of ours, only those below May.
type arrow struct {
	from string   // a folder; the longest that fits decides
	may  []string // folders whose packages it may import, its own apart; "*" is anything
	why  string
}

// The house rules. A folder imports itself and what is below it freely only where that is said.
var arrows = []arrow{
	{"domain", nil, "the kernel is pure and knows nobody"},
	{"domain/org", []string{"domain"}, "aggregates never import one another"},
	{"domain/tier", []string{"domain"}, "aggregates never import one another"},
	{"domain/tenant", []string{"domain"}, "aggregates never import one another"},
	{"domain/plane", []string{"domain"}, "aggregates never import one another"},
	{"domain/reservation", []string{"domain"}, "aggregates never import one another"},
	{"domain/saga", []string{"domain"}, "the sagas' facts fold without their definitions"},
	{"domain/sink", []string{"domain"}, "aggregates never import one another"},
	{"domain/domaintest", []string{"domain"}, "helpers for the specifications of aggregates"},
	{"commands", []string{"domain/**"}, "the Bus knows aggregates and its own ports"},
	{"projections", []string{"domain/**"}, "folds and their runner know events and their own ports"},
	{"projections/readmodels", []string{"projections", "domain/**"}, "rows, folds and queries"},
	{"sagas", []string{"domain/**"}, "the kernel and runner know facts and their own ports"},
	{"sagas/*", []string{"sagas", "domain/**"}, "a definition is a table"},
	{"graphql", []string{"commands", "sagas", "projections/**", "domain/**", "graphql/**"}, "the API sits on the inner packages"},
	{"adapters/*", []string{"commands/**", "sagas/**", "projections/**", "domain/**"}, "adapters never import one another"},
	{"adapters/bus/*", []string{"adapters/bus/settings", "commands/**", "sagas/**", "projections/**", "domain/**"}, "the bus's parts read their settings alike, and know no other"},
	{"adapters/gateway", []string{"commands", "sagas", "projections", "domain/**", "agent/protocol/**"}, "the gateway speaks the agents' protocol"},
	{"adapters/app", []string{"*"}, "the composition root builds the system"},
	{"agent", []string{"agent/protocol/**", "agent/drivers"}, "an agent knows nothing of the control plane"},
	{"agent/protocol", []string{"agent/protocol/**"}, "messages know nobody"},
	{"agent/drivers", nil, "the drivers' interface knows nobody"},
	{"agent/drivers/*", []string{"agent/drivers", "agent/drivers/*"}, "a driver knows its own library"},
	{"dashboard", nil, "web pages and the standard library"},
	{"integration", []string{"*"}, "suites over everything"},
	{"cmd", []string{"*"}, "the command line"},
	{"internal", []string{"*"}, "build tools"},
}

// onlyBelow says which libraries appear in which folders alone.
var onlyBelow = []struct {
	library string
	folders []string
	why     string
}{
	{"github.com/EventStore/EventStore-Client-Go", []string{"adapters", "integration"}, "the log's client is wrapped once"},
	{"github.com/ThreeDotsLabs/watermill", []string{"adapters", "integration"}, "messaging is an adapter's business"},
	{"github.com/rs/zerolog", []string{"adapters", "agent", "cmd"}, "inner packages log through log/slog"},
	{"github.com/testcontainers/testcontainers-go", []string{"integration"}, "containers are for the suites"},
	{"github.com/jackc/pgx", []string{"adapters", "agent/drivers/postgres", "projections/readmodels", "integration", "cmd", "graphql"}, "Postgres is an adapter's business; read models hold their queries"},
}

func TestPackagesImportOnlyWhatTheHouseAllows(t *testing.T) {
	each(t, func(file, folder string, imports []string) {
		rule, ok := ruleOf(folder)
		if !ok {
			t.Errorf("%s: the folder %s has no rule: add a row that says what it may import, and why", file, folder)
			return
		}
		test := strings.HasSuffix(file, "_test.go")
		for _, imported := range imports {
			ours, is := strings.CutPrefix(imported, module)
			if !is {
				for _, l := range onlyBelow {
					if strings.HasPrefix(imported, l.library) && !test && !slices.ContainsFunc(l.folders, func(f string) bool { return below(folder, f) }) {
						t.Errorf("%s imports %s, which belongs below %v: %s", file, imported, l.folders, l.why)
					}
				}
				continue
			}
			// Tests, and packages of helpers for tests, may also import what they are about and other helpers.
			helps := test || strings.HasSuffix(folder, "test")
			if helps && (strings.HasSuffix(ours, "test") || below(folder, ours)) {
				continue
			}
			if test && ours == "adapters/postgres/cluster" { // a private server to stop in mid-test: clustertest's is shared
				continue
			}
			if !allowed(rule.may, ours) && !below(ours, folder) {
				t.Errorf("%s imports %s: %s may import %v (%s)", file, ours, rule.from, rule.may, rule.why)
			}
		}
	})
}

func TestTheKernelTouchesNothingOutside(t *testing.T) {
	forbidden := []string{"net", "os", "math/rand", "math/rand/v2", "crypto/rand", "io/fs"}
	each(t, func(file, folder string, imports []string) {
		if !below(folder, "domain") || strings.HasSuffix(file, "_test.go") || folder == "domain/domaintest" {
			return
		}
		for _, imported := range imports {
			if slices.Contains(forbidden, imported) || strings.HasPrefix(imported, "net/") || strings.Contains(imported, ".") && !strings.HasPrefix(imported, module) {
				t.Errorf("%s imports %s: decisions are pure", file, imported)
			}
		}
	})
}

func TestOnlyTheEdgesAskForTheTime(t *testing.T) {
	edges := []string{"cmd", "agent", "adapters/app", "integration", "internal"}
	root := repository(t)
	each(t, func(file, folder string, _ []string) {
		if strings.HasSuffix(file, "_test.go") || strings.HasSuffix(folder, "test") || slices.ContainsFunc(edges, func(e string) bool { return below(folder, e) }) || strings.Contains(folder, "generated") {
			return
		}
		source, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(source), "\n") {
			code, _, _ := strings.Cut(line, "//")
			if strings.Contains(code, "time.Now(") || strings.Contains(code, "time.Since(") {
				t.Errorf("%s:%d asks for the time; take a clock from whoever builds you", file, i+1)
			}
		}
	})
}

// ruleOf finds the row for a folder: the same name, else the pattern, else the nearest folder above.
func ruleOf(folder string) (arrow, bool) {
	for at := folder; ; at = filepath.Dir(at) {
		for _, a := range arrows {
			if a.from == at {
				return a, true
			}
		}
		for _, a := range arrows {
			if ok, _ := filepath.Match(a.from, at); ok {
				return a, true
			}
		}
		if at == "." || at == "/" {
			return arrow{}, false
		}
	}
}

func allowed(may []string, imported string) bool {
	for _, m := range may {
		if deep, ok := strings.CutSuffix(m, "/**"); ok && below(imported, deep) {
			return true
		}
		if ok, _ := filepath.Match(m, imported); ok || m == "*" {
			return true
		}
	}
	return false
}

func below(folder, top string) bool { return folder == top || strings.HasPrefix(folder, top+"/") }

// each calls f with every Go file of the repository, its folder and its imports.
func each(t *testing.T, f func(file, folder string, imports []string)) {
	t.Helper()
	root, seen := repository(t), 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata" || d.Name() == "node_modules" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		var imports []string
		for _, i := range parsed.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			imports = append(imports, p)
		}
		relative, _ := filepath.Rel(root, path)
		seen++
		f(filepath.ToSlash(relative), filepath.ToSlash(filepath.Dir(relative)), imports)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Fatalf("only %d Go files were seen: the walk is wrong", seen)
	}
}

func repository(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}
