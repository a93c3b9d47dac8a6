package sagastest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/sagas"
)

// A golden history is what one instance of a saga did, trigger by trigger, as files DIR/<saga>-v<version>/<case>.json. It is
// written once and never edited: a definition's table may change only in ways that leave every history of its version as it
// is, else it is a new version.
type history struct {
	Saga    string  `json:"saga"`
	Version int     `json:"version"`
	Moves   []*move `json:"moves"`
}

type move struct {
	Now      time.Time       `json:"now"`
	Event    *event          `json:"event,omitempty"`
	Accepted *accepted       `json:"accepted,omitempty"`
	Quiet    *sagas.Quiet    `json:"quiet,omitempty"`
	Refused  *sagas.Refused  `json:"refused,omitempty"`
	Silence  *sagas.Silence  `json:"silence,omitempty"`
	Due      bool            `json:"due,omitempty"`
	Wake     bool            `json:"wake,omitempty"`
	Snapshot json.RawMessage `json:"snapshot,omitempty"`
	Step     string          `json:"step,omitempty"` // of the snapshot
	Own      *event          `json:"own,omitempty"`  // an operator's fact
	Facts    []event         `json:"facts"`
}

type accepted struct {
	CommandID string  `json:"commandId"`
	Stream    string  `json:"stream"`
	Revision  int64   `json:"revision"`
	Events    []event `json:"events,omitempty"`
}

type event struct {
	Type string          `json:"type"`
	Rev  int             `json:"rev"`
	Data json.RawMessage `json:"data"`
	Meta *meta           `json:"meta,omitempty"`
}

type meta struct {
	Stream   string          `json:"stream"`
	Revision int64           `json:"revision"`
	EventID  string          `json:"eventId"`
	Org      string          `json:"org,omitempty"`
	Tenant   string          `json:"tenant,omitempty"`
	Answers  *domain.Answers `json:"answers,omitempty"`
}

var facts = domain.NewRegistry(saga.Catalog)

// ReplayGolden replays every golden history under dir against the definitions, one for each version ever released.
func ReplayGolden(t *testing.T, r *domain.Registry, dir string, definitions ...*sagas.Definition) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden histories under %s (%v)", dir, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file))+"/"+filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var h history
			if err := json.Unmarshal(b, &h); err != nil {
				t.Fatal(err)
			}
			for _, d := range definitions {
				if d.Name == h.Saga && d.Version == h.Version {
					replay(t, r, d, h)
					return
				}
			}
			t.Fatalf("no definition of %s version %d is left, but its instances may be", h.Saga, h.Version)
		})
	}
}

func replay(t *testing.T, r *domain.Registry, d *sagas.Definition, h history) {
	t.Helper()
	var s saga.State
	for n, m := range h.Moves {
		got := m.play(t, r, d, &s)
		for i, f := range m.Facts { // as this release would write them
			m.Facts[i] = encode(t, facts, decode(t, facts, f))
		}
		if want := indented(t, m.Facts); !bytes.Equal(indented(t, got), want) {
			t.Fatalf("move %d of a golden history (-want +got):\n%s", n, cmp.Diff(string(want), string(indented(t, got))))
		}
	}
}

// play gives the facts of one move and evolves the state by them.
func (m *move) play(t *testing.T, r *domain.Registry, d *sagas.Definition, s *saga.State) (got []event) {
	t.Helper()
	if m.Own != nil {
		*s = saga.Evolve(*s, decode(t, facts, *m.Own).(saga.Event))
		return nil
	}
	for _, f := range d.React(r, *s, sagas.Trigger{Now: m.Now, What: m.trigger(t, r, d)}).Facts {
		got = append(got, encode(t, facts, f))
		*s = saga.Evolve(*s, f)
	}
	return got
}

func (m *move) trigger(t *testing.T, r *domain.Registry, d *sagas.Definition) any {
	t.Helper()
	switch {
	case m.Event != nil:
		return m.Event.decode(t, r)
	case m.Accepted != nil:
		a := sagas.Accepted{CommandID: m.Accepted.CommandID, Stream: m.Accepted.Stream, Revision: m.Accepted.Revision}
		for _, e := range m.Accepted.Events {
			a.Events = append(a.Events, e.decode(t, r))
		}
		return a
	case m.Quiet != nil:
		return *m.Quiet
	case m.Refused != nil:
		return *m.Refused
	case m.Silence != nil:
		return *m.Silence
	case m.Due:
		return sagas.Due{}
	case m.Snapshot != nil:
		v, err := d.DecodeSnapshot(m.Step, m.Snapshot)
		if err != nil {
			t.Fatal(err)
		}
		return sagas.Snapshot{Step: m.Step, Value: v}
	default:
		return sagas.Wake{}
	}
}

