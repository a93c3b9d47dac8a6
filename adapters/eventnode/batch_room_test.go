package eventnode

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
)

func newRoom() *batchRoom { return &batchRoom{changed: make(chan struct{})} }

// Whoever finds no room waits for as long as something will leave by itself, and is refused when nothing will.
func TestRoomOfAConnectionIsWaitedForOrRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := newRoom()
		if err := room.take(t.Context(), batchBytes+1); err != nil {
			t.Fatalf("one part alone: %v", err)
		}
		if f, ok := errors.AsType[*failure](room.take(t.Context(), 1)); !ok || f.code != codes.ResourceExhausted {
			t.Fatalf("beyond the end: %v", f)
		}
		room.leaving(batchBytes)
		waited := make(chan error, 2)
		go func() { waited <- room.take(t.Context(), 2) }()
		ctx, cancel := context.WithCancel(t.Context())
		go func() { waited <- room.take(ctx, 3) }()
		synctest.Wait()
		cancel()
		if err := <-waited; err != context.Canceled {
			t.Fatalf("who goes: %v", err)
		}
		room.left(batchBytes)
		if err := <-waited; err != nil {
			t.Fatalf("who stays: %v", err)
		}
		room.give(3)
		if room.held != 0 || room.parting != 0 {
			t.Errorf("%d held, %d leaving", room.held, room.parting)
		}
	})
}

// Batches that do not become complete cannot take all memory, and do not keep out those that do.
func TestUnfinishedBatchesAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.batches()
	part := func(name string) *api.BatchAppendReq {
		req := more(name, name)
		req.ProposedMessages[0].Data = make([]byte, 1<<20-100)
		return req
	}
	for range 31 {
		id := uuid.New()
		req := beginning("b", "s", expectAny)
		req.CorrelationId, req.ProposedMessages = wireID(id), part("b").ProposedMessages
		b.send(req)
	}
	full := beginning("bad", "s", expectAny)
	full.ProposedMessages = part("bad").ProposedMessages
	b.send(full)
	if got := b.hear(1); got != "bad: ResourceExhausted Unknown (There are too many batches that are not complete.)" {
		t.Error(got)
	}
	b.send(whole("a", "a", expectAny, "1"))
	if got := b.hear(1); got != "a: at 0" {
		t.Error(got)
	}
}

// A client that goes leaves whole batches or nothing, and no memory taken.
func TestClientGoesWithinABatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.batches()
	b.send(whole("a", "s", expectAny, "1"), whole("bad", "s", unset), more("c", "7"), beginning("b", "s", expectAny, "2"), more("b", "3"))
	late := beginning("d", "s", expectAny, "4")
	late.Options.DeadlineOption = deadlineIn(time.Millisecond)
	b.send(late)
	heard := map[string]bool{}
	for range 3 {
		heard[b.hear(1)] = true
	}
	if !heard["a: at 0"] || !heard["bad: InvalidArgument BadRequest"] || !heard["d: DeadlineExceeded Timeout"] {
		t.Fatal(heard)
	}
	r.node.batches.mu.Lock()
	var room *batchRoom
	for _, room = range r.node.batches.byName {
	}
	r.node.batches.mu.Unlock()
	b.cancel()
	for r.node.batches.open() > 0 {
		runtime.Gosched()
	}
	room.mu.Lock()
	defer room.mu.Unlock()
	if room.held != 0 || room.parting != 0 {
		t.Errorf("%d bytes are held, %d of them leaving", room.held, room.parting)
	}
	if got := reading(ofStream("s"))(r); got != "1" {
		t.Error(got)
	}
}

// What the committer has when a client goes gets written, and is answered to nobody.
func TestClientGoesBeforeItsAnswer(t *testing.T) {
	t.Parallel()
	room := newRoom()
	c := &batchCall{room: room, wake: make(chan struct{}, 1), open: map[uuid.UUID]*batch{}, flying: 1}
	if err := room.take(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	room.leaving(5)
	c.release()
	(&batch{call: c, cost: 5}).reply(outcome{decision: accept})
	if len(c.answers) > 0 || room.held != 0 || room.parting != 0 {
		t.Errorf("%d answers, %d bytes held, %d leaving", len(c.answers), room.held, room.parting)
	}
}

// A client that has said all hears the end after the last answer, if one was owed to it.
func TestEndComesAfterTheLastAnswer(t *testing.T) {
	t.Parallel()
	c := &batchCall{room: newRoom(), wake: make(chan struct{}, 1), open: map[uuid.UUID]*batch{}, flying: 1}
	c.requestEnds(io.EOF)
	if _, over, _ := c.collect(); over {
		t.Error("over before the answer")
	}
	(&batch{call: c}).reply(outcome{decision: accept})
	if answers, over, _ := c.collect(); len(answers) != 1 || over {
		t.Errorf("%d answers, over: %t", len(answers), over)
	}
	if _, over, err := c.collect(); !over || err != nil || c.idles() {
		t.Errorf("over: %t, %v", over, err)
	}
}

// open is how many connections have a room.
func (r *batchRooms) open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.byName)
}

func deadlineIn(d time.Duration) *api.BatchAppendReq_Options_Deadline {
	return &api.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(d)}
}
