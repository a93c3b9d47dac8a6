package commands_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/commands/commandstest"
	"github.com/tenure-dev/tenure/domain"
)

// Two tiny aggregates: a box stands on a shelf, holds units up to the shelf's limit, and can be shut.

type (
	boxEvent interface{ box() }

	Made struct {
		Org   string `json:"org"`
		Shelf string `json:"shelf,omitempty"`
		Limit int    `json:"limit"`
	}
	Put struct {
		Units int           `json:"units"`
		Note  domain.Sealed `json:"note"`
	}
	Lent struct {
		To string `json:"to"`
	}
	Shut     struct{}
	BoxNoted struct{}

	Make struct {
		domain.Given `json:"-"`
		ID           string `json:"id,omitempty"`
		Org          string `json:"org"`
		Shelf        string `json:"shelf,omitempty"`
		Limit        int    `json:"-"` // the shelf's, filled in
	}
	PutIn struct {
		domain.Given `json:"-"`
		ID           string        `json:"id"`
		Units        int           `json:"units"`
		Times        int           `json:"times,omitempty"` // that many events; 0 is 1
		Note         domain.Sealed `json:"note"`
		Person       string        `json:"person,omitempty"`
	}
	Lend struct {
		ID string `json:"id"`
		To string `json:"to"`
	}
	Close struct {
		ID string `json:"id"`
	}
	Panic struct {
		ID string `json:"id"`
	}

	boxState struct {
		Phase        string
		Org          string
		Limit, Units int
		Notes        []domain.Sealed
		PutAt        time.Time
	}
)

func (Made) box()     {}
func (Put) box()      {}
func (Lent) box()     {}
func (Shut) box()     {}
func (BoxNoted) box() {}

func (l Lent) Owner() (string, string) { return "org_lender", "ten_" + l.To }

func (c Make) Target() string       { return c.ID }
func (c *Make) SetID(id string)     { c.ID = id }
func (c Make) IDPrefix() string     { return "box" }
func (c PutIn) Target() string      { return c.ID }
func (c PutIn) SealFor() string     { return c.Person }
func (c Lend) Target() string       { return c.ID }
func (c Close) Target() string      { return c.ID }
func (c Panic) Target() string      { return c.ID }
func (c PutIn) Check() error        { return domain.CheckText("note", textOf(c.Note), 2<<20) }
func textOf(s domain.Sealed) string { t, _ := s.Unsealed(); return t }

func boxRule[C any](h func(boxState, C) ([]boxEvent, error), from ...string) domain.Rule[string, boxState, boxEvent] {
	return domain.On(h, from...)
}

var boxes = domain.Decider[string, boxState, boxEvent]{
	Phase:  func(s boxState) string { return s.Phase },
	Phases: []string{"", "open", "shut"},
	Evolve: func(s boxState, e boxEvent) boxState {
		switch e := e.(type) {
		case Made:
			s.Phase, s.Org, s.Limit = "open", e.Org, e.Limit
		case Put:
			s.Units += e.Units
			s.Notes = append(s.Notes[:len(s.Notes):len(s.Notes)], e.Note)
		case Shut:
			s.Phase = "shut"
		case Lent, BoxNoted:
		}
		return s
	},
	Rules: []domain.Rule[string, boxState, boxEvent]{
		boxRule(func(_ boxState, c Make) ([]boxEvent, error) { return []boxEvent{Made{c.Org, c.Shelf, c.Limit}}, nil }, ""),
		boxRule(func(s boxState, c PutIn) ([]boxEvent, error) {
			if c.CommandID == "" || c.Stream != "box-"+c.ID || c.Now.IsZero() {
				return nil, errors.New("nothing is given")
			}
			if s.Units+c.Units > s.Limit {
				return nil, &domain.Error{Code: domain.CodeQuotaExceeded, Message: fmt.Sprintf("the box holds %d", s.Limit)}
			}
			var events []boxEvent
			for range max(c.Times, 1) {
				events = append(events, Put{c.Units, c.Note})
			}
			return events, nil
		}, "open"),
		boxRule(func(_ boxState, c Lend) ([]boxEvent, error) { return []boxEvent{Lent{c.To}}, nil }, "open"),
		boxRule(func(boxState, Close) ([]boxEvent, error) { return []boxEvent{Shut{}}, nil }, "open").QuietIn("shut"),
		boxRule(func(boxState, Panic) ([]boxEvent, error) { panic("at the decider") }, "open"),
	},
}.Aggregate("box", domain.Catalog{
	domain.Fact[Made]("box.made"), domain.Fact[Put]("box.put"), domain.Fact[Lent]("box.lent"), domain.Fact[Shut]("box.shut"),
	domain.Fact[BoxNoted]("box.noted"),
}, domain.Catalog{
	domain.Fact[Make]("box.make"), domain.Fact[PutIn]("box.putIn"), domain.Fact[Lend]("box.lend"), domain.Fact[Close]("box.close"),
	domain.Fact[Panic]("box.panic"),
}, BoxNoted{}, func(s boxState, id string) (string, string) { return s.Org, "" })