// Golden plays triggers on a definition and compares what it does with the golden history of that name under dir, writing
// the history when there is none. Beside the triggers of package sagas, saga.Retried and saga.Cancelled may stand for
// operators' facts. Between the triggers, answers give the command id of the pending ask where they leave theirs empty, as
// do events with Answers whose Command is empty. It returns the state at the end.
func Golden(t *testing.T, r *domain.Registry, d *sagas.Definition, dir, name string, triggers ...sagas.Trigger) saga.State {
	t.Helper()
	h := history{Saga: d.Name, Version: d.Version}
	var s saga.State
	for _, trigger := range triggers {
		m := &move{Now: trigger.Now}
		m.set(t, r, s, trigger.What)
		m.Facts = m.play(t, r, d, &s)
		h.Moves = append(h.Moves, m)
	}
	got := append(indented(t, h), '\n')
	file := filepath.Join(dir, d.Name+"-v"+strconv.Itoa(d.Version), name+".json")
	want, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Logf("wrote %s", file)
		return s
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Fatalf("%s (-want +got):\n%s", file, cmp.Diff(string(want), string(got)))
	}
	return s
}

func (m *move) set(t *testing.T, r *domain.Registry, s saga.State, trigger any) {
	t.Helper()
	pending := ""
	if s.Pending != nil {
		pending = s.Pending.CommandID
	}
	fill := func(id string) string {
		if id == "" {
			return pending
		}
		return id
	}
	encoded := func(e sagas.Event, answers bool) *event {
		w := encode(t, r, e.Event)
		w.Meta = &meta{e.Meta.Stream, e.Meta.Revision, e.Meta.EventID, e.Meta.Org, e.Meta.Tenant, e.Meta.Answers}
		if a := e.Meta.Answers; a != nil && a.Command == "" || answers && a == nil {
			w.Meta.Answers = &domain.Answers{Saga: s.Started.Saga, Command: pending}
		}
		return &w
	}
	switch v := trigger.(type) {
	case sagas.Event:
		m.Event = encoded(v, false)
	case sagas.Accepted:
		m.Accepted = &accepted{CommandID: fill(v.CommandID), Stream: v.Stream, Revision: v.Revision}
		for _, e := range v.Events {
			m.Accepted.Events = append(m.Accepted.Events, *encoded(e, true))
		}
	case sagas.Quiet:
		m.Quiet = &sagas.Quiet{CommandID: fill(v.CommandID)}
	case sagas.Refused:
		v.CommandID = fill(v.CommandID)
		m.Refused = &v
	case sagas.Silence:
		m.Silence = &sagas.Silence{CommandID: fill(v.CommandID)}
	case sagas.Due:
		m.Due = true
	case sagas.Wake:
		m.Wake = true
	case sagas.Snapshot:
		b, err := json.Marshal(v.Value)
		if err != nil {
			t.Fatal(err)
		}
		m.Snapshot, m.Step = b, v.Step
	case saga.Event:
		own := encode(t, facts, v)
		m.Own = &own
	default:
		t.Fatalf("%T is no trigger", v)
	}
}

func (e event) decode(t *testing.T, r *domain.Registry) sagas.Event {
	t.Helper()
	out := sagas.Event{Event: decode(t, r, e)}
	if m := e.Meta; m != nil {
		out.Meta = domain.Meta{Stream: m.Stream, Revision: m.Revision, EventID: m.EventID, Org: m.Org, Tenant: m.Tenant,
			Answers: m.Answers, Type: e.Type, Rev: e.Rev}
	}
	return out
}

func decode(t *testing.T, r *domain.Registry, e event) any {
	t.Helper()
	v, err := r.Decode(e.Type, e.Rev, e.Data)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func encode(t *testing.T, r *domain.Registry, v any) event {
	t.Helper()
	name, rev, data, err := r.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return event{Type: name, Rev: rev, Data: data}
}

func indented(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return b
}
