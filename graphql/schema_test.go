package graphql_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/formatter"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/graphql/generated"
)

// schema is what the files say.
func schema(t *testing.T) *ast.Schema {
	t.Helper()
	files, err := filepath.Glob("schema/*.graphqls")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var sources []*ast.Source
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, &ast.Source{Name: f, Input: string(text)})
	}
	return gqlparser.MustLoadSchema(sources...)
}

func TestTheGeneratedCodeIsThatOfTheSchema(t *testing.T) {
	text := func(s *ast.Schema) string {
		var b bytes.Buffer
		formatter.NewFormatter(&b).FormatSchema(s)
		return b.String()
	}
	made := generated.NewExecutableSchema(generated.Config{}).Schema()
	if d := cmp.Diff(text(schema(t)), text(made)); d != "" {
		t.Errorf("run go generate ./graphql (-schema +generated):\n%s", d)
	}
}

func TestEverythingInTheSchemaIsDescribed(t *testing.T) {
	s := schema(t)
	for name, d := range s.Types {
		if d.BuiltIn || strings.HasPrefix(name, "__") {
			continue
		}
		if d.Description == "" {
			t.Errorf("%s has no description", name)
		}
		for _, f := range d.Fields {
			if f.Description == "" && !strings.HasPrefix(f.Name, "__") {
				t.Errorf("%s.%s has no description", name, f.Name)
			}
			for _, a := range f.Arguments {
				if a.Description == "" && d != s.Mutation && !strings.HasPrefix(f.Name, "__") { // an input is its type
					t.Errorf("%s.%s(%s:) has no description", name, f.Name, a.Name)
				}
			}
		}
		for _, v := range d.EnumValues {
			if v.Description == "" {
				t.Errorf("%s.%s has no description", name, v.Name)
			}
		}
	}
}

func TestEveryMutationIsOfTheSameShape(t *testing.T) {
	s := schema(t)
	for _, m := range s.Mutation.Fields {
		upper := strings.ToUpper(m.Name[:1]) + m.Name[1:]
		if len(m.Arguments) != 1 || m.Arguments[0].Name != "input" || m.Arguments[0].Type.String() != upper+"Input!" || m.Type.String() != upper+"Payload" {
			t.Errorf("%s is %v: %s", m.Name, m.Arguments, m.Type)
			continue
		}
		input, payload := s.Types[upper+"Input"].Fields, s.Types[upper+"Payload"].Fields
		if k := input.ForName("idempotencyKey"); k == nil || k.Type.String() != "String!" || !strings.Contains(k.Description, "7 days") {
			t.Errorf("%s has another idempotencyKey", m.Name)
		}
		if e := input.ForName("expectedRevision"); e == nil || e.Type.String() != "Int" {
			t.Errorf("%s has another expectedRevision", m.Name)
		}
		for name, kind := range map[string]string{"position": "Position", "repeated": "Boolean!", "userErrors": "[UserError!]!"} {
			if f := payload.ForName(name); f == nil || f.Type.String() != kind {
				t.Errorf("%s answers another %s", m.Name, name)
			}
		}
		for _, f := range input {
			id := strings.HasSuffix(f.Name, "Id") && f.Name != "parentId" || f.Name == "tierKey" || f.Name == "sink" || f.Name == "idempotencyKey" ||
				upper == "RequestTenant" && f.Name == "slug" || upper == "RenameOrg" && f.Name == "name"
			if f.Type.NonNull != id {
				t.Errorf("%s.%s is %s", upper, f.Name, f.Type)
			}
		}
	}
	for _, q := range s.Query.Fields {
		if a := q.Arguments.ForName("atLeast"); !strings.HasPrefix(q.Name, "__") && (a == nil || a.Type.String() != "Position") {
			t.Errorf("%s lacks atLeast", q.Name)
		}
	}
}

func TestTheErrorCodesAreTheDomains(t *testing.T) {
	var words []string
	for _, v := range schema(t).Types["ErrorCode"].EnumValues {
		words = append(words, v.Name)
	}
	var want []string
	for _, c := range []domain.Code{domain.CodeInvalid, domain.CodeNotFound, domain.CodeNotAllowed, domain.CodeConflict, domain.CodeAlreadyExists,
		domain.CodeKeyReused, domain.CodeQuotaExceeded, domain.CodeCapacityExhausted, domain.CodeForbidden, domain.CodeUnauthenticated,
		domain.CodeLagging, domain.CodeUnavailable, domain.CodeStale, domain.CodeTooLarge, domain.CodeInternal} {
		want = append(want, strings.ToUpper(string(c)))
	}
	if !slices.Equal(words, want) {
		t.Errorf("%v, want %v", words, want)
	}
}
