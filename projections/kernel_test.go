package projections_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/projections"
	"github.com/tenure-dev/tenure/projections/projectionstest"
)

type happened struct {
	Key  string
	Keys []string
}
type ended struct{}
type noted struct{}

type thing struct {
	ID    string
	Count int64
	Rev   int64
	List  []string
}

func meta(stream string, revision int64) domain.Meta {
	return domain.Meta{Stream: stream, Revision: revision, Commit: uint64(revision) * 10, Type: "x"}
}

// rowsOf folds events of one stream and gives the rows' keys with their counts.
func rowsOf(p projections.Projection[thing], stream string, events ...any) map[string]int64 {
	s := p.Table().NewState()
	for i, e := range events {
		s.Apply(e, meta(stream, int64(i)))
	}
	rows := map[string]int64{}
	for k, r := range s.Rows() {
		rows[k] = r.(thing).Count
	}
	return rows
}

func TestWhichRowsAHandlerTouches(t *testing.T) {
	count := func(r *thing, e happened, m domain.Meta) { r.Count++ }
	key := func(e happened) string { return e.Key }
	two := happened{Key: "a", Keys: []string{"b", "c"}}
	for _, c := range []struct {
		name   string
		key    func(domain.Meta) string
		on     []projections.Handler[thing]
		events []any
		want   map[string]int64
	}{
		{"On the stream's own, which begins as zero", nil, []projections.Handler[thing]{projections.On(count)}, []any{two, two}, map[string]int64{"i": 2}},
		{"OnKey one below it", nil, []projections.Handler[thing]{projections.OnKey(key, count)}, []any{two}, map[string]int64{"i/a": 1}},
		{"OnKey none for an empty key", nil, []projections.Handler[thing]{projections.OnKey(key, count)}, []any{happened{}}, map[string]int64{}},
		{"OnEach several below it", nil, []projections.Handler[thing]{projections.OnEach(func(e happened, m domain.Meta) []string { return e.Keys }, count)},
			[]any{two, two}, map[string]int64{"i/b": 2, "i/c": 2}},
		{"several handlers of one event all of theirs", nil, []projections.Handler[thing]{projections.On(count), projections.OnKey(key, count), projections.On(count)},
			[]any{two}, map[string]int64{"i": 2, "i/a": 1}},
		{"Gone removes the own row, and a later event begins it anew", nil, []projections.Handler[thing]{projections.On(count), projections.Gone[thing, ended]()},
			[]any{two, two, ended{}, two}, map[string]int64{"i": 1}},
		{"Gone without a row does nothing", nil, []projections.Handler[thing]{projections.Gone[thing, ended]()}, []any{ended{}}, map[string]int64{}},
		{"GoneKey removes one below", nil, []projections.Handler[thing]{projections.OnEach(func(e happened, m domain.Meta) []string { return e.Keys }, count),
			projections.GoneKey[thing](func(ended) string { return "b" })}, []any{two, ended{}}, map[string]int64{"i/c": 1}},
		{"Touch makes no row", nil, []projections.Handler[thing]{projections.Touch[thing, noted]()}, []any{noted{}}, map[string]int64{}},
		{"Ignore touches nothing", nil, []projections.Handler[thing]{projections.Ignore[thing, happened]()}, []any{two}, map[string]int64{}},
		{"Key names the own row", func(m domain.Meta) string { return m.ID() + "!" }, []projections.Handler[thing]{projections.On(count), projections.OnKey(key, count)},
			[]any{two}, map[string]int64{"i!": 1, "i!/a": 1}},
	} {
		got := rowsOf(projections.Projection[thing]{Name: "things", Version: 1, Key: c.key, On: c.on}, "thing-i", c.events...)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestAfterRunsForEveryFoldAndTouch(t *testing.T) {
	p := projections.Projection[thing]{Name: "things", Version: 1,
		After: func(r *thing, m domain.Meta) { r.Rev = m.Revision },
		On:    []projections.Handler[thing]{projections.On(func(r *thing, e happened, m domain.Meta) {}), projections.Touch[thing, noted]()}}
	s := p.Table().NewState()
	for i, e := range []any{happened{}, noted{}} {
		s.Apply(e, meta("thing-i", int64(i)))
		if r, _ := s.Row("i"); r.(thing).Rev != int64(i) {
			t.Errorf("after %T the revision is %d", e, r.(thing).Rev)
		}
	}
}

func TestARowThatWasGivenOutNeverChanges(t *testing.T) {
	p := projections.Projection[thing]{Name: "things", Version: 1, On: []projections.Handler[thing]{
		projections.On(func(r *thing, e happened, m domain.Meta) {
			if len(r.List) > 0 {
				r.List[0] += "!" // in place
			}
			r.List = append(r.List, e.Key)
		})}}
	s := p.Table().NewState()
	var rows []any
	for i, k := range []string{"a", "b", "c"} {
		s.Apply(happened{Key: k}, meta("thing-i", int64(i)))
		r, _ := s.Row("i")
		rows = append(rows, r.(thing).List)
	}
	if diff := cmp.Diff([]any{[]string{"a"}, []string{"a!", "b"}, []string{"a!!", "b", "c"}}, rows); diff != "" {
		t.Error(diff)
	}
}

func TestAFoldThatFailsLeavesTheRowAsItWas(t *testing.T) {
	p := projections.Projection[thing]{Name: "things", Version: 1, On: []projections.Handler[thing]{
		projections.On(func(r *thing, e happened, m domain.Meta) {
			r.Count++
			if e.Key == "bad" {
				r.Count = 99
				panic("bad")
			}
		})}}
	s := p.Table().NewState()
	for i, k := range []string{"good", "bad", "good"} {
		s.Apply(happened{Key: k}, meta("thing-i", int64(i)))
	}
	want := []projections.Parked{{Projection: "things", Version: 1, Key: "i", Stream: "thing-i", Revision: 1, Commit: 10, Error: "panic: bad"}}
	if diff := cmp.Diff(want, s.Parked()); diff != "" {
		t.Error(diff)
	}
	if r, _ := s.Row("i"); r.(thing).Count != 1 {
		t.Errorf("the row is %+v", r)
	}
}

func TestEveryColumnGivesBackWhatWasPutIn(t *testing.T) {
	table := projectionstest.Shops(1, false)
	rapid.Check(t, func(t *rapid.T) {
		at := func(label string) time.Time {
			if rapid.Bool().Draw(t, label) {
				return time.Time{}
			}
			return time.UnixMicro(rapid.Int64Range(-1e15, 1e16).Draw(t, label+" µs")).UTC()
		}
		text := rapid.StringMatching(`[ -~äλ\n"\\{},]*`)
		row := projectionstest.Shop{ID: text.Draw(t, "id"), Name: text.Draw(t, "name"), Orders: rapid.Int64().Draw(t, "orders"), Cents: rapid.Int64().Draw(t, "cents"),
			Open: rapid.Bool().Draw(t, "open"), LastDue: at("due"), Revision: rapid.Int64().Draw(t, "revision")}
		if tags := rapid.SliceOf(text).Draw(t, "tags"); len(tags) > 0 {
			row.Tags = tags
		}
		if rapid.Bool().Draw(t, "owned") {
			row.Owner = domain.Sealed{Subject: text.Draw(t, "subject"), Key: "k", Text: rapid.SliceOfN(rapid.Byte(), 1, 9).Draw(t, "ciphertext")}
		}
		for range rapid.IntRange(0, 3).Draw(t, "lines") {
			row.Last = append(row.Last, projectionstest.Line{Order: text.Draw(t, "order"), Due: at("line")})
		}
		e, err := table.Encode(row)
		if err != nil {
			t.Fatal(err)
		}
		back, err := table.Decode(e.Fields())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(row, back, cmp.AllowUnexported(domain.Sealed{})); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestADeclarationThatNoTableCanHavePanics(t *testing.T) {
	on := []projections.Handler[thing]{projections.On(func(r *thing, e happened, m domain.Meta) {})}
	for name, declare := range map[string]func(){
		"a name with a capital":   func() { projections.Projection[thing]{Name: "Things", Version: 1}.Table() },
		"no version":              func() { projections.Projection[thing]{Name: "things"}.Table() },
		"a key that is no string": func() { projections.Projection[struct{ N int64 }]{Name: "n", Version: 1}.Table() },
		"a nullable key": func() {
			projections.Projection[struct {
				ID string `db:",null"`
			}]{Name: "n", Version: 1}.Table()
		},
		"a float": func() {
			projections.Projection[struct {
				ID string
				F  float64
			}]{Name: "n", Version: 1}.Table()
		},
		"a map in JSON": func() {
			projections.Projection[struct {
				ID string
				M  map[string]string `db:",json"`
			}]{Name: "n", Version: 1}.Table()
		},
		"a pointer in JSON": func() {
			projections.Projection[struct {
				ID string
				M  []*int64 `db:",json"`
			}]{Name: "n", Version: 1}.Table()
		},
		"a float deep in JSON": func() {
			projections.Projection[struct {
				ID string
				M  []struct{ F float32 } `db:",json"`
			}]{Name: "n", Version: 1}.Table()
		},
		"a hidden field in JSON": func() {
			projections.Projection[struct {
				ID string
				M  struct{ f int } `db:",json"`
			}]{Name: "n", Version: 1}.Table()
		},
		"an unknown option": func() {
			projections.Projection[struct {
				ID string `db:",primary"`
			}]{Name: "n", Version: 1}.Table()
		},
		"a column twice": func() {
			projections.Projection[struct {
				ID string
				Id string
			}]{Name: "n", Version: 1}.Table()
		},
		"handled and ignored": func() {
			projections.Projection[thing]{Name: "n", Version: 1, On: append(on, projections.Ignore[thing, happened]())}.Table()
		},
		"ignored and handled": func() {
			projections.Projection[thing]{Name: "n", Version: 1, On: append([]projections.Handler[thing]{projections.Ignore[thing, happened]()}, on...)}.Table()
		},
		"an index over no column": func() { projections.Projection[thing]{Name: "n", Version: 1, Indexes: [][]string{{"nothing"}}}.Table() },
		"two tables of one name": func() {
			projections.NewGroup(projections.Options{Registry: domain.NewRegistry(), Tables: []*projections.Table{{Name: "a"}, {Name: "a"}}})
		},
		"an event in no catalog": func() {
			projections.NewGroup(projections.Options{Registry: domain.NewRegistry(), Tables: []*projections.Table{projections.Projection[thing]{Name: "n", Version: 1, On: on}.Table()}})
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s was accepted", name)
				}
			}()
			declare()
		}()
	}
}

func TestColumnsAreCalledAsFieldsAreInSnakeCase(t *testing.T) {
	type row struct {
		ID, OrgID, FinishedAt, HTTPPort2 string
		Other                            string `db:"named"`
	}
	var names []string
	for _, c := range (projections.Projection[row]{Name: "n", Version: 1}).Table().Columns {
		names = append(names, c.Name)
	}
	if got := strings.Join(names, " "); got != "id org_id finished_at http_port2 named" {
		t.Error(got)
	}
}

func TestUnhandledAndUnfedEventsAreNamed(t *testing.T) {
	table := projections.Projection[thing]{Name: "n", Version: 1, On: []projections.Handler[thing]{
		projections.Ignore[thing, happened](), projections.Ignore[thing, thing]()}}.Table()
	catalog := domain.Catalog{domain.Fact[happened]("x.happened"), domain.Fact[ended]("x.ended")}
	other := domain.Catalog{domain.Fact[noted]("y.noted")} // of which the table names nothing
	if diff := cmp.Diff([]string{"x.ended"}, table.Unhandled(catalog, other)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"projections_test.thing"}, table.Unfed(catalog, other)); diff != "" {
		t.Error(diff)
	}
}

func TestAStreamFoldedUpToAPositionIsTheRowAsOfThen(t *testing.T) {
	log := projectionstest.NewLog(domain.NewRegistry(projectionstest.Catalog))
	projectionstest.Populate(log, 3, 300)
	table := projectionstest.Shops(1, false)
	for _, upTo := range []uint64{0, 117 * 50, 117 * 299} {
		all := projectionstest.Fold(log, table, int64(upTo))
		for i := range 7 {
			id := fmt.Sprintf("s%d", i)
			s, err := table.FoldStream(t.Context(), log, log.Registry, "shop-"+id, upTo)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, e := range s.Encoded() {
				got = string(e)
			}
			if got != all[id] {
				t.Errorf("%s as of %d differs from the fold of the whole log", id, upTo)
			}
		}
	}
}
