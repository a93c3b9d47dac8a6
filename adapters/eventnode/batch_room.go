package eventnode

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
)

// batchBytes is about how much memory the batches of one connection may take: those that are not complete, those that
// the committer has, and answers that are not sent.
const batchBytes = 32 << 20

// batchRooms are the rooms of all connections that have a call of BatchAppend open.
type batchRooms struct {
	mu     sync.Mutex
	byName map[string]*batchRoom
}

// enter is the room of a connection, until leave is called.
func (r *batchRooms) enter(connection string) (room *batchRoom, leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	room = r.byName[connection]
	if room == nil {
		if r.byName == nil {
			r.byName = map[string]*batchRoom{}
		}
		room = &batchRoom{changed: make(chan struct{})}
		r.byName[connection] = room
	}
	room.calls++
	return room, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if room.calls--; room.calls == 0 {
			delete(r.byName, connection)
		}
	}
}

// batchRoom is what the calls of one connection share.
type batchRoom struct {
	calls int // guarded by the lock of all rooms

	mu      sync.Mutex
	held    int           // bytes taken
	parting int           // those of them that become free without anything more from the client
	changed chan struct{} // closed when some have become free
}

// take waits for room, if waiting helps: if there is none, and the client alone could make some, it fails. One part always
// has room when nothing else does.
func (r *batchRoom) take(ctx context.Context, n int) error {
	for {
		r.mu.Lock()
		if r.held == 0 || r.held+n <= batchBytes {
			r.held += n
			r.mu.Unlock()
			return nil
		}
		changed, full := r.changed, r.parting == 0
		r.mu.Unlock()
		if full {
			return &failure{code: codes.ResourceExhausted, text: "There are too many batches that are not complete."}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// give gives back what was not used.
func (r *batchRoom) give(n int) { r.free(n, 0) }

// leaving: what was taken will become free by itself.
func (r *batchRoom) leaving(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parting += n
}

// left: what was leaving is free.
func (r *batchRoom) left(n int) { r.free(n, n) }

func (r *batchRoom) free(n, parting int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held, r.parting = r.held-n, r.parting-parting
	close(r.changed)
	r.changed = make(chan struct{})
}
