package commands_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/commands/commandstest"
	"github.com/tenure-dev/tenure/domain"
)

func TestOutcomeAndMetadataNameEverything(t *testing.T) {
	log := &commandstest.Log{}
	b := newBus(t, log)
	do(t, b, by("k0", Build{"shelf-a", 7}))
	call := by("k1", Make{Org: "org_a", Shelf: "shelf-a"})
	call.Correlation, call.Causation, call.Traceparent, call.Answers = "corr", "cause", "00-aa-bb-01", &domain.Answers{Saga: "sag_1", Command: "c"}
	o := do(t, b, call)

	id := domain.NewID("box", "usr_ada", "box.make", "k1")
	command := domain.CallerCommandID("usr_ada", "box.make", id, "k1")
	stored := log.Stream("box-"+id, 0)
	if len(stored) != 1 || string(stored[0].Data) != `{"org":"org_a","shelf":"shelf-a","limit":7}` {
		t.Fatalf("stored %+v", stored)
	}
	want := stored[0].Meta
	want.Type, want.Revision, want.EventID, want.Rev = "box.made", 0, domain.EventID(command, "box-"+id, 0), 1
	want.Correlation, want.Causation, want.CommandID, want.Actor, want.Org = "corr", "cause", command, "usr_ada", "org_a"
	want.RecordedAt, want.Traceparent, want.Epoch = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC), "00-aa-bb-01", epoch
	want.Answers, want.Read = &domain.Answers{Saga: "sag_1", Command: "c"}, map[string]int64{"shelf-shelf-a": 0}
	if len(want.InputHash) != 64 {
		t.Errorf("input hash %q", want.InputHash)
	}
	expected := commands.Outcome{CommandID: command, ID: id, Stream: "box-" + id, Revision: 0,
		Position: domain.Position{Epoch: epoch, Commit: stored[0].Commit}, Events: []commands.Event{{Meta: want, Payload: Made{"org_a", "shelf-a", 7}}},
		State: boxState{Phase: "open", Org: "org_a", Limit: 7}}
	if d := cmp.Diff(expected, o, cmp.AllowUnexported(domain.Sealed{})); d != "" {
		t.Error(d)
	}
}

func TestCorrelationIsTheCommandIfNoneIsGiven(t *testing.T) {
	log := &commandstest.Log{}
	o := do(t, newBus(t, log), by("k", Build{"shelf-a", 7}))
	if got := log.All()[0]; got.Correlation != o.CommandID || got.Org != "" {
		t.Errorf("%+v", got.Meta)
	}
}

func TestRepeatGivesTheFirstOutcome(t *testing.T) {
	log := &commandstest.Log{}
	b, other := newBus(t, log), newBus(t, log)
	id := aBox(t, b, "a", 10)
	call := by("put", PutIn{ID: id, Units: 2, Times: 3, Note: domain.Clear("hello")})
	first := do(t, b, call)
	do(t, b, by("put2", PutIn{ID: id, Units: 1}))
	before := len(log.All())
	for name, bus := range map[string]*commands.Bus{"the same": b, "another": other} {
		again := do(t, bus, call)
		if !again.Repeated || again.Position != first.Position || again.Revision != first.Revision || len(again.Events) != 3 {
			t.Errorf("on %s Bus: %+v", name, again)
		}
		if d := cmp.Diff(first.Events, again.Events, cmp.AllowUnexported(domain.Sealed{})); d != "" {
			t.Error(d)
		}
	}
	if first.Repeated || len(log.All()) != before {
		t.Error("a repeat appended")
	}
	for name, c := range map[string]domain.Command{
		"units": PutIn{ID: id, Units: 1, Times: 3, Note: domain.Clear("hello")},
		"note":  PutIn{ID: id, Units: 2, Times: 3, Note: domain.Clear("hullo")},
	} {
		t.Run("other "+name, func(t *testing.T) { refused(t, b, by("put", c), domain.CodeKeyReused, "idempotencyKey") })
	}
	call.Expected = new(int64)
	refused(t, b, call, domain.CodeKeyReused, "idempotencyKey")
}

