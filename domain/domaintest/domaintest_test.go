package domaintest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/tenure-dev/tenure/domain"
)

// failing is a test that notes what it is told, and fails in no other way.
type failing struct {
	testing.TB
	said []string
}

func (f *failing) Helper() {}
func (f *failing) Error(args ...any) {
	f.said = append(f.said, fmt.Sprint(args...))
}
func (f *failing) Errorf(format string, args ...any) {
	f.said = append(f.said, fmt.Sprintf(format, args...))
}
func (f *failing) Fatal(args ...any) {
	f.Error(args...)
	runtime.Goexit()
}
func (f *failing) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

// said is all that a check complains of.
func said(check func(testing.TB)) string {
	f, done := &failing{}, make(chan struct{})
	go func() {
		defer close(done)
		check(f)
	}()
	<-done
	return strings.Join(f.said, "\n")
}

type (
	lamp  struct{ on bool }
	lit   struct{ Watts int64 }
	Light struct{ Watts int64 }
)

var lamps = domain.Decider[string, lamp, any]{
	Phase:  func(s lamp) string { return map[bool]string{true: "on"}[s.on] },
	Phases: []string{"", "on"},
	Evolve: func(lamp, any) lamp { return lamp{true} },
	Rules: []domain.Rule[string, lamp, any]{domain.On(func(_ lamp, c Light) ([]any, error) {
		if c.Watts > 100 {
			return nil, domain.Invalid("watts", "are too many")
		}
		return []any{lit(c)}, nil
	}, "").QuietIn("on")},
}.Aggregate("lamp", domain.Catalog{domain.Fact[lit]("lamp.lit")}, domain.Catalog{domain.Fact[Light]("lamp.light")}, nil,
	func(lamp, string) (string, string) { return "", "" })

func TestARowFailsWithWhatDiffers(t *testing.T) {
	for name, c := range map[string]struct {
		row  Case
		want string // part of the complaint
	}{
		"right":                 {Given().When(Light{60}).Then(lit{60}), ""},
		"right, quiet":          {Given(lit{60}).When(Light{60}).Nothing(), ""},
		"right, refused":        {Given().When(Light{200}).Refused(domain.CodeInvalid, "watts", "are too many"), ""},
		"another event":         {Given().When(Light{60}).Then(lit{40}), "40"},
		"no event":              {Given().When(Light{60}).Nothing(), "events"},
		"one event too few":     {Given().When(Light{60}).Then(lit{60}, lit{60}), "events"},
		"an event, not refused": {Given().When(Light{60}).Refused(domain.CodeInvalid, "watts", "are too many"), "error"},
		"refused, not an event": {Given().When(Light{200}).Then(lit{200}), "are too many"},
		"another code":          {Given().When(Light{200}).Refused(domain.CodeNotFound, "watts", "are too many"), "not_found"},
		"another field":         {Given().When(Light{200}).Refused(domain.CodeInvalid, "volts", "are too many"), "volts"},
		"no outcome":            {Given().When(Light{60}), "names no command"},
		"no command":            {Given().Nothing(), "names no command"},
	} {
		got := said(func(t testing.TB) { c.row.Check(t, lamps) })
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: complains %q, want %q", name, got, c.want)
		}
	}
}

func TestARowsHistoryGrowsAsideFromItsCopies(t *testing.T) {
	base := Given(lit{1}).And(lit{2})
	a, b := base.And(lit{3}), base.And(lit{4})
	if Diff([]any{lit{1}, lit{2}, lit{3}}, a.given) != "" || Diff([]any{lit{1}, lit{2}, lit{4}}, b.given) != "" {
		t.Errorf("%v, %v", a.given, b.given)
	}
}

type (
	numbers struct {
		N int64   `json:"n"`
		F float64 `json:"f"`
		A any     `json:"a"`
		X string  `json:"Upper"`
		Y string
	}
	good struct {
		N int64  `json:"n"`
		S string `json:"s,omitempty"`
	}
	better struct {
		N int64  `json:"n"`
		S string `json:"text,omitempty"`
	}
)

func TestTheWireIsKeptAsItStandsInLogs(t *testing.T) {
	if update {
		t.Skip("golden files are being written")
	}
	folder := t.TempDir()
	file := filepath.Join(folder, "x.good.1.json")
	check := func(example any, e domain.Entry) string {
		return said(func(t testing.TB) { WireIn(t, folder, []any{example}, domain.Catalog{e}) })
	}
	if got := check(good{1, "a"}, domain.Fact[good]("x.good")); !strings.Contains(got, "no such file") {
		t.Errorf("a missing file: %q", got)
	}
	const text = `{"n":1,"s":"a"}` + "\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := check(good{1, "a"}, domain.Fact[good]("x.good")); got != "" {
		t.Errorf("the same: %q", got)
	}
	if got := check(good{1, ""}, domain.Fact[good]("x.good")); !strings.Contains(got, "leaves x.good.S unset") {
		t.Errorf("an example that shows less: %q", got)
	}
	for _, writing := range []bool{false, true} {
		update = writing
		if got := check(better{1, "a"}, domain.Fact[better]("x.good")); !strings.Contains(got, "never changed") {
			t.Errorf("another form, writing %v: %q", writing, got)
		}
	}
	update = false
	if now, err := os.ReadFile(file); err != nil || string(now) != text {
		t.Errorf("the file was changed to %s, %v", now, err)
	}
	if got := check(good{1, "a"}, domain.Fact[good]("x.other")); !strings.Contains(got, "no catalog knows it") {
		t.Errorf("a message that was dropped: %q", got)
	}
	if got := check(numbers{N: 1}, domain.Fact[numbers]("x.numbers")); strings.Count(got, "does not keep exactly") != 2 || strings.Count(got, "no lowerCamel") != 2 {
		t.Errorf("types that the wire does not keep: %q", got)
	}
}

func TestPersistentMapsAreComparedAsMaps(t *testing.T) {
	var a, b domain.Map[int]
	for i := range 40 {
		a, b = a.With(fmt.Sprint(i), i), b.With(fmt.Sprint(39-i), 39-i)
	}
	type state struct{ M domain.Map[int] }
	if diff := Diff(state{a}, state{b}); diff != "" {
		t.Errorf("the same map, built otherwise:\n%s", diff)
	}
	if Diff(state{a}, state{b.With("7", 8)}) == "" || Diff(state{a}, state{b.Without("7")}) == "" {
		t.Error("another map is the same")
	}
}
