package projectionstest

import (
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/tenure-dev/tenure/projections"
)

// Faults is a store that fails, or waits, at chosen steps.
type Faults struct {
	projections.Store
	// At is called before (done false) and after (done true) every step; an error is what the step gives. A step that
	// fails after it was done is one whose outcome the caller cannot know.
	At func(step string, done bool) error
}

// ErrCut is the usual fault.
var ErrCut = errors.New("the connection was cut")

// FailOnce fails the n-th point of all steps, counted from 0, and none after it.
func FailOnce(n int) (at func(string, bool) error, reached func() bool) {
	var mu sync.Mutex
	left := n
	return func(step string, done bool) error {
			mu.Lock()
			defer mu.Unlock()
			left--
			if left == -1 {
				return ErrCut
			}
			return nil
		}, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return left < 0
		}
}

func step[T any](f Faults, name string, do func() (T, error)) (T, error) {
	var none T
	if err := f.At(name, false); err != nil {
		return none, err
	}
	v, err := do()
	if err != nil {
		return v, err
	}
	if err := f.At(name, true); err != nil {
		return none, err
	}
	return v, nil
}

func (f Faults) Lease(ctx context.Context, g string) (projections.Lease, error) {
	return step(f, "lease", func() (projections.Lease, error) { return f.Store.Lease(ctx, g) })
}

func (f Faults) Acquire(ctx context.Context, l projections.Lease, owner string) (projections.Lease, error) {
	return step(f, "acquire", func() (projections.Lease, error) { return f.Store.Acquire(ctx, l, owner) })
}

func (f Faults) Prepare(ctx context.Context, l projections.Lease, t []*projections.Table) ([]*projections.Table, error) {
	return step(f, "prepare", func() ([]*projections.Table, error) { return f.Store.Prepare(ctx, l, t) })
}

func (f Faults) Fill(ctx context.Context, l projections.Lease, t *projections.Table, rows []projections.Upsert) ([]projections.Parked, error) {
	return step(f, "fill", func() ([]projections.Parked, error) { return f.Store.Fill(ctx, l, t, rows) })
}

func (f Faults) Serve(ctx context.Context, l projections.Lease, t []*projections.Table, p []projections.Parked, at projections.Mark) error {
	_, err := step(f, "serve", func() (struct{}, error) { return struct{}{}, f.Store.Serve(ctx, l, t, p, at) })
	return err
}

func (f Faults) Mark(ctx context.Context, l projections.Lease) (m projections.Mark, p []projections.Parked, err error) {
	m, err = step(f, "mark", func() (projections.Mark, error) {
		m, parked, err := f.Store.Mark(ctx, l)
		p = parked
		return m, err
	})
	return m, p, err
}

func (f Faults) Load(ctx context.Context, w []projections.Wanted) ([]projections.Loaded, error) {
	return step(f, "load", func() ([]projections.Loaded, error) { return f.Store.Load(ctx, w) })
}

func (f Faults) Commit(ctx context.Context, c projections.Commit) ([]projections.Parked, error) {
	return step(f, "commit", func() ([]projections.Parked, error) { return f.Store.Commit(ctx, c) })
}

// Follow is never cut: its failing changes only who hears of a checkpoint.
func (f Faults) Follow(ctx context.Context, g string) iter.Seq2[projections.Notice, error] {
	return f.Store.Follow(ctx, g)
}