func TestAKeyIsItsActorsAndItsCommandsOwn(t *testing.T) {
	log := &commandstest.Log{}
	b := newBus(t, log)
	id := aBox(t, b, "a", 10)
	do(t, b, by("k", PutIn{ID: id, Units: 1}))
	do(t, b, by("k", Lend{ID: id, To: "x"}))
	call := by("k", PutIn{ID: id, Units: 2})
	call.Actor = "usr_bob"
	if o := do(t, b, call); o.Repeated {
		t.Error("another actor's key was taken for the first one's")
	}
}

func TestARepeatComesBeforeTheExpectedRevision(t *testing.T) {
	b := newBus(t, &commandstest.Log{})
	id := aBox(t, b, "a", 10)
	call := by("put", PutIn{ID: id, Units: 1})
	call.Expected = new(int64)
	do(t, b, call)
	if o := do(t, b, call); !o.Repeated || o.Revision != 1 {
		t.Errorf("%+v", o)
	}
	call.Key = "other"
	if e := refused(t, b, call, domain.CodeConflict, "expectedRevision"); e.Expected != 0 || e.Actual != 1 {
		t.Errorf("%+v", e)
	}
}

func TestCallersAreRememberedForSevenDays(t *testing.T) {
	log, c := &commandstest.Log{}, start()
	b := newBus(t, log, func(cfg *commands.Config) { cfg.Now = c.Now })
	id := aBox(t, b, "a", 10)
	call := by("put", PutIn{ID: id, Units: 1})
	do(t, b, call)
	c.add(7*24*time.Hour - time.Microsecond)
	if o := do(t, b, call); !o.Repeated {
		t.Error("forgotten too early")
	}
	c.add(time.Microsecond)
	if o := do(t, b, call); o.Repeated || o.Revision != 2 {
		t.Errorf("not forgotten: %+v", o)
	}
	if o := do(t, b, call); !o.Repeated || o.Revision != 2 {
		t.Errorf("the second life is not remembered: %+v", o)
	}
	if o := do(t, newBus(t, log, func(cfg *commands.Config) { cfg.Now = c.Now }), call); !o.Repeated || o.Revision != 2 {
		t.Errorf("another Bus: %+v", o)
	}
}

func TestWhatChangesNothingIsNotedForCallersOnly(t *testing.T) {
	log := &commandstest.Log{}
	b := newBus(t, log)
	id := aBox(t, b, "a", 10)
	do(t, b, by("c1", Close{id}))
	o := do(t, b, by("c2", Close{id}))
	if !o.Quiet || o.Revision != 2 || o.Events[0].Type != "box.noted" || o.Position.Commit != log.All()[len(log.All())-1].Commit {
		t.Errorf("%+v", o)
	}
	if again := do(t, b, by("c2", Close{id})); !again.Quiet || !again.Repeated || again.Position != o.Position {
		t.Errorf("%+v", again)
	}
	n := len(log.All())
	s := do(t, b, saga(1, Close{id}))
	if !s.Quiet || s.Revision != 2 || s.Position != o.Position || len(s.Events) != 0 || len(log.All()) != n {
		t.Errorf("a saga's: %+v", s)
	}
}

func TestRefusedIsNotRemembered(t *testing.T) {
	log := &commandstest.Log{}
	b := newBus(t, log)
	id := aBox(t, b, "a", 2)
	n := len(log.All())
	refused(t, b, by("k", PutIn{ID: id, Units: 3}), domain.CodeQuotaExceeded, "")
	if o := do(t, b, by("k", PutIn{ID: id, Units: 2})); o.Repeated {
		t.Error("refused was remembered")
	}
	do(t, b, by("c", Close{id}))
	if e := refused(t, b, by("k2", Lend{ID: id}), domain.CodeNotAllowed, ""); e.Phase != "shut" || cmp.Diff(e.Allowed, []string{"open"}) != "" {
		t.Errorf("%+v", e)
	}
	if len(log.All()) != n+2 {
		t.Error("a refusal appended")
	}
}

