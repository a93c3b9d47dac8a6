package view

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// Patience is how long a read waits for the position that it needs.
const Patience = 2 * time.Second

// Session is what one operation reads: one snapshot, opened when the first field needs it, which all fields share. After a
// mutation, and before each event of a subscription, it is given up for one that holds at least what just happened.
type Session struct {
	reads  Reads
	live   Live
	sealer Sealer

	mu    sync.Mutex
	needs domain.Position // zero for any
	now   *reading        // nil until a field reads
	fault error           // that ended a subscription
}

// NewSession begins to read as of needs or later; the zero position is any.
func NewSession(r Reads, l Live, s Sealer, needs domain.Position) *Session {
	return &Session{reads: r, live: l, sealer: s, needs: needs}
}

type sessionKey struct{}

// With gives a context whose fields read in s.
func With(ctx context.Context, s *Session) context.Context {
	return context.WithValue(ctx, sessionKey{}, s)
}

// Of is the operation's session, nil outside of one.
func Of(ctx context.Context) *Session {
	s, _ := ctx.Value(sessionKey{}).(*Session)
	return s
}

// Require gives up the operation's snapshot: what is read from here on is as of p or later. It must not run beside fields
// that read.
func Require(ctx context.Context, p domain.Position) {
	s := Of(ctx)
	s.giveUp()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.needs = p
}

// Fail says why a subscription ends before its time.
func (s *Session) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = err
}

// Fault gives what Fail said, once; nil if nothing.
func (s *Session) Fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.fault
	s.fault = nil
	return err
}

// End gives the snapshot up, and says as of which position it was; false if nothing was read.
func (s *Session) End() (domain.Position, bool) { return s.giveUp() }

func (s *Session) giveUp() (domain.Position, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.now
	s.now = nil
	if r == nil || r.err != nil {
		return domain.Position{}, false
	}
	r.close()
	return r.snapshot.At()
}

// reading gives the operation's snapshot. The first field opens it, the others wait.
func (s *Session) reading(ctx context.Context) (*reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil {
		s.now = s.open(ctx)
	}
	return s.now, s.now.err
}

func (s *Session) open(ctx context.Context) *reading {
	if err := Await(ctx, s.live, s.needs); err != nil {
		return &reading{err: err}
	}
	return begin(ctx, s.reads)
}

// Await waits until the rows that readers see hold everything up to a position. Past Patience it is CodeLagging; a position
// of another log is CodeStale.
func Await(ctx context.Context, l Live, p domain.Position) error {
	if p == (domain.Position{}) {
		return nil
	}
	if err := CheckEpoch(l, p); err != nil {
		return err
	}
	return l.WaitFor(ctx, p.Commit, Patience)
}

// CheckEpoch refuses a position of another log than the one that is read, as CodeStale.
func CheckEpoch(l Live, p domain.Position) error {
	if now, _ := l.Position(); now.Epoch != p.Epoch {
		return &domain.Error{Code: domain.CodeStale, Field: "atLeast", Message: "belongs to another epoch of the log"}
	}
	return nil
}

// reading is one open snapshot and what has been loaded in it.
type reading struct {
	snapshot Snapshot
	err      error
	joins    *joins     // guarded by busy
	busy     sync.Mutex // a transaction answers one query at a time
	done     chan struct{}
	closed   chan struct{}
}

// begin opens a snapshot. Reads keeps it open for as long as a function runs, so a goroutine of the reading's stays in that
// function until close.
func begin(ctx context.Context, reads Reads) *reading {
	r := &reading{done: make(chan struct{}), closed: make(chan struct{})}
	opened := make(chan struct{})
	go func() {
		defer close(r.closed)
		err := guarded(func() error {
			return reads.Read(ctx, func(s Snapshot) error {
				r.snapshot = s
				close(opened)
				<-r.done
				return nil
			})
		})
		if r.snapshot == nil {
			if r.err = err; err == nil {
				r.err = errors.New("the read side gave no snapshot")
			}
			close(opened)
		}
	}()
	<-opened
	if r.err == nil {
		r.joins = newJoins()
	}
	return r
}

// guarded turns a panic into an error: on a goroutine of our own it would end the process.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// query has the snapshot to itself while f runs.
func (r *reading) query(f func(s Snapshot) error) error {
	r.busy.Lock()
	defer r.busy.Unlock()
	return f(r.snapshot)
}

// close ends the snapshot once the query that runs, if any, has ended.
func (r *reading) close() {
	close(r.done)
	<-r.closed
}

// unseal is sealed text in the clear: nil where there is none, and where its subject has been erased.
func (s *Session) unseal(ctx context.Context, sealed domain.Sealed) (*string, error) {
	if sealed.IsZero() {
		return nil, nil
	}
	text, ok, err := s.sealer.Open(ctx, sealed)
	if err != nil || !ok {
		return nil, err
	}
	return &text, nil
}
