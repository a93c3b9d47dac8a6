package commands

import (
	"fmt"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// round is what the pending calls lead to on one fold.
type round struct {
	events []domain.Proposed
	watch  map[string]*op // whose events these are, by command id
	state  any            // behind events
	next   int64          // revision of the next event
	bytes  int
}

// decide decides every pending call in order. Those that append stand in the round; the others hold a verdict that may be
// given out once it rests on a fresh fold and on nothing that is yet to be appended.
func (t *turn) decide() round {
	now := domain.Micro(t.Now())
	r := round{watch: map[string]*op{}, state: t.fold.state, next: t.fold.revision + 1}
	for _, o := range t.pending {
		o.verdict = verdict{uncertain: o.uncertain}
		if err := t.decideOne(o, &r, now); err != nil {
			o.err = coded(err)
		}
	}
	return r
}

func (t *turn) decideOne(o *op, r *round, now time.Time) error {
	if t.fold.blocked != nil {
		return t.fold.blocked
	}
	if o.peek {
		o.out = Outcome{Revision: t.fold.revision, State: t.fold.state}
		return nil
	}
	if m, found := t.fold.recall(o, now); found {
		if m.hash != o.hash {
			return keyReused()
		}
		o.memo = &m
		return nil
	}
	if r.watch[o.id] != nil {
		return nil // the same command stands before it: what became of that is known once it is appended
	}
	if want := o.call.Expected; want != nil && *want != r.next-1 {
		return domain.Conflict(*want, r.next-1)
	}
	payloads, err := t.ask(o, r.state, now)
	if err != nil {
		return err
	}
	quiet := len(payloads) == 0
	if quiet && o.hash != "" && !o.call.DryRun {
		payloads = []any{t.aggregate.Noted}
	}
	made, err := t.make(o, r.state, r.next, now, payloads)
	if err != nil {
		return err
	}
	if o.call.DryRun || len(payloads) == 0 {
		o.out = t.stand(o, r.next-1+int64(len(payloads)), t.fold.commit, made.state)
		o.out.Events, o.out.Quiet = made.events, quiet
		return nil
	}
	if made.bytes > maxAppendBytes {
		return &domain.Error{Code: domain.CodeTooLarge, Message: fmt.Sprintf("the command leads to events of %d bytes; %d can be taken", made.bytes, maxAppendBytes)}
	}
	if r.bytes+made.bytes > maxAppendBytes {
		return nil // left for the next round
	}
	r.events, r.state, r.watch[o.id] = append(r.events, made.proposed...), made.state, o
	r.next, r.bytes = r.next+int64(len(payloads)), r.bytes+made.bytes
	return nil
}

// ask gives the command what the Bus knows, and puts it to the decider. A decider that panics refuses this command alone.
func (t *turn) ask(o *op, state any, now time.Time) (events []any, err error) {
	defer func() {
		if p := recover(); p != nil {
			t.Logger.Error("a decider panicked", "command", o.kind.name, "stream", t.stream, "panic", p, "stack", string(debug.Stack()))
			err = internal(fmt.Errorf("deciding %s: %v", o.kind.name, p))
		}
	}()
	own := reflect.New(o.command.Type().Elem())
	own.Elem().Set(o.command.Elem())
	if c, ok := own.Interface().(interface{ Give(domain.Given) }); ok {
		c.Give(domain.Given{Now: now, CommandID: o.id, Stream: t.stream, Answers: o.call.Answers})
	}
	return t.aggregate.Decide(state, own.Elem().Interface())
}

// made is a command's events, ready for the log.
type made struct {
	proposed []domain.Proposed
	events   []Event
	state    any // behind them
	bytes    int
}

// make seals the events' clear text and puts the metadata to them. A dry run seals nothing, so that it makes no key.
func (t *turn) make(o *op, state any, revision int64, now time.Time, payloads []any) (m made, err error) {
	m.state = state
	for i, p := range payloads {
		before := m.state
		m.state = t.aggregate.Evolve(before, p)
		org, tenant := t.owner(p, m.state, o.target)
		meta := t.meta(o, org, tenant, now)
		meta.Answers = o.answers(p)
		entry, _ := t.aggregate.events.Named(t.aggregate.events.NameOf(p))
		meta.Revision, meta.EventID, meta.Type, meta.Rev = revision+int64(i), domain.EventID(o.id, t.stream, i), entry.Name, entry.Revision
		if o.call.DryRun {
			m.events = append(m.events, Event{meta, p})
			continue
		}
		sealed, changed, err := t.seal(o, p, org)
		if err != nil {
			return made{}, err
		}
		if changed {
			m.state = t.aggregate.Evolve(before, sealed)
		}
		name, _, data, err := t.aggregate.events.Encode(sealed)
		if err != nil {
			return made{}, err
		}
		next := domain.Proposed{ID: meta.EventID, Type: name, Data: data, Meta: meta.Encode()}
		m.proposed = append(m.proposed, next)
		m.bytes += len(next.Data) + len(next.Meta) + 2*len(next.Type)
	}
	return m, nil
}

// answers is the ask that an event answers: that of an earlier command where the event says so, else this call's.
func (o *op) answers(event any) *domain.Answers {
	if e, ok := event.(domain.Answering); ok {
		return e.Answering()
	}
	return o.call.Answers
}

func (t *turn) owner(event, after any, id string) (org, tenant string) {
	if e, ok := event.(domain.Owned); ok {
		return e.Owner()
	}
	return t.aggregate.Owner(after, id)
}

func (t *turn) meta(o *op, org, tenant string, now time.Time) domain.Meta {
	correlation := o.call.Correlation
	if correlation == "" {
		correlation = o.id
	}
	return domain.Meta{Stream: t.stream, Correlation: correlation, Causation: o.call.Causation, CommandID: o.id, InputHash: o.hash,
		Actor: o.call.Actor, Org: org, Tenant: tenant, RecordedAt: now, Traceparent: o.call.Traceparent, Epoch: t.Epoch,
		Read: o.read}
}

// seal closes an event's clear text. Its subject is whom the command names by SealFor; else the org that the event belongs
// to; else, for what belongs to no org, the aggregate itself.
func (t *turn) seal(o *op, event any, org string) (sealed any, some bool, err error) {
	subject := org
	if subject == "" {
		subject = o.target
	}
	if c, ok := o.command.Interface().(interface{ SealFor() string }); ok && c.SealFor() != "" {
		subject = c.SealFor()
	}
	sealed, err = domain.MapSealed(event, func(clear string) (domain.Sealed, error) {
		if t.Sealer == nil {
			return domain.Sealed{}, internal(fmt.Errorf("there is no key store to seal %s with", o.kind.name))
		}
		some = true
		return t.Sealer.Seal(t.base, subject, clear)
	})
	return sealed, some, err
}

func (t *turn) isNoted(event any) bool { return reflect.TypeOf(event) == t.aggregate.noted }
