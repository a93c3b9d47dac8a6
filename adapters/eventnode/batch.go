package eventnode

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/tenure-dev/tenure/adapters/eventnode/rpc"
)

const (
	// batchTimeout is how long a batch may take to become complete, whatever deadline its client has set.
	batchTimeout = 2 * time.Second
	// batchLinger is how long a call lasts whose client has nothing more to say and is owed nothing. A real node never ends
	// such a call.
	batchLinger = 30 * time.Second
)

// batchCall is one call of BatchAppend. Its batches are collected by the goroutine that receives, decided by the
// committer, and answered by the goroutine that sends.
type batchCall struct {
	node *Node
	ctx  context.Context
	room *batchRoom
	wake chan struct{} // there is something to send, or the end has come

	mu       sync.Mutex
	open     map[uuid.UUID]*batch // not complete yet, by correlation id
	flying   int                  // with the committer
	answers  []batchAnswer        // to be sent
	half     bool                 // the client will send no more
	lingers  bool                 // it was owed nothing when it said so
	ended    error                // what the call ends with once nothing is flying
	released bool                 // the call is over
}

// batch is one append of a call. Its call's lock guards it until it is complete.
type batch struct {
	write
	call        *batchCall
	id          uuid.UUID // its correlation id
	correlation *shared.UUID
	echo        []byte // its stream's name as the client gave it
	cost        int    // what it takes of the connection's room
	late        *time.Timer
}

// BatchAppend takes many appends in one call, each in one message or several, and answers each when it has been decided:
// in the order of the log, but for those that are refused before. What is wrong with one does not touch the others.
func (s *streamsService) BatchAppend(st api.Streams_BatchAppendServer) error {
	n := s.node
	queue, err := rpc.SenderOf(st.Context())
	if err != nil {
		return err
	}
	room, leave := n.batches.enter(connectionOf(st.Context()))
	defer leave()
	c := &batchCall{node: n, ctx: st.Context(), room: room, wake: make(chan struct{}, 1), open: map[uuid.UUID]*batch{}}
	defer c.release()
	// It ends when the call does, which is after this function has returned.
	n.receivers.Go(func() { c.receive(st) })
	return answer(st.Context(), c.send(queue))
}

// connectionOf names the connection that a call came on, as no other that is open now.
func connectionOf(ctx context.Context) string {
	if from, ok := peer.FromContext(ctx); ok && from.Addr != nil {
		return from.Addr.String()
	}
	return ""
}

func (c *batchCall) receive(st api.Streams_BatchAppendServer) {
	for {
		req, err := st.Recv()
		if err != nil {
			c.requestEnds(err)
			return
		}
		p := readPart(req)
		if err := c.room.take(c.ctx, p.cost); err != nil {
			p.cost, p.wrong, p.events = 0, err, nil
		}
		c.message(p)
	}
}

func (c *batchCall) requestEnds(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(err, io.EOF) {
		c.half, c.lingers = true, c.flying == 0 && len(c.open) == 0 && len(c.answers) == 0
	} else {
		c.ended = err
	}
	c.kick()
}

// message takes a part of a batch. Options begin one, and change nothing of one that has begun; a part of one that has not
// begun, or is over, is ignored.
func (c *batchCall) message(p *part) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.open[p.id]
	switch {
	case c.ended != nil || c.released || b == nil && p.options == nil && !p.nameless:
		c.room.give(p.cost)
		return
	case b == nil || p.nameless:
		b = &batch{call: c, id: p.id, echo: p.options.GetStreamIdentifier().GetStreamName()}
		b.kind, b.replier = writeEvents, b
	}
	b.correlation, b.cost = p.correlation, b.cost+p.cost
	if err := c.add(b, p); err != nil {
		c.close(b)
		c.reject(b, err)
	}
}

