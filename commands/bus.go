// Package commands is the write side's one door: the Bus loads an aggregate, decides a command and appends what it led to.
// Edges (GraphQL, sagas, gateway) call it; it knows the log and the key store only through the ports Log and Sealer.
package commands

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// Log is the port to the event log. Both methods bound their own time, also when ctx has no deadline.
type Log interface {
	// Read yields a stream's events forwards from a revision (0 is the first) to its present end; a missing stream is
	// empty. It ends at the first error, which is CodeUnavailable when the same read may be made again.
	Read(ctx context.Context, stream string, from int64) iter.Seq2[domain.Recorded, error]
	// Append writes events in one atomic step behind revision expected, or domain.NoStream. Its errors are CodeConflict with
	// Actual, CodeTooLarge, and CodeUnavailable when the outcome is unknown. The same event ids at the same expected revision
	// are appended once, whatever their payload: success does not prove that the payload in the log is this call's.
	Append(ctx context.Context, stream string, expected int64, events []domain.Proposed) (Appended, error)
}

// Appended says where an append's last event stands.
type Appended struct {
	Revision int64
	Commit   uint64
}

// Sealer is the port to the key store. The Bus only seals.
type Sealer interface {
	Seal(ctx context.Context, subject, text string) (domain.Sealed, error)
	// Open gives the text, or false when the subject's key is gone.
	Open(ctx context.Context, s domain.Sealed) (string, bool, error)
}

// Config is what a Bus is made of. Log, Aggregates, HashKey, Epoch and Now are required.
type Config struct {
	Log        Log
	Aggregates []domain.Aggregate
	Facts      []Fact
	// Fill puts into a command, given by pointer, what it needs to know of aggregates that it does not name, such as whether
	// any plane has room. It comes after Facts; nil fills nothing.
	Fill    func(ctx context.Context, command any) error
	Sealer  Sealer       // needed once a command holds clear text
	HashKey []byte       // of the input hash: the log-wide key of the key store, at least 32 bytes
	Epoch   domain.Epoch // of the log
	Now     func() time.Time
	// Authorize says whether an actor may give a command, as the caller gave it; nil allows everything.
	Authorize func(ctx context.Context, actor string, command any) error
	Logger    *slog.Logger // nil drops

	// Sole promises that no other Bus writes to this log, nor has an append under way from before: true where the node lives
	// and dies with this process. An answered append of one event is then not read back, which saves half of the log's work;
	// the Created of its outcome is unknown.
	Sole bool

	CacheSize   int // folded streams kept; 4,096 when zero
	QueueLength int // calls waiting for one stream before more are refused as unavailable; 4,096 when zero
	Tries       int // appends and reads of unknown outcome before a call is answered unavailable; 5 when zero
	// Pause waits before try n (from 1) of what was unavailable; nil waits 20 ms, doubled each time up to 1 s, with jitter.
	Pause func(ctx context.Context, n int) error
}

// The bounds of one append: 64 commands, and the megabyte that EventStoreDB takes, less a margin for its own counting.
const (
	maxBatch       = 64
	maxAppendBytes = 1<<20 - 16<<10
	maxConflicts   = 256
)

// Bus decides commands and appends their events. It is safe for concurrent use, and any number of Buses may work on one log.
type Bus struct {
	Config
	categories map[string]*aggregate
	commands   map[reflect.Type]*command
	cache      *cache

	base    context.Context // of the lanes' own calls; ends when Close stops waiting
	stop    context.CancelFunc
	closing chan struct{}
	mu      sync.Mutex // guards lanes and closed
	lanes   map[string]*lane
	closed  bool
	running sync.WaitGroup
}

// aggregate is a domain.Aggregate with its events ready for look-up.
type aggregate struct {
	domain.Aggregate
	events *domain.Registry
	noted  reflect.Type
}

// command is what the Bus knows of a command's type.
type command struct {
	name      string
	aggregate *aggregate
	facts     []Fact
}

