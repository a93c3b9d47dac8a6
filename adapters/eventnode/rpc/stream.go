package rpc

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// prefixSize is that of a message's prefix: whether it is compressed, and its length.
const prefixSize = 5

const (
	// believed is how much memory a message gets for what its prefix says. More it gets as it comes.
	believed = 64 << 10
	// messageCost is what a message that waits for its handler takes besides its bytes.
	messageCost = 64
)

// stream is one call.
type stream struct {
	conn   *conn
	id     uint32
	method *method
	ctx    context.Context
	cancel context.CancelFunc // of calls that have a handler

	// The reader's.
	partial  []byte // a message that is not complete, its prefix included
	fault    error  // what the request is answered with at its end, whatever comes
	receiver Receiver

	// Guarded by the connection's lock.
	half    bool // the request is complete
	closed  bool // nothing more is to be sent
	begun   bool // the headers have been sent
	blocked bool
	window  int      // bytes that may be sent
	allow   int      // bytes that the client may send
	owed    int      // bytes received for which it has not been given new leave
	inbox   [][]byte // messages that the handler has not taken yet
	held    int      // the memory they take, in bytes
	refusal error    // what the handler gets after them

	arrived chan struct{} // something has come for the handler
	room    chan struct{} // it may send again

	// The handler's.
	header, trailer metadata.MD
	buf             []byte // messages that are not sent yet
}

// begin finds out what is called and has it served.
func (st *stream) begin(r *request) error {
	st.method = st.conn.server.methods[r.path]
	st.ctx = context.Background()
	switch {
	case r.large:
		return st.refuse(status.Error(codes.ResourceExhausted, "The headers are too large."))
	case r.method != "POST" || !isGRPC(r.content):
		return st.notGRPC()
	case st.method == nil:
		return st.refuse(status.Errorf(codes.Unimplemented, "unknown method %s", r.path))
	case r.encoding != "" && r.encoding != "identity":
		return st.refuse(status.Errorf(codes.Unimplemented, "Messages must not be compressed, and this one is with %q.", r.encoding))
	}
	admit := st.conn.server.options.Admit
	if st.method.direct != nil {
		if admit != nil {
			ctx, err := admit(metadata.NewIncomingContext(st.ctx, r.metadata()), st.method.name)
			if err != nil {
				st.fault = err
			} else {
				st.ctx = ctx
			}
		}
		if st.fault == nil {
			st.receiver = st.method.direct((*Call)(st))
		}
		if st.half {
			return st.requestEnds()
		}
		return nil
	}
	st.arrived, st.room = make(chan struct{}, 1), make(chan struct{}, 1)
	md := r.metadata()
	ctx, cancel := context.WithCancel(peer.NewContext(metadata.NewIncomingContext(st.ctx, md), &st.conn.peer))
	if limit, limited := r.duration(); limited {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, limit)
		cancelCall := cancel
		cancel = func() { stop(); cancelCall() }
	}
	st.ctx, st.cancel = grpc.NewContextWithServerTransportStream(ctx, (*transportStream)(st)), cancel
	st.conn.server.owned.Go(st.handle)
	return nil
}

// refuse ends a call without serving it.
func (st *stream) refuse(err error) error {
	st.finish(err, nil)
	return nil
}

// notGRPC answers what is no call at all.
func (st *stream) notGRPC() error {
	c := st.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if !st.closed {
		block := appendField(c.headers.told(nil), literal, ":status", "415")
		c.out = appendBlock(c.out, st.id, block, flagEndStream, c.maxFrame)
		st.closeAnswered()
	}
	c.over()
	return nil
}

// data takes a frame's part of the request: size is what it counts in the windows.
func (st *stream) data(b []byte, size int, last bool) error {
	c := st.conn
	c.mu.Lock()
	st.allow, st.owed = st.allow-size, st.owed+size
	if st.half || st.allow < 0 {
		why := flowError
		if st.half {
			why = streamClosed
		}
		err := c.control(appendReset(c.out, st.id, why))
		c.mu.Unlock()
		st.abandon()
		return err
	}
	c.mu.Unlock()
	st.assemble(b)
	if last {
		return st.requestEnds()
	}
	return st.readOn()
}