func TestASagasCommandIsRecognised(t *testing.T) {
	log := &commandstest.Log{}
	b := newBus(t, log)
	id := aBox(t, b, "a", 10)
	first := do(t, b, saga(1, PutIn{ID: id, Units: 1}))
	again := do(t, b, saga(1, PutIn{ID: id, Units: 1}))
	if first.Repeated || !again.Repeated || again.Position != first.Position || log.All()[2].InputHash != "" {
		t.Errorf("%+v, %+v", first, again)
	}
	if made := do(t, b, saga(2, Make{Org: "org_b"})); made.ID != domain.NewID("box", "saga", "box.make", made.CommandID) {
		t.Errorf("%+v", made)
	}
}

func TestDryRunAppendsNothing(t *testing.T) {
	log := &commandstest.Log{}
	b := newBus(t, log)
	id := aBox(t, b, "a", 2)
	n := len(log.All())
	dry := func(key string, c domain.Command) commands.Call { call := by(key, c); call.DryRun = true; return call }
	o := do(t, b, dry("k", PutIn{ID: id, Units: 2, Note: domain.Clear("x")}))
	if !o.DryRun || o.Quiet || o.Revision != 1 || o.State.(boxState).Units != 2 || o.Events[0].Type != "box.put" || o.Events[0].Revision != 1 {
		t.Errorf("%+v", o)
	}
	refused(t, b, dry("k", PutIn{ID: id, Units: 3}), domain.CodeQuotaExceeded, "")
	if o := do(t, b, dry("m", Make{Org: "org_a"})); o.Stream == "" || o.Events[0].Payload != (Made{Org: "org_a"}) {
		t.Errorf("%+v", o)
	}
	if len(log.All()) != n {
		t.Fatal("a dry run appended")
	}
	real := do(t, b, by("k", PutIn{ID: id, Units: 2, Note: domain.Clear("x")}))
	if o.Events[0].EventID != real.Events[0].EventID || real.Repeated {
		t.Error("the dry run was another decision than the real one")
	}
	if o := do(t, b, dry("k", PutIn{ID: id, Units: 2, Note: domain.Clear("x")})); !o.Repeated || !o.DryRun {
		t.Errorf("%+v", o)
	}
	do(t, b, by("c", Close{id}))
	if o := do(t, b, dry("c2", Close{id})); !o.Quiet || len(o.Events) != 0 {
		t.Errorf("%+v", o)
	}
}

func TestClearTextIsSealedForWhomItBelongsTo(t *testing.T) {
	log := &commandstest.Log{}
	b := newBus(t, log)
	id := aBox(t, b, "a", 10)
	org := do(t, b, by("1", PutIn{ID: id, Note: domain.Clear("secret")}))
	person := do(t, b, by("2", PutIn{ID: id, Note: domain.Clear("secret"), Person: "per_1"}))
	none := do(t, b, by("m", Make{}))
	own := do(t, b, by("3", PutIn{ID: none.ID, Note: domain.Clear("secret")}))
	for subject, o := range map[string]commands.Outcome{"org_a": org, "per_1": person, none.ID: own} {
		sealed := o.Events[0].Payload.(Put).Note
		if sealed.Subject != subject || string(sealed.Text) != "SECRET" || o.State.(boxState).Notes[0].IsZero() {
			t.Errorf("%s: %+v", subject, sealed)
		}
	}
	for _, e := range log.All() {
		if strings.Contains(string(e.Data), "secret") {
			t.Errorf("in the clear: %s", e.Data)
		}
	}
	if o := do(t, b, by("1", PutIn{ID: id, Note: domain.Clear("secret")})); !o.Repeated {
		t.Error("sealing changed the input's hash")
	}
	bare := newBus(t, log, func(c *commands.Config) { c.Sealer = nil })
	refused(t, bare, by("4", PutIn{ID: id, Note: domain.Clear("secret")}), domain.CodeInternal, "")
}

