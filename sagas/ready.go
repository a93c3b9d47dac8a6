package sagas

import "sync"

// ready is the line of sagas that have something to do.
type ready struct {
	mu     sync.Mutex
	more   sync.Cond
	line   []*instance
	closed bool
}

func newReady() *ready {
	r := &ready{}
	r.more.L = &r.mu
	return r
}

func (r *ready) push(i *instance) {
	r.mu.Lock()
	r.line = append(r.line, i)
	r.mu.Unlock()
	r.more.Signal()
}

// pop gives the next saga, nil once the line is closed.
func (r *ready) pop() *instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.line) == 0 && !r.closed {
		r.more.Wait()
	}
	if r.closed {
		return nil
	}
	i := r.line[0]
	r.line[0] = nil
	r.line = r.line[1:]
	return i
}

func (r *ready) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.more.Broadcast()
}
