package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// owner is a group's work while it holds the lease. Everything in it happens in one goroutine.
type owner struct {
	*Group
	lease   Lease
	renewed time.Time
	at      int64 // the checkpoint
	folders []*folder
	parked  []Parked
}

// own takes the group from its checkpoint to the head and keeps it there until ctx or the lease ends or something fails.
func (g *Group) own(ctx context.Context, l Lease) (err error) {
	o := &owner{Group: g, lease: l, renewed: g.opts.Clock.Now()}
	for _, t := range g.opts.Tables {
		o.folders = append(o.folders, newFolder(t, g.opts.Cache))
	}
	defer func() {
		g.hub.close(domain.Unavailable("the read side has moved to another process or starts again", err))
		if !errors.Is(err, ErrFenced) {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWait)
			defer cancel()
			if err := g.opts.Store.Release(last, o.lease); err != nil {
				g.log.Warn("the lease could not be released and expires", "error", err)
			}
		}
	}()
	if err := o.begin(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	items, done := make(chan item, 8192), make(chan struct{})
	go func() { defer close(done); g.receive(ctx, o.at, items) }()
	defer func() { stop(); <-done }()
	return o.loop(ctx, items)
}

// begin reads where the group stands and builds the tables that it lacks.
func (o *owner) begin(ctx context.Context) error {
	unbuilt, err := o.opts.Store.Prepare(ctx, o.lease, o.opts.Tables)
	if err != nil {
		return err
	}
	mark, _, err := o.opts.Store.Mark(ctx, o.lease)
	if err != nil {
		return err
	}
	if mark.Commit != Nowhere && mark.Log != o.opts.Log {
		return fmt.Errorf("%w: its epoch is %d (%s), the log's %d (%s)", ErrOtherLog, mark.Log.Number, mark.Log.ID, o.opts.Log.Number, o.opts.Log.ID)
	}
	if len(unbuilt) > 0 {
		if err := o.build(ctx, unbuilt, mark); err != nil {
			return err
		}
	}
	if err := o.resume(ctx); err != nil {
		return err
	}
	o.note(func(s *Status) { s.Owner, s.Building, s.Err = true, false, nil })
	o.log.Info("the group is ours", "position", o.at, "epoch", o.lease.Epoch)
	return nil
}

// resume reads the checkpoint and the parked keys again and tells everyone.
func (o *owner) resume(ctx context.Context) error {
	if err := o.restore(ctx); err != nil {
		return err
	}
	o.hub.open(o.at)
	o.moved(o.at)
	o.note(func(s *Status) { s.Parked = slices.Clone(o.parked) })
	return nil
}

// restore forgets everything that may differ from the store and reads where it stands.
func (o *owner) restore(ctx context.Context) error {
	mark, parked, err := o.opts.Store.Mark(ctx, o.lease)
	if err != nil {
		return err
	}
	for _, f := range o.folders {
		f.forget(parked)
	}
	inLogOrder(parked)
	o.at, o.parked = mark.Commit, parked
	return nil
}

func inLogOrder(all []Parked) {
	slices.SortFunc(all, func(a, b Parked) int {
		return cmp.Or(cmp.Compare(a.Commit, b.Commit), cmp.Compare(a.Projection, b.Projection), cmp.Compare(a.Key, b.Key))
	})
}

func (o *owner) loop(ctx context.Context, items <-chan item) error {
	batch := make([]item, 0, 64)
	tick := o.opts.Clock.After(o.opts.Expiry / 4)
	for {
		batch = batch[:0]
		select {
		case i := <-items:
			batch = append(batch, i)
		case h := <-o.heals:
			answer, broken := o.heal(ctx, h)
			h.answer <- answer
			if broken != nil {
				return broken
			}
			continue
		case <-tick:
			tick = o.opts.Clock.After(o.opts.Expiry / 4)
		case <-ctx.Done():
			return ctx.Err()
		}
		for waits := true; waits && len(batch) > 0 && len(batch) < o.opts.Batch && batch[len(batch)-1].stop == nil; {
			select {
			case i := <-items:
				batch = append(batch, i)
			default:
				waits = false // no linger: what has come is the batch
			}
		}
		if err := o.renew(ctx); err != nil {
			return err
		}
		if err := o.take(ctx, batch); err != nil {
			return err
		}
		clear(batch)
	}
}

// take writes what a batch brings, and then says why nothing can follow it, if so.
func (o *owner) take(ctx context.Context, batch []item) error {
	to, caughtUp := o.at, false
	events := batch[:0]
	var stop error
	for _, i := range batch {
		switch {
		case i.stop != nil:
			stop = i.stop
		case i.caughtUp:
			caughtUp = true
		case i.commit > to:
			to = i.commit
			if i.event != nil || i.bad != nil {
				events = append(events, i)
			}
		}
	}
	if to > o.at {
		if err := o.write(ctx, events, to); err != nil {
			return err
		}
	}
	if caughtUp {
		o.note(func(s *Status) { s.CaughtUp = true })
	}
	return stop
}

// write makes one transaction of a batch, again until its outcome is known. After a failure the checkpoint alone says
// whether the batch is in. What fails for long ends the work, which then begins with its tables: one may be gone.
func (o *owner) write(ctx context.Context, batch []item, to int64) error {
	backoff, was := newBackoff(o.opts.Clock), o.at
	var failed error
	for range patience {
		watched := o.hub.begin(to)
		parked, err := o.try(ctx, batch, to, watched)
		if err == nil {
			o.done(to, parked, watched)
			return nil
		}
		failed = err
		o.log.Warn("a batch could not be written", "to", to, "events", len(batch), "error", err)
		o.note(func(s *Status) { s.Err = err })
		if err := o.settle(ctx, backoff); err != nil {
			return err
		}
		switch o.at {
		case to: // it is in
			o.done(to, slices.DeleteFunc(slices.Clone(o.parked), func(p Parked) bool { return int64(p.Commit) <= was }), watched)
			return nil
		case was:
		default:
			return fmt.Errorf("%w: the checkpoint is %d, not %d", ErrFenced, o.at, was)
		}
	}
	return failed
}

