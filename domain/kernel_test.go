package domain_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
)

// shape is a message at revision 3: revision 1 called Name "title", and revision 2 had no Size.
type shape struct {
	Name   string        `json:"name"`
	Size   int64         `json:"size"`
	Units  domain.Units  `json:"units,omitempty"`
	Reason domain.Sealed `json:"reason"`
}

type dot struct{}

func renamed(b json.RawMessage) (json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errors.New("no object")
	}
	m["name"] = m["title"]
	delete(m, "title")
	return json.Marshal(m)
}

func sized(b json.RawMessage) (json.RawMessage, error) {
	return bytes.Replace(b, []byte("{"), []byte(`{"size":1,`), 1), nil
}

func shapes() *domain.Registry {
	return domain.NewRegistry(domain.Catalog{domain.Fact[shape]("test.shape", renamed, sized)}, domain.Catalog{domain.Fact[dot]("test.dot")})
}

func TestARegistryReadsEveryRevision(t *testing.T) {
	r := shapes()
	for _, c := range []struct {
		name string
		rev  int
		data string
		want any
		code domain.Code
		new  bool
	}{
		{"test.shape", 3, `{"name":"a","size":2}`, shape{Name: "a", Size: 2}, "", false},
		{"test.shape", 2, `{"name":"a"}`, shape{Name: "a", Size: 1}, "", false},
		{"test.shape", 1, `{"title":"a"}`, shape{Name: "a", Size: 1}, "", false},
		{"test.shape", 3, `{"name":"a","color":"a newer release's"}`, shape{Name: "a"}, "", false},
		{"test.dot", 1, `{}`, dot{}, "", false},
		{"test.shape", 4, `{}`, nil, domain.CodeUnavailable, true},
		{"test.shape", 0, `{}`, nil, domain.CodeUnavailable, true},
		{"test.other", 1, `{}`, nil, domain.CodeUnavailable, true},
		{"", 1, `{}`, nil, domain.CodeUnavailable, true},
		{"test.shape", 3, `{"name":1}`, nil, domain.CodeInternal, false},
		{"test.shape", 3, ``, nil, domain.CodeInternal, false},
		{"test.shape", 1, `[]`, nil, domain.CodeInternal, false},
	} {
		got, err := r.DecodeRecorded(domain.Recorded{Meta: domain.Meta{Type: c.name, Rev: c.rev}, Data: []byte(c.data)})
		if domain.CodeOf(err) != c.code || errors.Is(err, domain.ErrNewer) != c.new {
			t.Errorf("%s rev %d %s: %v", c.name, c.rev, c.data, err)
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(domain.Sealed{})); diff != "" {
			t.Errorf("%s rev %d %s (-want +got):\n%s", c.name, c.rev, c.data, diff)
		}
	}
}

func TestARegistryIsALiteralTable(t *testing.T) {
	r := shapes()
	name, rev, data, err := r.Encode(shape{Name: "a", Size: 2})
	if name != "test.shape" || rev != 3 || string(data) != `{"name":"a","size":2,"reason":null}` || err != nil {
		t.Errorf("encoded as %s rev %d: %s, %v", name, rev, data, err)
	}
	if _, _, _, err := r.Encode(shape{Reason: domain.Clear("secret")}); err == nil {
		t.Error("clear text is encoded")
	}
	if _, _, _, err := r.Encode(&shape{}); err == nil {
		t.Error("what is in no catalog is encoded")
	}
	if r.NameOf(dot{}) != "test.dot" || r.NameOf(7) != "" || r.NameOf(nil) != "" || len(r.Entries()) != 2 {
		t.Errorf("%v", r.Entries())
	}
	if e, ok := r.Named("test.shape"); !ok || e.Revision != 3 {
		t.Errorf("%+v, %v", e, ok)
	}
	if e, ok := r.Named("test.other"); ok || e.Name != "" {
		t.Errorf("%+v, %v", e, ok)
	}
	for what, twice := range map[string]domain.Catalog{
		"name": {domain.Fact[shape]("test.a"), domain.Fact[dot]("test.a")},
		"type": {domain.Fact[dot]("test.a"), domain.Fact[dot]("test.b")},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a %s may stand twice", what)
				}
			}()
			domain.NewRegistry(twice[:1], twice[1:])
		}()
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("test.shape", 3, []byte(`{"name":"a","size":2,"units":{"slots":1},"reason":{"subject":"s","key":"k","text":"YQ=="}}`))
	f.Add("test.shape", 2, []byte(`{"name":"a"}`))
	f.Add("test.shape", 1, []byte(`{"title":"a"}`))
	f.Add("test.shape", 1, []byte(`null`))
	f.Add("test.shape", 9, []byte(`{}`))
	f.Add("test.dot", 1, []byte(`{"x":[]}`))
	f.Add("", -1, []byte{0xff})
	r := shapes()
	f.Fuzz(func(t *testing.T, name string, rev int, data []byte) {
		m, err := r.Decode(name, rev, data)
		if err != nil {
			if code := domain.CodeOf(err); m != nil || (code == domain.CodeUnavailable) != errors.Is(err, domain.ErrNewer) ||
				code != domain.CodeUnavailable && code != domain.CodeInternal {
				t.Fatalf("%v, %v", m, err)
			}
			return
		}
		_, now, first, err := r.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		back, err := r.Decode(name, now, first)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, second, err := r.Encode(back); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%s is written again as %s, %v", first, second, err)
		}
	})
}