func TestAnEventMayNameItsOwner(t *testing.T) {
	b := newBus(t, &commandstest.Log{})
	o := do(t, b, by("l", Lend{ID: aBox(t, b, "a", 1), To: "z"}))
	if m := o.Events[0].Meta; m.Org != "org_lender" || m.Tenant != "ten_z" {
		t.Errorf("%+v", m)
	}
}

func TestFactsAreReadFresh(t *testing.T) {
	log := &commandstest.Log{}
	b, other := newBus(t, log), newBus(t, log)
	if o := do(t, b, by("1", Make{Shelf: "none"})); o.Events[0].Payload.(Made).Limit != -1 || o.Events[0].Read["shelf-none"] != domain.NoStream {
		t.Errorf("%+v", o)
	}
	do(t, other, by("s1", Build{"none", 5}))
	do(t, other, by("s2", Build{"none", 6}))
	if o := do(t, b, by("2", Make{Shelf: "none"})); o.Events[0].Payload.(Made).Limit != 6 || o.Events[0].Read["shelf-none"] != 1 {
		t.Errorf("stale fact: %+v", o)
	}
	if o := do(t, b, by("3", Make{})); o.Events[0].Read != nil {
		t.Errorf("a fact that nobody asked for: %+v", o)
	}
}

func TestBadCallsNameTheirFieldAndAppendNothing(t *testing.T) {
	log := &commandstest.Log{}
	b := newBus(t, log, func(c *commands.Config) {
		c.Authorize = func(_ context.Context, actor string, command any) error {
			if _, builds := command.(Build); builds && actor == "usr_eve" {
				return &domain.Error{Code: domain.CodeForbidden, Message: "may not build"}
			}
			return nil
		}
	})
	below := int64(-2)
	reads, appends := log.Calls()
	for name, row := range map[string]struct {
		call  commands.Call
		code  domain.Code
		field string
	}{
		"no key":            {by("", Build{"s", 1}), domain.CodeInvalid, "idempotencyKey"},
		"odd key":           {by("a b", Build{"s", 1}), domain.CodeInvalid, "idempotencyKey"},
		"long key":          {by(strings.Repeat("k", 129), Build{"s", 1}), domain.CodeInvalid, "idempotencyKey"},
		"no actor":          {commands.Call{Command: Build{"s", 1}, Key: "k"}, domain.CodeUnauthenticated, ""},
		"not a UUID":        {commands.Call{Command: Build{"s", 1}, CommandID: "x"}, domain.CodeInternal, ""},
		"two ids":           {commands.Call{Command: Build{"s", 1}, Key: "k", CommandID: domain.DeriveUUID("x").String()}, domain.CodeInternal, ""},
		"low revision":      {commands.Call{Command: Build{"s", 1}, Actor: "a", Key: "k", Expected: &below}, domain.CodeInvalid, "expectedRevision"},
		"own check":         {by("k", PutIn{ID: "x", Note: domain.Clear("\x00")}), domain.CodeInvalid, "note"},
		"forbidden":         {commands.Call{Command: Build{"s", 1}, Actor: "usr_eve", Key: "k"}, domain.CodeForbidden, ""},
		"no target":         {by("k", Build{"", 1}), domain.CodeInternal, ""},
		"no such command":   {by("k", stranger{}), domain.CodeInternal, ""},
		"no command":        {by("k", nil), domain.CodeInternal, ""},
		"command's address": {by("k", &Close{"x"}), domain.CodeInternal, ""},
	} {
		t.Run(name, func(t *testing.T) { refused(t, b, row.call, row.code, row.field) })
	}
	if r, a := log.Calls(); r != reads || a != appends {
		t.Error("a bad call reached the log")
	}
}

