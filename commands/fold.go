package commands

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// How long commands are remembered: a caller's by recorded time, as the API promises; a saga's or the system's only as a
// convenience, because their aggregates recognise them by themselves.
const (
	callersFor  = 7 * 24 * time.Hour
	othersCount = 4096
)

// fold is a stream folded up to a revision: the aggregate's state, and which commands led to it.
type fold struct {
	state    any
	revision int64
	commit   uint64 // of the event at revision
	blocked  error  // why the event behind revision cannot be folded
	callers  memory
	others   memory
}

func newFold(a *aggregate) *fold {
	return &fold{state: a.Zero, revision: domain.NoStream, callers: memory{}, others: memory{}}
}

// apply folds the next event.
func (f *fold) apply(a *aggregate, e domain.Recorded, payload any) {
	f.state = a.Evolve(f.state, payload)
	f.revision, f.commit = e.Revision, e.Commit
	if e.CommandID == "" {
		return
	}
	quiet := reflect.TypeOf(payload) == a.noted
	if e.InputHash != "" {
		f.callers.add(e, quiet)
		f.callers.forget(func(m memo) bool { return !e.RecordedAt.Before(m.at.Add(callersFor)) })
		return
	}
	f.others.add(e, quiet)
	f.others.forget(func(memo) bool { return len(f.others.by) > othersCount })
}

// recall finds what a command led to, if it is still remembered at a time.
func (f *fold) recall(o *op, now time.Time) (memo, bool) {
	if o.hash == "" {
		m, found := f.others.by[commandKey(o.id)]
		return m, found
	}
	m, found := f.callers.by[commandKey(o.id)]
	return m, found && now.Before(m.at.Add(callersFor))
}

// memo is what is remembered of one command.
type memo struct {
	first, last int64  // the revisions of its events
	commit      uint64 // of its last event
	hash        string // of its input
	at          time.Time
	quiet       bool
}

// memory is memos by command id, and the order in which they came.
type memory struct {
	by    map[domain.UUID]memo
	order []arrival
}

type arrival struct {
	id    domain.UUID
	first int64
}

func (m *memory) add(e domain.Recorded, quiet bool) {
	if m.by == nil {
		m.by = map[domain.UUID]memo{}
	}
	id := commandKey(e.CommandID)
	known, again := m.by[id]
	// A command remembered no longer may come again right behind its first events: index 0 begins anew.
	if again && known.last == e.Revision-1 && e.EventID != domain.EventID(e.CommandID, e.Stream, 0) {
		known.last, known.commit = e.Revision, e.Commit
		m.by[id] = known
		return
	}
	m.by[id] = memo{first: e.Revision, last: e.Revision, commit: e.Commit, hash: e.InputHash, at: e.RecordedAt, quiet: quiet}
	m.order = append(m.order, arrival{id, e.Revision})
}

// forget drops the oldest memos as long as the rule says so.
func (m *memory) forget(rule func(memo) bool) {
	for len(m.order) > 0 {
		oldest := m.order[0]
		known, found := m.by[oldest.id]
		if found && known.first == oldest.first {
			if !rule(known) {
				return
			}
			delete(m.by, oldest.id)
		}
		m.order = m.order[1:]
	}
}

func commandKey(id string) domain.UUID {
	u, err := domain.ParseUUID(id)
	if err != nil {
		return domain.DeriveUUID(id)
	}
	return u
}

// refresh folds what the stream has behind the fold. Events of watched commands are handed to them on the way. An event that
// this release cannot read blocks the fold; that is no error of the reading.
func (b *Bus) refresh(a *aggregate, stream string, f *fold, watch map[string]*op) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = internal(fmt.Errorf("folding %s behind revision %d: %v", stream, f.revision, p))
		}
	}()
	f.blocked = nil
	for e, err := range b.Log.Read(b.base, stream, f.revision+1) {
		if err != nil {
			return coded(err)
		}
		if err := f.take(a, e, watch); err != nil || f.blocked != nil {
			return err
		}
	}
	return nil
}

// take folds the next event of the stream, or is blocked by it.
func (f *fold) take(a *aggregate, e domain.Recorded, watch map[string]*op) error {
	if e.Revision != f.revision+1 {
		return internal(fmt.Errorf("%s goes on at revision %d behind %d", e.Stream, e.Revision, f.revision))
	}
	payload, err := a.events.DecodeRecorded(e)
	if err != nil {
		f.blocked = coded(err)
		return nil
	}
	f.apply(a, e, payload)
	if o := watch[e.CommandID]; o != nil {
		o.recorded = append(o.recorded, Event{e.Meta, payload})
		o.state = f.state
	}
	return nil
}

// reread gives a remembered command's events as the log has them.
func (b *Bus) reread(ctx context.Context, a *aggregate, stream string, m memo) ([]Event, error) {
	var events []Event
	for e, err := range b.Log.Read(ctx, stream, m.first) {
		if err != nil {
			return nil, coded(err)
		}
		payload, err := a.events.DecodeRecorded(e)
		if err != nil {
			return nil, coded(err)
		}
		events = append(events, Event{e.Meta, payload})
		if e.Revision >= m.last {
			break
		}
	}
	return events, nil
}