// A door, the smallest aggregate.
type (
	doorPhase string
	doorEvent interface{ isDoor() }
	hung      struct{}
	shut      struct{}
	hang      struct{ domain.Given }
	shutIt    struct{ domain.Given }
	paint     struct{ domain.Given }
)

func (hung) isDoor() {}
func (shut) isDoor() {}

var door = domain.Decider[doorPhase, doorPhase, doorEvent]{
	Phase:  func(p doorPhase) doorPhase { return p },
	Phases: []doorPhase{"", "open", "shut"},
	Evolve: func(_ doorPhase, e doorEvent) doorPhase {
		if _, is := e.(hung); is {
			return "open"
		}
		return "shut"
	},
	Rules: []domain.Rule[doorPhase, doorPhase, doorEvent]{
		domain.On(func(doorPhase, hang) ([]doorEvent, error) { return []doorEvent{hung{}}, nil }, doorPhase("")),
		domain.On(func(doorPhase, shutIt) ([]doorEvent, error) { return []doorEvent{shut{}}, nil }, doorPhase("open")).QuietIn("shut"),
	},
}

func TestADeciderHearsWhatItsRulebookSays(t *testing.T) {
	a := door.Aggregate("door", nil, nil, shut{}, func(_ doorPhase, id string) (string, string) { return "org", id })
	const matrix = "                             absent open shut\n" +
		"hang                         x      .    .   \n" +
		"shut it                      .      x    -   \n"
	if diff := cmp.Diff(matrix, a.Matrix); diff != "" {
		t.Errorf("matrix (-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		state   doorPhase
		command any
		events  []any
		err     string
	}{
		{"", hang{}, []any{hung{}}, ""},
		{"open", hang{}, nil, "hang is not allowed while open (allowed: absent)"},
		{"open", shutIt{}, []any{shut{}}, ""},
		{"shut", shutIt{}, []any{}, ""},
		{"", shutIt{}, nil, "shut it is not allowed while absent (allowed: open)"},
		{"open", paint{}, nil, "no rule for domain_test.paint"},
	} {
		got, err := a.Decide(c.state, c.command)
		if diff := cmp.Diff(c.events, got); diff != "" || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%T while %q: %v (-want +got):\n%s", c.command, c.state, err, diff)
		}
	}
	if got := a.Evolve(doorPhase("open"), dot{}); got != any(doorPhase("open")) {
		t.Errorf("another aggregate's event led to %q", got)
	}
	if door.Fold(hung{}, shut{}) != "shut" || a.Phase(a.Zero) != "" || a.Stream("front") != "door-front" {
		t.Error("the door's history, first phase or stream is another")
	}
	if org, tenant := a.Owner(a.Zero, "front"); org != "org" || tenant != "front" {
		t.Errorf("the owner is %q, %q", org, tenant)
	}
	var c paint
	if c.Give(domain.Given{CommandID: "c"}); c.CommandID != "c" {
		t.Error("what the Bus gives does not arrive")
	}
}