// settle waits until the store says where it stands, and that the lease is still ours.
func (o *owner) settle(ctx context.Context, b *backoff) error {
	for b.wait(ctx) {
		if err := o.restore(ctx); err == nil || errors.Is(err, ErrFenced) {
			return err
		}
	}
	return ctx.Err()
}

// patience is how often a batch is tried before the tables are looked at.
const patience = 6

// try folds a batch over cached and loaded rows and commits it.
func (o *owner) try(ctx context.Context, batch []item, to int64, watched *collector) ([]Parked, error) {
	fresh := map[string]bool{}
	for i := range batch {
		if batch[i].meta.Revision == 0 {
			fresh[batch[i].meta.Stream] = true
		}
	}
	var wanted []Wanted
	var by []*folder
	for _, f := range o.folders {
		if keys := f.plan(batch, fresh); len(keys) > 0 {
			wanted, by = append(wanted, Wanted{f.table, keys}), append(by, f)
		}
	}
	if len(wanted) > 0 {
		rows, err := o.opts.Store.Load(ctx, wanted)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if err := by[r.Want].loaded(r.Fields); err != nil {
				return nil, err
			}
		}
	}
	c := Commit{Lease: o.lease, From: o.at, To: Mark{to, o.opts.Log}}
	for _, f := range o.folders {
		f.fold(batch, watched)
		if changes := f.changes(batch); len(changes.Upserts)+len(changes.Deletes) > 0 {
			c.Changes = append(c.Changes, changes)
		}
		c.Park = append(c.Park, f.newly...)
	}
	refused, err := o.opts.Store.Commit(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, f := range o.folders {
		for _, p := range refused {
			if p.Projection == f.table.Name {
				f.refused(p)
			}
		}
		f.committed()
	}
	return append(c.Park, refused...), nil
}

// done tells everyone of a batch that is in the store.
func (o *owner) done(to int64, parked []Parked, watched *collector) {
	o.at = to
	for _, p := range parked {
		o.log.Error("a row is parked", "projection", p.Projection, "key", p.Key, "stream", p.Stream, "revision", p.Revision, "error", p.Error)
		if !slices.Contains(o.parked, p) {
			o.parked = append(o.parked, p)
		}
	}
	inLogOrder(o.parked)
	o.hub.publish(watched, to, parked)
	o.moved(to)
	o.note(func(s *Status) {
		s.Err = nil
		if len(parked) > 0 {
			s.Parked = slices.Clone(o.parked)
		}
	})
}

// renew keeps the lease while the group works. Only losing it ends the work: a store that does not answer may come back.
func (o *owner) renew(ctx context.Context) error {
	now := o.opts.Clock.Now()
	if now.Sub(o.renewed) < o.opts.Expiry/4 {
		return nil
	}
	l, err := o.opts.Store.Renew(ctx, o.lease)
	switch {
	case errors.Is(err, ErrFenced):
		return err
	case err != nil:
		o.log.Warn("the lease could not be renewed", "error", err)
	default:
		o.lease, o.renewed = l, now
	}
	return nil
}

// item is one delivery, decoded once for all tables.
type item struct {
	commit   int64
	meta     domain.Meta
	event    any          // nil if no table wants it
	kind     reflect.Type // of the event, also when it cannot be decoded
	bad      error        // it cannot be decoded: its stream's rows park
	caughtUp bool
	stop     error // nothing follows
}

// receive decodes what the subscription delivers, beside the folding.
func (g *Group) receive(ctx context.Context, after int64, items chan<- item) {
	send := func(i item) bool {
		select {
		case items <- i:
			return i.stop == nil
		case <-ctx.Done():
			return false
		}
	}
	for d, err := range g.opts.Source.Subscribe(ctx, uint64(max(after, 0)), after == Nowhere) {
		i := item{stop: err}
		if err == nil {
			i = g.decode(d)
		}
		if !send(i) {
			return
		}
	}
	if ctx.Err() == nil {
		send(item{stop: errors.New("the subscription ended")})
	}
}

func (g *Group) decode(d domain.Delivery) item {
	switch d.Kind {
	case domain.CaughtUp:
		return item{caughtUp: true}
	case domain.Checkpoint:
		return item{commit: int64(d.Commit)}
	}
	i := item{commit: int64(d.Event.Commit), meta: d.Event.Meta}
	if len(d.Event.Type) > 0 && d.Event.Type[0] == '$' {
		return i // the store's own
	}
	e, known := g.opts.Registry.Named(d.Event.Type)
	i.kind = e.Type
	if known && d.Event.Rev >= 1 && d.Event.Rev <= e.Revision && !g.feeds[e.Type] {
		return i
	}
	var err error
	i.event, err = g.opts.Registry.DecodeRecorded(d.Event)
	switch {
	case errors.Is(err, domain.ErrNewer):
		i.stop = fmt.Errorf("%s@%d at %d: %w", d.Event.Stream, d.Event.Revision, d.Event.Commit, err)
	case err != nil:
		i.event, i.bad = nil, err
	}
	return i
}