// add makes a part of a batch belong to it, and hands a complete one to the committer.
func (c *batchCall) add(b *batch, p *part) error {
	limit, begun := time.Duration(0), c.open[b.id] == b
	if !begun && !p.nameless {
		var err error
		if limit, err = c.node.begin(c.ctx, &b.write, p.options); err != nil {
			return err
		}
	}
	if err := b.take(p); err != nil {
		return err
	}
	if !p.final {
		if !begun {
			c.open[b.id] = b
			b.late = time.AfterFunc(limit, func() { c.expire(b) })
		}
		return nil
	}
	c.close(b)
	if !c.node.writer.queue.push(&b.write) {
		return notReady()
	}
	c.flying++
	c.room.leaving(b.cost)
	c.node.writer.queue.call()
	return nil
}

// close ends the collecting of a batch.
func (c *batchCall) close(b *batch) {
	if b.late != nil {
		b.late.Stop()
	}
	if c.open[b.id] == b {
		delete(c.open, b.id)
	}
}

// expire gives up a batch that has not become complete in time.
func (c *batchCall) expire(b *batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[b.id] == b { // else it has become, just now
		c.close(b)
		c.reject(b, tooLate())
	}
}

// reject answers a batch that the committer does not get. It is called with the lock held.
func (c *batchCall) reject(b *batch, err error) {
	c.node.metrics.refused.Add(1)
	c.room.leaving(b.cost)
	if refusal := batchRefusal(err); refusal != nil {
		c.answer(b, refusal)
		return
	}
	c.ended = err
	c.room.left(b.cost)
	c.kick()
}

// reply is told by the committer what became of a batch.
func (b *batch) reply(out outcome) {
	c := b.call
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flying--
	switch {
	case out.err != nil:
		c.ended = out.err
		c.room.left(b.cost)
		c.kick()
		return
	case out.decision == refuseDeleted:
		c.node.metrics.refused.Add(1)
	}
	b.out = out
	c.answer(b, nil)
}

// answer queues the answer to a batch, unless there is nobody to read it. It is called with the lock held.
func (c *batchCall) answer(b *batch, refusal *status.Status) {
	if c.released {
		c.room.left(b.cost)
		return
	}
	c.answers = append(c.answers, b.answer(refusal))
	c.kick()
}

func (c *batchCall) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// send sends answers until the client goes, or nothing more is owed to one that will send no more, or the node stops.
func (c *batchCall) send(queue rpc.Sender) error {
	var linger <-chan time.Time
	stop := c.node.stop
	for {
		answers, over, err := c.collect()
		if len(answers) > 0 {
			if err := c.sendAll(queue, answers); err != nil {
				return err
			}
			continue
		}
		if over {
			return err
		}
		if linger == nil && c.idles() {
			timer := time.NewTimer(c.node.options.batchLinger)
			defer timer.Stop()
			linger = timer.C
		}
		select {
		case <-c.wake:
		case <-linger:
			return nil
		case <-stop:
			stop = nil
			c.end(notReady())
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
}

func (c *batchCall) sendAll(queue rpc.Sender, answers []batchAnswer) error {
	defer func() {
		for i := range answers {
			c.room.left(answers[i].cost)
		}
	}()
	var frame []byte
	for i := range answers {
		var err error
		if frame, err = (proto.MarshalOptions{}).MarshalAppend(frame[:0], answers[i].message()); err == nil {
			err = queue.Queue(frame)
		}
		if err != nil {
			return err
		}
	}
	return queue.Flush()
}

// collect takes the answers that are there. If there are none it says whether the call is over, and how.
func (c *batchCall) collect() (answers []batchAnswer, over bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if answers, c.answers = c.answers, nil; len(answers) > 0 || c.flying > 0 {
		return answers, false, nil
	}
	return nil, c.ended != nil || c.half && !c.lingers && len(c.open) == 0, c.ended
}

func (c *batchCall) idles() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lingers
}

// end lets the call end with err when what the committer has is answered.
func (c *batchCall) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = err
	c.kick()
}

// release gives back what a call still holds. What is not complete is forgotten; what the committer has gets written.
func (c *batchCall) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.released = true
	for _, b := range c.open {
		c.close(b)
		c.room.give(b.cost)
	}
	for i := range c.answers {
		c.room.left(c.answers[i].cost)
	}
	c.answers = nil
}