type stranger struct{}

func (stranger) Target() string { return "x" }

func TestPanickingDeciderRefusesItsCommandAlone(t *testing.T) {
	b := newBus(t, &commandstest.Log{})
	id := aBox(t, b, "a", 10)
	refused(t, b, by("p", Panic{id}), domain.CodeInternal, "")
	do(t, b, by("q", PutIn{ID: id}))
}

func TestWhatANewerReleaseWroteRefusesCommands(t *testing.T) {
	for name, e := range map[string]domain.Proposed{
		"an unknown event": {Type: "box.melted", Meta: domain.Meta{Rev: 1}.Encode()},
		"a newer revision": {Type: "box.put", Meta: domain.Meta{Rev: 2}.Encode()},
	} {
		t.Run(name, func(t *testing.T) {
			log := &commandstest.Log{}
			b := newBus(t, log)
			id := aBox(t, b, "a", 10)
			e.ID, e.Data = domain.DeriveUUID("x").String(), []byte(`{}`)
			if _, err := log.Append(t.Context(), "box-"+id, 0, []domain.Proposed{e}); err != nil {
				t.Fatal(err)
			}
			for _, bus := range []*commands.Bus{b, newBus(t, log)} {
				err := refused(t, bus, by("k", PutIn{ID: id}), domain.CodeUnavailable, "")
				if !errors.Is(err, domain.ErrNewer) || !strings.Contains(err.Message, e.Type) {
					t.Errorf("%v", err)
				}
				if _, _, err := bus.State(t.Context(), "box-"+id); !errors.Is(err, domain.ErrNewer) {
					t.Errorf("state: %v", err)
				}
			}
			if got := types(log, "box-"+id); got != "box.made "+e.Type {
				t.Error(got)
			}
		})
	}
}

func TestStateIsFresh(t *testing.T) {
	log := &commandstest.Log{}
	b, other := newBus(t, log), newBus(t, log)
	s, rev, err := b.State(t.Context(), "box-none")
	if err != nil || rev != domain.NoStream || cmp.Diff(s, boxState{}, cmp.AllowUnexported(domain.Sealed{})) != "" {
		t.Errorf("%v %d %v", s, rev, err)
	}
	id := aBox(t, other, "a", 4)
	for want := range int64(3) {
		s, rev, err = b.State(t.Context(), "box-"+id)
		if err != nil || rev != want || s.(boxState).Units != int(want) {
			t.Errorf("%v %d %v", s, rev, err)
		}
		do(t, other, by(string(rune('a'+want)), PutIn{ID: id, Units: 1}))
	}
	if _, _, err := b.State(t.Context(), "nobody-x"); domain.CodeOf(err) != domain.CodeInternal {
		t.Error(err)
	}
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	good := func() commands.Config {
		return commands.Config{Log: &commandstest.Log{}, Aggregates: []domain.Aggregate{boxes, shelves}, Facts: facts,
			HashKey: make([]byte, 32), Epoch: epoch, Now: start().Now}
	}
	for name, change := range map[string]func(*commands.Config){
		"no log":          func(c *commands.Config) { c.Log = nil },
		"no clock":        func(c *commands.Config) { c.Now = nil },
		"short key":       func(c *commands.Config) { c.HashKey = make([]byte, 31) },
		"no epoch":        func(c *commands.Config) { c.Epoch = domain.Epoch{} },
		"category twice":  func(c *commands.Config) { c.Aggregates = append(c.Aggregates, boxes) },
		"no noted":        func(c *commands.Config) { c.Aggregates[0].Noted = nil },
		"command twice":   func(c *commands.Config) { c.Aggregates[1].Commands = boxes.Commands },
		"fact of nothing": func(c *commands.Config) { c.Aggregates = c.Aggregates[:1] },
	} {
		c := good()
		change(&c)
		if _, err := commands.New(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := commands.New(good()); err != nil {
		t.Error(err)
	}
}
