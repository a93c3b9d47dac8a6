package sagas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
)

// Config is what a Runner is made of. Everything without a comment that says otherwise is required.
type Config struct {
	Definitions []*Definition    // every version that this release has
	Registry    *domain.Registry // the events of the whole log, and every command
	Epoch       domain.Epoch     // of the log
	Log         Log
	Source      Source
	Bus         Commander
	Open        OpenStore
	Cursors     Cursors
	Snapshots   Snapshots // needed by definitions that choose
	Planes      Planes    // needed by definitions with operations
	Lease       Lease
	Clock       Clock
	Logger      *slog.Logger // nil drops
	Workers     int          // sagas that run at once; 64 when zero
	Cached      int          // folded sagas kept in memory; 16,384 when zero
	Actor       string       // of the sagas' commands and facts; "saga" when empty
}

// Runner follows the log and runs the sagas in it. Any number of Runners may work on one log: the lease makes one of them
// the leader, and where two overlap, expected revisions and derived ids keep them from harm.
type Runner struct {
	Config
	defs      map[string]map[int]*Definition // by name and version
	interests map[string]*interest           // by wire name
}

// interest says what an event type means to the definitions.
type interest struct {
	revision int           // the newest that this release knows
	starts   []*Definition // that it may start
	heard    bool          // by key, by some definition
}

// NewRunner checks the configuration; the error names what is missing or stands twice.
func NewRunner(c Config) (*Runner, error) {
	for name, missing := range map[string]bool{"Registry": c.Registry == nil, "Log": c.Log == nil, "Source": c.Source == nil,
		"Bus": c.Bus == nil, "Open": c.Open == nil, "Cursors": c.Cursors == nil, "Lease": c.Lease == nil, "Clock": c.Clock == nil} {
		if missing {
			return nil, errors.New("sagas: " + name + " is required")
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Workers, c.Cached, c.Actor = cmp.Or(c.Workers, 64), cmp.Or(c.Cached, 16_384), cmp.Or(c.Actor, "saga")
	r := &Runner{Config: c, defs: map[string]map[int]*Definition{}, interests: map[string]*interest{}}
	for _, e := range c.Registry.Entries() {
		r.interests[e.Name] = &interest{revision: e.Revision}
	}
	for _, e := range ownFacts.Entries() {
		r.interests[e.Name] = &interest{revision: e.Revision}
	}
	for _, d := range c.Definitions {
		if r.defs[d.Name] == nil {
			r.defs[d.Name] = map[int]*Definition{}
		}
		if r.defs[d.Name][d.Version] != nil {
			return nil, fmt.Errorf("sagas: %s version %d stands twice", d.Name, d.Version)
		}
		r.defs[d.Name][d.Version] = d
		if err := r.wire(d); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// wire finds the event types that a definition starts with and hears.
func (r *Runner) wire(d *Definition) error {
	of := func(t reflect.Type) (*interest, error) {
		name := r.Registry.NameOf(reflect.Zero(t).Interface())
		if name == "" {
			return nil, fmt.Errorf("sagas: %s hears %s, which is in no catalog", d.Name, t)
		}
		return r.interests[name], nil
	}
	for _, s := range d.start {
		i, err := of(s.event)
		if err != nil {
			return err
		}
		if !slices.Contains(i.starts, d) {
			i.starts = append(i.starts, d)
		}
	}
	for _, t := range d.outsideCues {
		i, err := of(t)
		if err != nil {
			return err
		}
		i.heard = true
	}
	return nil
}

// Run leads whenever it holds the lease, until ctx ends. It returns early only with an error that needs another release
// (domain.ErrNewer) or a mended log; what passes it waits out.
func (r *Runner) Run(ctx context.Context) error {
	for n := 0; ; n++ {
		started := r.Clock.Now()
		err := r.Lease.Lead(ctx, r.lead)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, domain.ErrNewer):
			return err
		case err != nil:
			r.Logger.ErrorContext(ctx, "the saga runner stopped and starts again", "error", err)
		}
		if r.Clock.Now().Sub(started) > time.Minute {
			n = 0
		}
		if !r.sleep(ctx, backoff(n)) {
			return nil
		}
	}
}

// lead runs the sagas for one term of leadership.
func (r *Runner) lead(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := r.enable(ctx); err != nil {
		return err
	}
	cursor, found, err := r.Cursors.Load(ctx)
	if err != nil {
		return err
	}
	if !found || cursor.Epoch != r.Epoch {
		cursor = Cursor{}
	}
	rows, at, err := r.Open.Open(ctx, cursor.Seen)
	if err != nil {
		return err
	}
	if at < cursor.Seen {
		return fmt.Errorf("open sagas are as of %d, before %d", at, cursor.Seen)
	}
	t := newTerm(ctx, r, cursor, at)
	for _, row := range rows {
		t.knowOpen(row, cursor.Commit)
	}
	stopped := context.AfterFunc(ctx, t.stop)
	defer stopped()
	var running sync.WaitGroup
	for range r.Workers {
		running.Go(t.work)
	}
	running.Go(t.timers.run)
	running.Go(t.keepCursor)
	err = t.follow()
	cancel(err)
	t.stop()
	running.Wait()
	t.saveCursor(context.WithoutCancel(ctx))
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// enable switches on the newest version of every definition, where the log has not done so.
func (r *Runner) enable(ctx context.Context) error {
	for name, versions := range r.defs {
		newest := 0
		for v := range versions {
			newest = max(newest, v)
		}
		stream := saga.DefinitionStream(name)
		for {
			on, last, err := r.enabled(ctx, stream)
			if err != nil {
				return err
			}
			if on >= newest {
				break
			}
			e, meta := saga.DefinitionEnabled{Name: name, Version: newest}, r.meta(r.Clock.Now())
			id := domain.DeriveUUID("saga definition", name, fmt.Sprint(newest)).String()
			meta.Correlation = id
			p, err := propose(e, id, meta)
			if err != nil {
				return err
			}
			if err := r.Log.Append(ctx, stream, last, []domain.Proposed{p}); err == nil {
				r.Logger.InfoContext(ctx, "a saga definition is switched on", "saga", name, "version", newest)
				break
			} else if domain.CodeOf(err) != domain.CodeConflict {
				return err
			}
		}
	}
	return nil
}

func (r *Runner) enabled(ctx context.Context, stream string) (version int, last int64, err error) {
	last = domain.NoStream
	for e, err := range r.Log.Read(ctx, stream, 0) {
		if err != nil {
			return 0, last, err
		}
		f, err := ownFacts.DecodeRecorded(e)
		if err != nil {
			return 0, last, err
		}
		version, last = max(version, f.(saga.DefinitionEnabled).Version), e.Revision
	}
	return version, last, nil
}

func (r *Runner) meta(now time.Time) domain.Meta {
	return domain.Meta{Actor: r.Actor, RecordedAt: domain.Micro(now), Epoch: r.Epoch}
}

func propose(e any, id string, meta domain.Meta) (domain.Proposed, error) {
	name, rev, data, err := ownFacts.Encode(e)
	if err != nil {
		return domain.Proposed{}, err
	}
	meta.Rev = rev
	return domain.Proposed{ID: id, Type: name, Data: data, Meta: meta.Encode()}, nil
}

func (r *Runner) sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-r.Clock.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// backoff is the pause before try n, from 0, of what is away for a while.
func backoff(n int) time.Duration { return min(50*time.Millisecond<<min(n, 8), 10*time.Second) }