// assemble cuts messages out of the bytes of a request.
func (st *stream) assemble(b []byte) {
	for len(b) > 0 && st.fault == nil {
		if len(st.partial) > 0 {
			want := prefixSize
			if len(st.partial) >= prefixSize {
				want += messageSize(st.partial)
			}
			n := min(want-len(st.partial), len(b))
			st.partial, b = append(st.partial, b[:n]...), b[n:]
			if len(st.partial) == prefixSize {
				if st.check(st.partial); st.fault == nil {
					whole := make([]byte, prefixSize, prefixSize+min(messageSize(st.partial), believed))
					copy(whole, st.partial)
					st.partial = whole
				}
			}
			if len(st.partial) >= prefixSize && len(st.partial) == prefixSize+messageSize(st.partial) {
				message := st.partial[prefixSize:]
				st.partial = nil
				st.take(message, true)
			}
			continue
		}
		if len(b) < prefixSize {
			st.partial = append(st.partial, b...)
			return
		}
		if st.check(b); st.fault != nil {
			return
		}
		end := prefixSize + messageSize(b)
		if end > len(b) {
			st.partial = append(make([]byte, 0, min(end, prefixSize+believed)), b...)
			return
		}
		st.take(b[prefixSize:end], false)
		b = b[end:]
	}
}

func messageSize(prefix []byte) int { return int(binary.BigEndian.Uint32(prefix[1:])) }

// check looks at a message's prefix.
func (st *stream) check(prefix []byte) {
	limit := st.conn.server.options.MaxMessage
	switch n := messageSize(prefix); {
	case prefix[0] != 0:
		st.fault = status.Error(codes.Unimplemented, "Messages must not be compressed.")
	case n > limit:
		st.fault = status.Errorf(codes.ResourceExhausted, "A message of %d bytes is larger than the maximum of %d.", n, limit)
	default:
		return
	}
	if st.receiver != nil {
		st.receiver.Gone()
		st.receiver = nil
	}
	st.partial = nil
	st.deliver(nil, st.fault)
}

// take hands over a message; if it is not owned, its bytes are valid only now.
func (st *stream) take(message []byte, owned bool) {
	if st.method.direct != nil {
		st.receiver.Message(message)
		return
	}
	if !owned {
		message = append([]byte(nil), message...)
	}
	st.deliver(message, nil)
}

// deliver gives a handler its next message, or the error that ends them.
func (st *stream) deliver(message []byte, refusal error) {
	if st.arrived == nil {
		return
	}
	st.conn.mu.Lock()
	if refusal != nil {
		st.refusal = refusal
	} else {
		st.inbox = append(st.inbox, message)
		st.held += len(message) + messageCost
	}
	st.conn.mu.Unlock()
	wake(st.arrived)
}

// readOn lets the client send more, unless what it has sent waits to be read.
func (st *stream) readOn() error {
	c := st.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.owed < streamWindow/2 || st.held >= streamWindow/2 || st.half || st.closed {
		return nil
	}
	n := st.owed
	st.allow, st.owed = st.allow+n, 0
	return c.control(appendWindow(c.out, st.id, n))
}

// requestEnds: the client has said all.
func (st *stream) requestEnds() error {
	c := st.conn
	c.mu.Lock()
	st.half = true
	c.mu.Unlock()
	if len(st.partial) > 0 && st.fault == nil {
		st.fault = status.Error(codes.Internal, "The request ends within a message.")
		if st.receiver != nil {
			st.receiver.Gone()
			st.receiver = nil
		}
		st.deliver(nil, st.fault)
	}
	if st.method == nil || st.method.direct == nil {
		wake(st.arrived)
		return nil
	}
	if receiver := st.receiver; receiver != nil {
		st.receiver = nil
		c.taken = c.server.options.Idle != nil
		receiver.End()
		return nil
	}
	(*Call)(st).Fail(st.fault, nil)
	return nil
}

// abandon ends a call that has nobody to answer to.
func (st *stream) abandon() {
	c := st.conn
	c.mu.Lock()
	half, closed := st.half, st.closed
	if !closed {
		st.close()
	}
	// A direct call whose request is complete will be answered; any other ends here.
	if st.method != nil && st.method.direct != nil && !half && !closed {
		st.observe(codes.Canceled)
		c.over()
	}
	c.mu.Unlock()
	if st.receiver != nil {
		st.receiver.Gone()
		st.receiver = nil
	}
	if st.cancel != nil {
		st.cancel()
	}
}

