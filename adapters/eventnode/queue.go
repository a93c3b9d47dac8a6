package eventnode

import "sync"

// queue holds the writes that wait for the committer. Whoever has put one in is answered, whatever happens.
type queue struct {
	mu      sync.Mutex
	arrived sync.Cond
	writes  []*write
	called  bool // somebody is wanted to take them
	last    bool // none will come any more
	ended   bool // nobody takes any
}

func newQueue() *queue {
	q := &queue{}
	q.arrived.L = &q.mu
	return q
}

// push queues a write. It reports false if the committer has ended.
func (q *queue) push(x *write) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return false
	}
	q.writes = append(q.writes, x)
	return true
}

// call wakes the committer, if there is something to do. Whoever has more to push does so first: one call for all.
func (q *queue) call() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.writes) > 0 {
		q.called = true
		q.arrived.Signal()
	}
}

// wait ends when it is called. It reports false when no write will come any more.
func (q *queue) wait() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.called {
		q.arrived.Wait()
	}
	q.called = q.last
	return !q.last || len(q.writes) > 0
}

// take moves writes to group, as many as one sync should make durable at most.
func (q *queue) take(group []*write) []*write {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.move(group)
}

func (q *queue) move(group []*write) []*write {
	size, n := 0, 0
	for _, x := range group {
		size += x.size
	}
	for n < len(q.writes) && len(group) < groupWrites && (len(group) == 0 || size+q.writes[n].size <= groupBytes) {
		group, size = append(group, q.writes[n]), size+q.writes[n].size
		n++
	}
	rest := copy(q.writes, q.writes[n:])
	clear(q.writes[rest:])
	q.writes = q.writes[:rest]
	return group
}

// finish lets take end once the queue is empty.
func (q *queue) finish() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last, q.called = true, true
	q.arrived.Signal()
}

// end refuses further writes and returns those that nobody will take.
func (q *queue) end() []*write {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	return q.writes
}

// depth is how many writes wait.
func (q *queue) depth() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.writes)
}
