package domaintest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tenure-dev/tenure/domain"
)

// complete reads the source of the package under test: every type of the sealed interface Event is in the catalog and has a
// case in evolve, and every command has a catalog row and a rule.
func complete(t *testing.T, a domain.Aggregate) {
	sealed, marker, cases, commands, rules := map[string]bool{}, "", map[string]int{}, map[string]bool{}, map[string]bool{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var parsed []*ast.File
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, file)
		ast.Inspect(file, func(n ast.Node) bool {
			if d, is := n.(*ast.TypeSpec); is && d.Name.Name == "Event" {
				if i, is := d.Type.(*ast.InterfaceType); is && len(i.Methods.List) == 1 {
					marker = i.Methods.List[0].Names[0].Name
				}
			}
			return true
		})
	}
	for _, file := range parsed {
		for _, d := range file.Decls {
			f, is := d.(*ast.FuncDecl)
			switch {
			case !is:
			case f.Recv == nil && f.Name.Name == "evolve":
				evolves(f, cases)
			case f.Recv == nil:
				if c := decides(f); c != "" {
					rules[c] = true
				}
			case f.Name.Name == marker:
				sealed[receiver(f)] = true
			case f.Name.Name == "Target":
				commands[receiver(f)] = true
			}
		}
	}
	if marker == "" {
		t.Fatal("the package has no sealed interface Event")
	}
	same(t, "types of the sealed interface", sealed, "the catalog of events", names(a.Events))
	same(t, "cases of evolve", keysOf(cases), "the catalog of events", names(a.Events))
	for c, n := range cases {
		if n != 1 {
			t.Errorf("evolve has %d cases for %s", n, c)
		}
	}
	same(t, "types with a Target", commands, "the catalog of commands", names(a.Commands))
	same(t, "commands that a function decides", rules, "the catalog of commands", names(a.Commands))
	m, err := ParseMatrix(a.Matrix)
	if err != nil {
		t.Fatal(err)
	}
	inWords := map[string]bool{}
	for c := range names(a.Commands) {
		inWords[words(c)] = true
	}
	ruled := map[string]bool{}
	for _, c := range m.Commands {
		if ruled[c] {
			t.Errorf("two rules for %s: the second is never heard", c)
		}
		ruled[c] = true
	}
	same(t, "rules", ruled, "the catalog of commands", inWords)
	for _, e := range slices.Concat(a.Events, a.Commands) {
		if !strings.HasPrefix(e.Name, a.Category+".") {
			t.Errorf("%s does not begin with its category %s", e.Name, a.Category)
		}
	}
	if noted, _ := domain.NewRegistry(a.Events).Named(a.Category + ".noted"); noted.Type != reflect.TypeOf(a.Noted) {
		t.Errorf("%s.noted is not the aggregate's Noted", a.Category)
	}
}

// evolves counts the cases of the type switch in evolve.
func evolves(f *ast.FuncDecl, cases map[string]int) {
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if s, is := n.(*ast.TypeSwitchStmt); is {
			for _, clause := range s.Body.List {
				for _, e := range clause.(*ast.CaseClause).List {
					if id, is := e.(*ast.Ident); is {
						cases[id.Name]++
					}
				}
			}
		}
		return true
	})
}

// decides is the command that a function of the form func(State, C) ([]Event, error) decides.
func decides(f *ast.FuncDecl) string {
	if f.Type.Params == nil || f.Type.Results == nil || len(f.Type.Results.List) != 2 {
		return ""
	}
	if out, is := f.Type.Results.List[0].Type.(*ast.ArrayType); !is || !named(out.Elt, "Event") {
		return ""
	}
	in := f.Type.Params.List
	if len(in) != 2 || !named(in[0].Type, "State") {
		return ""
	}
	if id, is := in[1].Type.(*ast.Ident); is {
		return id.Name
	}
	return ""
}

func named(e ast.Expr, name string) bool {
	id, is := e.(*ast.Ident)
	return is && id.Name == name
}

func receiver(f *ast.FuncDecl) string {
	t := f.Recv.List[0].Type
	if p, is := t.(*ast.StarExpr); is {
		t = p.X
	}
	id, _ := t.(*ast.Ident)
	return id.Name
}

func names(c domain.Catalog) map[string]bool {
	all := map[string]bool{}
	for _, e := range c {
		all[e.Type.Name()] = true
	}
	return all
}

func keysOf(m map[string]int) map[string]bool {
	all := map[string]bool{}
	for k := range m {
		all[k] = true
	}
	return all
}

func same(t *testing.T, what string, a map[string]bool, other string, b map[string]bool) {
	t.Helper()
	if diff := Diff(slices.Sorted(maps.Keys(b)), slices.Sorted(maps.Keys(a))); diff != "" {
		t.Errorf("%s and %s differ (-%s +%s):\n%s", what, other, other, what, diff)
	}
}
