package projections

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// progress is how far the group has come, as this process knows it.
type progress struct {
	mu    sync.Mutex
	at    int64
	moved chan struct{} // closed when at rises
}

func newProgress() *progress { return &progress{at: Nowhere, moved: make(chan struct{})} }

func (p *progress) now() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

func (p *progress) raise(to int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if to > p.at {
		p.at = to
		close(p.moved)
		p.moved = make(chan struct{})
	}
}

func (p *progress) wait(ctx context.Context, to int64, expired <-chan time.Time) error {
	for {
		p.mu.Lock()
		at, moved := p.at, p.moved
		p.mu.Unlock()
		if at >= to {
			return nil
		}
		select {
		case <-moved:
		case <-expired:
			return &domain.Error{Code: domain.CodeLagging, Message: fmt.Sprintf("the read side is at %d and has not reached %d in time", at, to)}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Position is how far the rows that readers see have come, as this process knows it; false before the first event.
func (g *Group) Position() (domain.Position, bool) {
	at := g.progress.now()
	return domain.Position{Epoch: g.opts.Log, Commit: uint64(max(at, 0))}, at != Nowhere
}

// WaitFor waits until the rows that readers see hold the event at a commit position, whichever process writes them. Past
// the bound it is CodeLagging. It needs Run to be running in this process.
func (g *Group) WaitFor(ctx context.Context, commit uint64, bound time.Duration) error {
	return g.progress.wait(ctx, int64(commit), g.opts.Clock.After(bound))
}
