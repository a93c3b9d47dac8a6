package rpc

import (
	"context"
	"encoding/binary"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// Receiver takes the request of one call of a direct method, on the goroutine that reads the connection: it must not wait
// for anything that needs that connection. After End or Gone it hears no more.
type Receiver interface {
	// Message takes the next message. Its bytes are valid only until it returns.
	Message(b []byte)
	// End says that the request is complete: the call has to be answered, now or later, from any goroutine.
	End()
	// Gone says that there will be nobody to answer.
	Gone()
}

// Call is a call of a direct method. It is answered once, by Answer or Fail.
type Call stream

// Context holds what Admit has put there. It does not end with the call.
func (c *Call) Context() context.Context { return c.ctx }

// Answer ends the call with one marshalled message. Its bytes are copied.
func (c *Call) Answer(message []byte) {
	st, conn := (*stream)(c), c.conn
	conn.mu.Lock()
	defer conn.mu.Unlock()
	size := prefixSize + len(message)
	st.headersOut()
	if !st.closed && (size > min(st.window, conn.window, conn.maxFrame) || len(conn.out) > conn.server.options.outLimit/2) { // no room for an answer
		st.room = make(chan struct{}, 1)
		st.queueBytes(message)
		conn.server.owned.Go(st.answerSlowly)
		return
	}
	defer conn.over()
	st.observe(codes.OK)
	if st.closed {
		return
	}
	st.window, conn.window = st.window-size, conn.window-size
	conn.out = append(appendHead(conn.out, size, frameData, 0, st.id), 0)
	conn.out = append(binary.BigEndian.AppendUint32(conn.out, uint32(len(message))), message...)
	at := len(conn.out)
	conn.out = conn.headers.success(appendHead(conn.out, 0, frameHeaders, flagEndStream|flagEndHeaders, st.id))
	conn.out[at+2] = byte(len(conn.out) - at - frameHeader) // a few bytes at most
	st.close()
	conn.kick()
}

// Fail ends the call with a status and trailers.
func (c *Call) Fail(err error, trailer metadata.MD) {
	(*stream)(c).finish(err, trailer)
}

// answerSlowly sends what Answer could not, as the client makes room.
func (st *stream) answerSlowly() {
	_ = st.Flush() // fails only if the caller has gone
	(*Call)(st).Fail(nil, nil)
}