type (
	shelfEvent interface{ shelf() }
	Built      struct {
		Limit int `json:"limit"`
	}
	ShelfNoted struct{}
	Build      struct {
		Key   string `json:"key"`
		Limit int    `json:"limit"`
	}
	shelfState struct{ Limit int }
)

func (Built) shelf()           {}
func (ShelfNoted) shelf()      {}
func (c Build) Target() string { return c.Key }

var shelves = domain.Decider[string, shelfState, shelfEvent]{
	Phase: func(s shelfState) string {
		if s.Limit > 0 {
			return "built"
		}
		return ""
	},
	Evolve: func(s shelfState, e shelfEvent) shelfState {
		if e, ok := e.(Built); ok {
			s.Limit = e.Limit
		}
		return s
	},
	Rules: []domain.Rule[string, shelfState, shelfEvent]{
		domain.On(func(_ shelfState, c Build) ([]shelfEvent, error) { return []shelfEvent{Built{c.Limit}}, nil }, "", "built"),
	},
}.Aggregate("shelf", domain.Catalog{domain.Fact[Built]("shelf.built"), domain.Fact[ShelfNoted]("shelf.noted")},
	domain.Catalog{domain.Fact[Build]("shelf.build")}, ShelfNoted{}, func(shelfState, string) (string, string) { return "", "" })

var facts = []commands.Fact{
	commands.NewFact(func(c Make) string { return c.Shelf }, shelves,
		func(s shelfState, exists bool, revision int64) int {
			if !exists || revision < 0 {
				return -1
			}
			return s.Limit
		},
		func(c *Make, limit int) { c.Limit = limit }),
}

// clock is a clock that tests move by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// sealer "seals" by naming the subject in front of the text.
type sealer struct{}

func (sealer) Seal(_ context.Context, subject, text string) (domain.Sealed, error) {
	return domain.Sealed{Subject: subject, Key: "1", Text: []byte(strings.ToUpper(text))}, nil
}
func (sealer) Open(_ context.Context, s domain.Sealed) (string, bool, error) {
	return strings.ToLower(string(s.Text)), true, nil
}

var epoch = domain.Epoch{Number: 1, ID: "e1"}

func start() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)} }

// newBus makes a Bus on a log; change may alter its config.
func newBus(t testing.TB, log commands.Log, change ...func(*commands.Config)) *commands.Bus {
	t.Helper()
	c := commands.Config{Log: log, Aggregates: []domain.Aggregate{boxes, shelves}, Facts: facts, Sealer: sealer{},
		HashKey: make([]byte, 32), Epoch: epoch, Now: start().Now, Pause: func(ctx context.Context, _ int) error { return ctx.Err() }}
	for _, f := range change {
		f(&c)
	}
	b, err := commands.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func by(key string, c domain.Command) commands.Call {
	return commands.Call{Command: c, Actor: "usr_ada", Key: key}
}

func saga(n int, c domain.Command) commands.Call {
	return commands.Call{Command: c, Actor: "saga", CommandID: domain.SagaCommandID("sag_x", "step", "", false, n)}
}

func do(t testing.TB, b *commands.Bus, c commands.Call) commands.Outcome {
	t.Helper()
	o, err := b.Execute(t.Context(), c)
	if err != nil {
		t.Fatalf("%T: %v", c.Command, err)
	}
	return o
}

func refused(t testing.TB, b *commands.Bus, c commands.Call, code domain.Code, field string) *domain.Error {
	t.Helper()
	o, err := b.Execute(t.Context(), c)
	var e *domain.Error
	if !errors.As(err, &e) || e.Code != code || e.Field != field {
		t.Fatalf("%T: got %+v, %v (code %s); want code %s, field %q", c.Command, o, err, domain.CodeOf(err), code, field)
	}
	return e
}

// aBox makes a box with a limit and gives its id.
func aBox(t testing.TB, b *commands.Bus, key string, limit int) string {
	t.Helper()
	do(t, b, by("shelf-"+key, Build{"shelf-" + key, limit}))
	return do(t, b, by("box-"+key, Make{Org: "org_a", Shelf: "shelf-" + key})).ID
}

func types(l *commandstest.Log, stream string) string {
	var names []string
	for _, e := range l.Stream(stream, 0) {
		names = append(names, e.Type)
	}
	return strings.Join(names, " ")
}
