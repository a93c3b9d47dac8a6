package agent

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// task is an operation on its way. Its lane's work guards what changes.
type task struct {
	operation
	epoch    Epoch
	doubtful bool // an earlier process, or a journal that was lost, may have begun it

	phase     phase
	attempts  int
	notBefore time.Time // of the next attempt
}

type phase int

const (
	waiting phase = iota // it has not begun: it can be withdrawn, and is forgotten with its session
	running              // with the driver
	resting              // between two attempts
)

// lane is one tenant's tasks, by rising revision.
type lane struct {
	tasks []*task
	wake  chan struct{} // holds one token when tasks has changed
}

func newLane() *lane { return &lane{wake: make(chan struct{}, 1)} }

// next is the task to take, and how long to rest before: the first suspension or resumption, else the first of the
// others, if due; if neither is, whichever is due first. It is nil when the lane is empty.
func (l *lane) next(now time.Time) (t *task, rest time.Duration) {
	for _, level := range []bool{true, false} {
		first := slices.IndexFunc(l.tasks, func(t *task) bool { return t.Kind.level() == level })
		if first < 0 {
			continue
		}
		candidate := l.tasks[first]
		wait := candidate.notBefore.Sub(now)
		if wait <= 0 {
			return candidate, 0
		}
		if t == nil || wait < rest {
			t, rest = candidate, wait
		}
	}
	return t, rest
}

func (l *lane) add(t *task) {
	at, _ := slices.BinarySearchFunc(l.tasks, t, func(a, b *task) int { return cmp.Compare(a.Revision, b.Revision) })
	l.tasks = slices.Insert(l.tasks, at, t)
	l.changed()
}

func (l *lane) remove(t *task) {
	if at := slices.Index(l.tasks, t); at >= 0 {
		l.tasks = slices.Delete(l.tasks, at, at+1)
		l.changed()
	}
}

func (l *lane) all() []*task { return slices.Clone(l.tasks) }

func (l *lane) changed() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// sleep rests, or until the lane changes or ctx ends.
func (l *lane) sleep(ctx context.Context, rest time.Duration) {
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.wake:
	case <-ctx.Done():
	}
}
