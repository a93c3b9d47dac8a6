package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// Options are what a group needs. Everything without a default is required.
type Options struct {
	Name     string           // of the group; live if empty
	Owner    string           // who takes the lease: no two processes that run at once may share it; one that comes back under its name takes its own lease back at once
	Tables   []*Table         // that the group keeps; no two of one name
	Registry *domain.Registry // of every event that the log may hold
	Log      domain.Epoch     // of the log; a checkpoint of another one is refused

	Source  Source
	Streams Streams
	Store   Store
	Clock   Clock
	Logger  *slog.Logger // slog.Default() if nil

	Expiry time.Duration // a lease that has not been renewed for so long is free; 10 s if zero
	Batch  int           // events in one transaction at most; 5,000 if zero
	Cache  int           // rows kept in memory per table; 50,000 if zero
	Buffer int           // changes that wait for one watcher before it is cut off; 1,024 if zero
}

// Group keeps the tables of its projections at the head of the log: one subscription feeds them all, and each batch's rows
// and the checkpoint are one transaction, so that what a reader sees is all of the read side at one position.
//
// Of all processes that run a group of one name, one owns it; the others wait for its lease and follow its checkpoint.
type Group struct {
	opts     Options
	log      *slog.Logger
	feeds    map[reflect.Type]bool // event types that change rows
	progress *progress
	hub      *hub
	heals    chan heal
	freed    chan struct{} // the lease may be free

	mu     sync.Mutex
	status Status
}

// Status is what a group is doing.
type Status struct {
	Owner    bool  // this process owns the group
	Position int64 // of the rows that readers see; Nowhere before the first event
	CaughtUp bool  // the owner has met the head of the log since it began
	Building bool  // tables of a new version are being built: the rows stand still
	Err      error // why the group stands still: retried, but for domain.ErrNewer and another log's checkpoint
	Parked   []Parked
}

// NewGroup checks the options. It panics if a table handles an event that the registry does not know, or two tables share
// a name: those are mistakes in the program.
func NewGroup(o Options) *Group {
	defaults(&o.Name, "live")
	defaults(&o.Expiry, 10*time.Second)
	defaults(&o.Batch, 5000)
	defaults(&o.Cache, 50_000)
	defaults(&o.Buffer, 1024)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	g := &Group{opts: o, log: o.Logger.With("group", o.Name, "owner", o.Owner), feeds: map[reflect.Type]bool{}, progress: newProgress(),
		hub: newHub(o.Buffer), heals: make(chan heal), freed: make(chan struct{}, 1), status: Status{Position: Nowhere}}
	known := map[reflect.Type]bool{}
	for _, e := range o.Registry.Entries() {
		known[e.Type] = true
	}
	names := map[string]bool{}
	for _, t := range o.Tables {
		if names[t.Name] {
			panic("two projections are called " + t.Name)
		}
		names[t.Name] = true
		for event, handlers := range t.handlers {
			if !known[event] {
				panic(fmt.Sprintf("projection %s names %s, which is in no catalog", t.Name, event))
			}
			if len(handlers) > 0 {
				g.feeds[event] = true
			}
		}
	}
	return g
}

func defaults[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// ErrOtherLog says that the checkpoint belongs to another log than the one that is read. The read side is a cache: it can
// be deleted.
var ErrOtherLog = errors.New("the read side was made from another log, or from this one before it was restored or copied; it can be made again: delete its database, or DIR/readside of a dev, and start again")

// Run keeps the group going until ctx ends, which is no error. It returns early only with ErrOtherLog. When it meets what
// only a newer release knows it gives the lease up for good, says so in Status and goes on following the checkpoint.
func (g *Group) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	following.Go(func() { g.follow(ctx) })
	backoff := newBackoff(g.opts.Clock)
	for {
		began := g.progress.now()
		lease, err := g.acquire(ctx)
		if err == nil {
			err = g.own(ctx, lease)
		}
		if ctx.Err() != nil {
			return nil
		}
		g.note(func(s *Status) { s.Owner, s.CaughtUp, s.Building, s.Err = false, false, false, err })
		switch {
		case errors.Is(err, ErrOtherLog):
			return err
		case errors.Is(err, domain.ErrNewer):
			g.log.Error("this release cannot read on and has given the lease up", "error", err)
			<-ctx.Done()
			return nil
		case errors.Is(err, ErrFenced):
			g.log.Info("another process has the lease")
		default:
			g.log.Warn("the group starts again from its checkpoint", "error", err)
		}
		if g.progress.now() > began {
			backoff.reset()
		}
		if !backoff.wait(ctx) {
			return nil
		}
	}
}

// follow keeps progress at the checkpoint, whichever process moves it.
func (g *Group) follow(ctx context.Context) {
	backoff := newBackoff(g.opts.Clock)
	for {
		for n, err := range g.opts.Store.Follow(ctx, g.opts.Name) {
			if err != nil {
				g.log.Debug("the checkpoint is followed anew", "error", err)
				break
			}
			backoff.reset()
			g.moved(n.Commit)
			if n.Free {
				select {
				case g.freed <- struct{}{}:
				default:
				}
			}
		}
		if !backoff.wait(ctx) {
			return
		}
	}
}

func (g *Group) moved(to int64) {
	g.progress.raise(to)
	g.note(func(s *Status) { s.Position = max(s.Position, to) })
}

// Status gives what the group is doing in this process. Parked is known to the owner alone.
func (g *Group) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.status
	s.Parked = append([]Parked(nil), s.Parked...)
	return s
}

func (g *Group) note(change func(*Status)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change(&g.status)
}

// Tables are those that the group keeps.
func (g *Group) Tables() []*Table { return g.opts.Tables }