// close forgets a call that has been answered or given up. It is called with the lock held.
func (st *stream) close() {
	st.closed = true
	delete(st.conn.streams, st.id)
	if st.room != nil {
		wake(st.room)
	}
}

// finish sends a call's end, and counts it off.
func (st *stream) finish(err error, trailer metadata.MD) {
	c := st.conn
	s := status.Convert(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !st.closed {
		if len(st.header) > 0 { // they are not to be taken for trailers
			st.headersOut()
		}
		var block []byte
		if !st.begun {
			block = c.headers.begin(nil)
		}
		c.out = appendBlock(c.out, st.id, c.headers.end(block, s, trailer), flagEndStream, c.maxFrame)
		st.closeAnswered()
	}
	st.observe(s.Code())
	// Together with the answer: who has read it may call again at once.
	c.over()
}

// closeAnswered closes a call whose answer is in out. It is called with the lock held.
func (st *stream) closeAnswered() {
	c := st.conn
	if !st.half { // what it still sends would be in vain
		c.out = appendReset(c.out, st.id, noError)
	}
	st.close()
	c.kick()
}

func (st *stream) observe(code codes.Code) {
	if observe := st.conn.server.options.Observe; observe != nil && st.method != nil {
		observe(st.method.name, code)
	}
}

// appendBlock writes a header block in as many frames as it takes.
func appendBlock(b []byte, id uint32, block []byte, flags byte, limit int) []byte {
	kind := byte(frameHeaders)
	for {
		n := min(len(block), limit)
		if n == len(block) {
			flags |= flagEndHeaders
		}
		b = append(appendHead(b, n, kind, flags, id), block[:n]...)
		if block = block[n:]; len(block) == 0 {
			return b
		}
		kind, flags = frameContinuation, 0
	}
}

// handle runs the handler of a call in a goroutine of its own.
func (st *stream) handle() {
	defer st.cancel()
	err := st.serve()
	if flushed := st.Flush(); err == nil {
		err = flushed
	}
	if err != nil {
		if _, ok := status.FromError(err); !ok {
			err = status.FromContextError(err).Err()
		}
	}
	st.finish(err, st.trailer)
}

func (st *stream) serve() error {
	if admit := st.conn.server.options.Admit; admit != nil {
		ctx, err := admit(st.ctx, st.method.name)
		if err != nil {
			return err
		}
		st.ctx = ctx
	}
	if desc := st.method.stream; desc != nil {
		return desc.Handler(st.method.impl, st)
	}
	reply, err := st.method.unary.Handler(st.method.impl, st.ctx, st.RecvMsg, nil)
	if err == io.EOF {
		return status.Error(codes.Internal, "The request has no message.")
	}
	if err != nil {
		return err
	}
	return st.queue(reply)
}

// Context implements grpc.ServerStream.
func (st *stream) Context() context.Context { return st.ctx }

// RecvMsg implements grpc.ServerStream.
func (st *stream) RecvMsg(m any) error {
	b, err := st.receive()
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(b, m.(proto.Message)); err != nil {
		return status.Errorf(codes.Internal, "The message cannot be read: %v", err)
	}
	return nil
}

func (st *stream) receive() ([]byte, error) {
	c := st.conn
	for {
		c.mu.Lock()
		if len(st.inbox) > 0 {
			b := st.inbox[0]
			st.inbox[0] = nil
			st.inbox = st.inbox[1:]
			st.held -= len(b) + messageCost
			c.mu.Unlock()
			return b, st.readOn()
		}
		half, closed, refusal := st.half, st.closed, st.refusal
		c.mu.Unlock()
		switch {
		case refusal != nil:
			return nil, refusal
		case closed:
			return nil, errGone
		case half:
			return nil, io.EOF
		}
		select {
		case <-st.arrived:
		case <-st.ctx.Done():
			return nil, status.FromContextError(st.ctx.Err()).Err()
		}
	}
}

// SendMsg implements grpc.ServerStream.
func (st *stream) SendMsg(m any) error {
	if err := st.queue(m); err != nil {
		return err
	}
	return st.Flush()
}

func (st *stream) queue(m any) error {
	at := len(st.buf)
	st.buf = append(st.buf, 0, 0, 0, 0, 0)
	var err error
	if st.buf, err = (proto.MarshalOptions{}).MarshalAppend(st.buf, m.(proto.Message)); err != nil {
		return status.Errorf(codes.Internal, "The answer cannot be written: %v", err)
	}
	binary.BigEndian.PutUint32(st.buf[at+1:], uint32(len(st.buf)-at-prefixSize))
	return nil
}

// Queue sends a message that is marshalled already, together with those that follow or at the next Flush. Its bytes are
// copied.
func (st *stream) Queue(message []byte) error {
	if st.queueBytes(message); len(st.buf) >= maxFrame {
		return st.Flush()
	}
	return nil
}

func (st *stream) queueBytes(message []byte) {
	st.buf = append(st.buf, 0)
	st.buf = append(binary.BigEndian.AppendUint32(st.buf, uint32(len(message))), message...)
}

// Flush sends what has been queued.
func (st *stream) Flush() error {
	if len(st.buf) == 0 {
		return nil
	}
	err := st.write(st.buf)
	if st.buf = st.buf[:0]; cap(st.buf) > 4*maxFrame {
		st.buf = nil
	}
	return err
}

// write sends bytes as far as the windows allow, and waits for the rest.
func (st *stream) write(b []byte) error {
	c := st.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for !st.closed {
		st.headersOut()
		n := min(len(b), c.maxFrame, st.window, c.window)
		if n > 0 && len(c.out) < outWanted {
			c.out = append(appendHead(c.out, n, frameData, 0, st.id), b[:n]...)
			st.window, c.window = st.window-n, c.window-n
			c.kick()
			if b = b[n:]; len(b) == 0 {
				return nil
			}
			continue
		}
		if !st.blocked {
			st.blocked = true
			c.blocked = append(c.blocked, st)
		}
		c.mu.Unlock()
		select {
		case <-st.room:
		case <-st.ctx.Done():
			c.mu.Lock()
			return status.FromContextError(st.ctx.Err()).Err()
		}
		c.mu.Lock()
	}
	return errGone
}

// headersOut sends the headers of an answer, once. It is called with the lock held.
func (st *stream) headersOut() {
	if st.begun || st.closed {
		return
	}
	st.begun = true
	c := st.conn
	c.out = appendBlock(c.out, st.id, appendMetadata(c.headers.begin(nil), st.header), 0, c.maxFrame)
	c.kick()
}

// SetHeader implements grpc.ServerStream.
func (st *stream) SetHeader(md metadata.MD) error {
	st.header = metadata.Join(st.header, md)
	return nil
}

// SendHeader implements grpc.ServerStream.
func (st *stream) SendHeader(md metadata.MD) error {
	_ = st.SetHeader(md)
	st.conn.mu.Lock()
	defer st.conn.mu.Unlock()
	st.headersOut()
	return nil
}

// SetTrailer implements grpc.ServerStream.
func (st *stream) SetTrailer(md metadata.MD) { st.trailer = metadata.Join(st.trailer, md) }

// transportStream is what grpc.SetTrailer and its like find in a context.
type transportStream stream

// Method implements grpc.ServerTransportStream.
func (t *transportStream) Method() string { return t.method.name }

// SetHeader implements grpc.ServerTransportStream.
func (t *transportStream) SetHeader(md metadata.MD) error { return (*stream)(t).SetHeader(md) }

// SendHeader implements grpc.ServerTransportStream.
func (t *transportStream) SendHeader(md metadata.MD) error { return (*stream)(t).SendHeader(md) }

// SetTrailer implements grpc.ServerTransportStream.
func (t *transportStream) SetTrailer(md metadata.MD) error {
	(*stream)(t).SetTrailer(md)
	return nil
}

// Sender sends many small messages at little cost.
type Sender interface {
	// Queue sends a marshalled message together with those that follow. Its bytes are copied. The error is a status.
	Queue(message []byte) error
	// Flush sends what is queued.
	Flush() error
}

// SenderOf is the sender of the call that a handler's context belongs to.
func SenderOf(ctx context.Context) (Sender, error) {
	t, ok := grpc.ServerTransportStreamFromContext(ctx).(*transportStream)
	if !ok {
		return nil, fmt.Errorf("rpc: the context is not that of a call")
	}
	return (*stream)(t), nil
}