// New makes a Bus from literal tables; the error names what is missing or stands twice.
func New(c Config) (*Bus, error) {
	switch {
	case c.Log == nil || c.Now == nil:
		return nil, errors.New("commands: Log and Now are required")
	case len(c.HashKey) < 32:
		return nil, errors.New("commands: HashKey needs at least 32 bytes")
	case c.Epoch.ID == "":
		return nil, errors.New("commands: Epoch is required")
	}
	c.CacheSize, c.QueueLength, c.Tries = or(c.CacheSize, 4096), or(c.QueueLength, 4096), or(c.Tries, 5)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Pause == nil {
		c.Pause = pause
	}
	b := &Bus{Config: c, categories: map[string]*aggregate{}, commands: map[reflect.Type]*command{},
		cache: newCache(c.CacheSize), lanes: map[string]*lane{}, closing: make(chan struct{})}
	names := map[string]bool{}
	for _, a := range c.Aggregates {
		if b.categories[a.Category] != nil {
			return nil, fmt.Errorf("commands: category %s stands twice", a.Category)
		}
		ours := &aggregate{Aggregate: a, events: domain.NewRegistry(a.Events), noted: reflect.TypeOf(a.Noted)}
		if a.Noted == nil || ours.events.NameOf(a.Noted) == "" {
			return nil, fmt.Errorf("commands: %s has no Noted event in its catalog", a.Category)
		}
		b.categories[a.Category] = ours
		for _, e := range a.Commands {
			if b.commands[e.Type] != nil || names[e.Name] {
				return nil, fmt.Errorf("commands: %s (%s) stands twice", e.Name, e.Type)
			}
			b.commands[e.Type], names[e.Name] = &command{name: e.Name, aggregate: ours}, true
		}
	}
	for _, f := range c.Facts {
		of := b.commands[f.command]
		if of == nil || b.categories[f.category] == nil {
			return nil, fmt.Errorf("commands: the fact of %s from %s names what no aggregate has", f.command, f.category)
		}
		of.facts = append(of.facts, f)
	}
	b.base, b.stop = context.WithCancel(context.Background())
	return b, nil
}

// Execute decides one command and appends what it led to. An error is a *domain.Error: the decider's refusal, or invalid,
// forbidden, conflict, idempotency_key_reused, too_large, unavailable (the outcome is unknown: the same call may be made
// again) or internal. What ends ctx while the call is queued leaves it unexecuted; once begun it may still take effect.
func (b *Bus) Execute(ctx context.Context, call Call) (Outcome, error) {
	o, err := b.accept(ctx, call)
	if err != nil {
		return Outcome{}, err
	}
	if err := b.fillFacts(ctx, o); err != nil {
		return Outcome{}, err
	}
	if err := b.queue(ctx, o); err != nil {
		return Outcome{}, err
	}
	return o.out, o.err
}

// State folds a stream to its end as it stands later than the call. A missing stream is the zero state and domain.NoStream.
func (b *Bus) State(ctx context.Context, stream string) (state any, revision int64, err error) {
	category, _ := domain.SplitStream(stream)
	a := b.categories[category]
	if a == nil {
		return nil, domain.NoStream, &domain.Error{Code: domain.CodeInternal, Message: "no aggregate has streams such as " + stream}
	}
	o := &op{stream: stream, aggregate: a, peek: true}
	if err := b.queue(ctx, o); err != nil {
		return nil, domain.NoStream, err
	}
	return o.out.State, o.out.Revision, o.err
}

// Close refuses new calls, answers those not begun as unavailable and waits for the others; when ctx ends it cancels them.
func (b *Bus) Close(ctx context.Context) error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.closing)
	}
	b.mu.Unlock()
	idle := make(chan struct{})
	go func() { b.running.Wait(); close(idle) }()
	defer b.stop()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		b.stop()
		<-idle
		return ctx.Err()
	}
}

func pause(ctx context.Context, n int) error {
	d := min(20*time.Millisecond<<min(n-1, 6), time.Second)
	t := time.NewTimer(d/2 + rand.N(d/2))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func or(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return n
}
