package domaintest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
)

// update, set by GOLDEN=write, writes golden JSON that is missing, and matrices, diagrams and docs anew; golden JSON that
// exists is never changed. It is read from the environment so that it reaches the tests of every package at once.
var update = os.Getenv("GOLDEN") == "write"

// Printed compares a text with the file that keeps it; with GOLDEN=write the file is written anew.
func Printed(t testing.TB, file, got string) {
	t.Helper()
	want, err := os.ReadFile(file)
	if update && string(want) != got {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Fatalf("%v (GOLDEN=write writes it)", err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what is printed now; if that is meant, GOLDEN=write writes it anew (-file +now):\n%s", file, diff)
	}
}

// Wire checks the wire contract of catalogs against testdata/golden, which has every revision of every message that was
// ever written. examples has one message of each type, with every field set.
func Wire(t *testing.T, examples []any, catalogs ...domain.Catalog) {
	t.Helper()
	WireIn(t, filepath.Join("testdata", "golden"), examples, catalogs...)
}

// WireIn is Wire with another folder.
func WireIn(t testing.TB, folder string, examples []any, catalogs ...domain.Catalog) {
	t.Helper()
	r := domain.NewRegistry(catalogs...)
	file := func(name string, rev int) string {
		return filepath.Join(folder, fmt.Sprintf("%s.%d.json", name, rev))
	}
	due, seen := map[string]bool{}, map[string]bool{}
	for _, e := range r.Entries() {
		for rev := 1; rev <= e.Revision; rev++ {
			due[file(e.Name, rev)] = true
		}
		for _, problem := range malformed(e.Type, e.Name) {
			t.Error(problem)
		}
	}
	for _, example := range examples {
		name, rev, data, err := r.Encode(example)
		if err != nil {
			t.Error(err)
			continue
		}
		seen[name] = true
		for _, path := range unset(reflect.ValueOf(example), name) {
			t.Errorf("the example leaves %s unset, so its golden file would not show it", path)
		}
		keep(t, file(name, rev), data)
		back, err := r.Decode(name, rev, data)
		if err != nil {
			t.Errorf("%s rev %d: %v", name, rev, err)
		} else if diff := Diff(wired(example), back); diff != "" {
			t.Errorf("%s comes back otherwise (-written +read):\n%s", name, diff)
		}
	}
	for _, e := range r.Entries() {
		if !seen[e.Name] {
			t.Errorf("%s has no example", e.Name)
		}
		for rev := 1; rev <= e.Revision; rev++ {
			data, err := os.ReadFile(file(e.Name, rev))
			if err != nil {
				t.Error(err)
				continue
			}
			m, err := r.Decode(e.Name, rev, data)
			if err != nil {
				t.Errorf("%s: %v", file(e.Name, rev), err)
				continue
			}
			if _, _, again, err := r.Encode(m); err != nil || rev == e.Revision && !bytes.Equal(again, bytes.TrimSpace(data)) {
				t.Errorf("%s decodes and encodes to another text (%v):\n%s", file(e.Name, rev), err, again)
			}
		}
	}
	files, _ := filepath.Glob(filepath.Join(folder, "*"))
	for _, f := range files {
		if !due[f] {
			t.Errorf("%s: no catalog knows it; what was ever written must stay readable", f)
		}
	}
}

// wired is a message without what never goes on the wire, such as what the Bus gives a command.
func wired(message any) any {
	v := reflect.New(reflect.TypeOf(message)).Elem()
	v.Set(reflect.ValueOf(message))
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") == "-" {
				v.Field(i).SetZero()
			}
		}
	}
	return v.Interface()
}

// keep compares a golden file that exists, and never changes it; one that is missing is written with GOLDEN=write.
func keep(t testing.TB, file string, data []byte) {
	t.Helper()
	want, err := os.ReadFile(file)
	if os.IsNotExist(err) && update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(bytes.Clone(data), '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Errorf("%v (GOLDEN=write writes it)", err)
		return
	}
	if diff := gocmp.Diff(string(bytes.TrimSpace(want)), string(data)); diff != "" {
		t.Errorf("%s is how it stands in logs, and is never changed: add a revision and an upcast (-log +now):\n%s", file, diff)
	}
}

var lowerCamel = regexp.MustCompile(`^[a-z][A-Za-z0-9]*$`)

// malformed lists what a payload's type has that the wire does not: fields without a literal lowerCamel tag, floats, and
// values of any type.
func malformed(t reflect.Type, path string) (problems []string) {
	switch t.Kind() {
	case reflect.Float32, reflect.Float64, reflect.Interface, reflect.Complex64, reflect.Complex128:
		return []string{path + " is a " + t.Kind().String() + ", which the wire does not keep exactly"}
	case reflect.Slice, reflect.Array, reflect.Pointer, reflect.Map:
		return malformed(t.Elem(), path)
	}
	if t.Kind() != reflect.Struct || marshals(t) {
		return nil
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported() && !f.Anonymous:
			continue
		case !(f.Anonymous && name == "") && !lowerCamel.MatchString(name):
			problems = append(problems, fmt.Sprintf("%s.%s has no lowerCamel json tag", path, f.Name))
		}
		problems = append(problems, malformed(f.Type, path+"."+f.Name)...)
	}
	return problems
}

// unset lists the fields on the wire that are zero.
func unset(v reflect.Value, path string) (paths []string) {
	if v.Kind() != reflect.Struct || marshals(v.Type()) {
		if v.IsZero() || (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0 {
			return []string{path}
		}
		return nil
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Tag.Get("json") != "-" && f.IsExported() {
			paths = append(paths, unset(v.Field(i), path+"."+f.Name)...)
		}
	}
	return paths
}

func marshals(t reflect.Type) bool {
	_, custom := t.MethodByName("MarshalJSON")
	return custom
}
