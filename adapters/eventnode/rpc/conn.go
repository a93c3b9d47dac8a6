package rpc

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

const (
	// greeting is how long a client may take to say what it speaks.
	greeting = 10 * time.Second
	// parting is how long the last words may take, and then how long the client may take to close.
	parting = time.Second
	// outWanted is how many bytes may wait to be written before those who send much have to wait, defaultOutLimit how many
	// before a connection is given up that asks and does not read.
	outWanted       = 256 << 10
	defaultOutLimit = 16 << 20
	// reading is how long a client may take to read as much as outWanted. A kernel may take minutes more to find
	// out that nobody reads, since the other one drops what confirms that it got anything, too.
	reading = time.Minute
)

// conn is one connection. One goroutine reads it, one writes it; what is to be written is put into out by anybody.
type conn struct {
	server *Server
	net    net.Conn
	peer   peer.Peer

	// The reader's.
	decoder *hpack.Decoder
	request request
	block   []byte // headers that go on in further frames
	opening head   // of the first of them
	allow   int    // bytes that the client may send
	owed    int    // bytes received for which it has not been given new leave
	taken   bool   // direct calls since the last idle moment

	mu       sync.Mutex
	more     sync.Cond // signalled when out has something, or the connection is to be closed
	out      []byte
	ready    bool // the first frame, the settings, is in out
	closing  bool // close when out is empty
	leaving  bool // no new calls
	closed   bool
	headers  headerWriter
	streams  map[uint32]*stream
	active   int    // calls, and handlers of calls that are over
	last     uint32 // highest stream so far
	window   int    // bytes that may be sent
	start    int    // window of a new stream
	maxFrame int
	blocked  []*stream // waiting for room in out or in a window
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{server: s, net: nc, allow: startWindow, streams: map[uint32]*stream{}, window: startWindow, start: startWindow, maxFrame: maxFrame}
	c.more.L = &c.mu
	c.peer.Addr, c.peer.LocalAddr = nc.RemoteAddr(), nc.LocalAddr()
	c.decoder = hpack.NewDecoder(4096, c.request.add)
	c.decoder.SetMaxStringLength(maxHeaderBlock)
	return c
}

// run serves the connection to its end.
func (c *conn) run() error {
	late := time.AfterFunc(greeting, c.cut)
	defer late.Stop()
	defer c.cut()
	if tls := c.server.options.TLS; tls != nil {
		nc, info, err := tls.ServerHandshake(c.net)
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.net, c.peer.AuthInfo = nc, info
		c.mu.Unlock()
	}
	c.settings()
	var writer sync.WaitGroup
	writer.Go(c.write)
	err := c.read(late)
	c.idle() // for calls that came just before the end
	if b, ok := errors.AsType[*broken](err); ok {
		c.farewell(b.code)
	}
	c.end()
	// A client that has made a mistake should get to know it, but not for ever.
	overdue := time.AfterFunc(parting, c.cut)
	defer overdue.Stop()
	writer.Wait()
	// To close while there is something to be read would take from the client what it has not read yet.
	_, _ = io.Copy(io.Discard, c.net)
	return err
}

// settings tells the client what it may do.
func (c *conn) settings() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = appendHead(c.out, 18, frameSettings, 0, 0)
	c.out = appendSetting(c.out, settingMaxStreams, uint32(c.server.options.MaxCalls))
	c.out = appendSetting(c.out, settingWindow, streamWindow)
	c.out = appendSetting(c.out, settingMaxHeaders, maxHeaderBlock)
	c.out = appendWindow(c.out, 0, connWindow-startWindow)
	c.allow, c.ready = connWindow, true
}

// read takes frame after frame.
func (c *conn) read(greeted *time.Timer) error {
	var hello [len(preface)]byte
	if _, err := io.ReadFull(c.net, hello[:]); err != nil {
		return err
	}
	if string(hello[:]) != preface {
		return errors.New("rpc: the client does not speak HTTP/2")
	}
	buf := make([]byte, 4*maxFrame)
	from, to := 0, 0
	want := func(n int) error { // until buf has n bytes from from on
		if from+n > len(buf) {
			to = copy(buf, buf[from:to])
			from = 0
		}
		for to-from < n {
			c.idle()
			m, err := c.net.Read(buf[to:])
			if to += m; err != nil && to-from < n {
				return err
			}
		}
		return nil
	}
	for first := true; ; first = false {
		if from == to {
			from, to = 0, 0
		}
		if err := want(frameHeader); err != nil {
			return err
		}
		h := readHead(buf[from:])
		if h.size > maxFrame {
			return &broken{sizeError, "a frame that is too large"}
		}
		if first && (h.kind != frameSettings || h.has(flagAck)) {
			return &broken{protocolError, "the first frame is not the settings"}
		}
		if err := want(frameHeader + h.size); err != nil {
			return err
		}
		payload := buf[from+frameHeader : from+frameHeader+h.size]
		from += frameHeader + h.size
		if first {
			greeted.Stop()
		}
		if err := c.frame(h, payload); err != nil {
			return err
		}
	}
}

// idle lets direct calls be served that have been taken since the last time.
func (c *conn) idle() {
	if c.taken {
		c.taken = false
		c.server.options.Idle()
	}
}

// frame takes one frame. Its payload is valid only until it returns.
func (c *conn) frame(h head, b []byte) error {
	if c.opening.stream != 0 && (h.kind != frameContinuation || h.stream != c.opening.stream) {
		return &broken{protocolError, "headers that do not go on"}
	}
	onStream := h.kind == frameData || h.kind == frameHeaders || h.kind == framePriority || h.kind == frameReset || h.kind == frameContinuation
	onConn := h.kind == frameSettings || h.kind == framePing || h.kind == frameGoAway
	if onStream && h.stream == 0 || onConn && h.stream != 0 {
		return &broken{protocolError, "a frame on the wrong stream"}
	}
	switch h.kind {
	case frameData:
		return c.data(h, b)
	case frameHeaders:
		b, err := unpad(h, b)
		if err != nil {
			return err
		}
		if !h.has(flagEndHeaders) {
			c.opening, c.block = h, append(c.block[:0], b...)
			return nil
		}
		return c.open(h, b)
	case frameContinuation:
		if c.opening.stream == 0 {
			return &broken{protocolError, "headers that nobody began"}
		}
		if len(c.block)+len(b) > maxHeaderBlock {
			return &broken{tooMuch, "headers without end"}
		}
		if c.block = append(c.block, b...); !h.has(flagEndHeaders) {
			return nil
		}
		begin := c.opening
		c.opening = head{}
		return c.open(begin, c.block)
	case frameReset:
		return c.reset(h, b)
	case frameSettings:
		return c.obey(h, b)
	case framePing:
		return c.ping(h, b)
	case frameWindow:
		return c.widen(h, b)
	case framePush:
		return &broken{protocolError, "a client does not push"}
	}
	return nil // priorities, GOAWAY, and what later versions may bring
}

// open begins a call, or ends the request of one that is under way.
func (c *conn) open(h head, block []byte) error {
	c.request.reset()
	if _, err := c.decoder.Write(block); err != nil {
		return &broken{compressionLost, err.Error()}
	}
	if err := c.decoder.Close(); err != nil {
		return &broken{compressionLost, err.Error()}
	}
	c.mu.Lock()
	st := c.streams[h.stream]
	switch {
	case st != nil:
		half := st.half
		c.mu.Unlock()
		if half || !h.has(flagEndStream) {
			return &broken{protocolError, "headers within or after a request"}
		}
		return st.requestEnds()
	case h.stream%2 == 0:
		c.mu.Unlock()
		return &broken{protocolError, "a stream with an even number"}
	case h.stream <= c.last && c.request.path == "": // the end of a request whose call is over
		c.mu.Unlock()
		return nil
	case h.stream <= c.last:
		c.mu.Unlock()
		return &broken{protocolError, "a call under the number of an earlier one"}
	case len(c.out) > c.server.options.outLimit:
		c.mu.Unlock()
		return &broken{tooMuch, "the client calls, and does not read"}
	}
	if c.last = h.stream; c.leaving || c.active >= c.server.options.MaxCalls {
		defer c.mu.Unlock()
		return c.control(appendReset(c.out, h.stream, refusedStream))
	}
	st = &stream{conn: c, id: h.stream, window: c.start, allow: streamWindow, half: h.has(flagEndStream)}
	c.streams[h.stream] = st
	c.active++
	c.mu.Unlock()
	return st.begin(&c.request)
}

// data hands the bytes of a request to its call.
func (c *conn) data(h head, b []byte) error {
	if c.allow -= h.size; c.allow < 0 {
		return &broken{flowError, "more data than was allowed"}
	}
	if c.owed += h.size; c.owed >= connWindow/4 {
		c.mu.Lock()
		err := c.control(appendWindow(c.out, 0, c.owed))
		c.mu.Unlock()
		if err != nil {
			return err
		}
		c.allow, c.owed = c.allow+c.owed, 0
	}
	c.mu.Lock()
	st, known := c.streams[h.stream], h.stream <= c.last
	c.mu.Unlock()
	if !known {
		return &broken{protocolError, "data of a call that nobody began"}
	}
	if st == nil { // it is over, which the client may not know yet
		return nil
	}
	b, err := unpad(h, b)
	if err != nil {
		return err
	}
	return st.data(b, h.size, h.has(flagEndStream))
}

// reset ends a call that the client has given up.
func (c *conn) reset(h head, b []byte) error {
	if len(b) != 4 {
		return &broken{sizeError, "a reset of the wrong size"}
	}
	c.mu.Lock()
	st, known := c.streams[h.stream], h.stream <= c.last
	c.mu.Unlock()
	if !known {
		return &broken{protocolError, "a reset of a call that nobody began"}
	}
	if st != nil {
		st.abandon()
	}
	return nil
}

// obey takes the client's settings.
func (c *conn) obey(h head, b []byte) error {
	if h.has(flagAck) && len(b) == 0 {
		return nil
	}
	if h.has(flagAck) || len(b)%6 != 0 {
		return &broken{sizeError, "settings of the wrong size"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for ; len(b) > 0; b = b[6:] {
		switch value := binary.BigEndian.Uint32(b[2:]); binary.BigEndian.Uint16(b) {
		case settingTableSize:
			if value < 4096 {
				c.headers.noTable()
			}
		case settingPush:
			if value > 1 {
				return &broken{protocolError, "push that is neither on nor off"}
			}
		case settingWindow:
			if value > maxWindow {
				return &broken{flowError, "a window that is too large"}
			}
			for _, st := range c.streams {
				if st.window += int(value) - c.start; st.window > maxWindow {
					return &broken{flowError, "a window that is too large"}
				}
			}
			c.start = int(value)
		case settingMaxFrame:
			if value < maxFrame || value > 1<<24-1 {
				return &broken{protocolError, "a frame size out of range"}
			}
			c.maxFrame = int(min(value, 4*maxFrame))
		}
	}
	c.unblock()
	return c.control(appendHead(c.out, 0, frameSettings, flagAck, 0))
}

func (c *conn) ping(h head, b []byte) error {
	if len(b) != 8 {
		return &broken{sizeError, "a ping of the wrong size"}
	}
	if h.has(flagAck) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.control(append(appendHead(c.out, 8, framePing, flagAck, 0), b...))
}

// widen lets more be sent.
func (c *conn) widen(h head, b []byte) error {
	if len(b) != 4 {
		return &broken{sizeError, "a window update of the wrong size"}
	}
	n := int(binary.BigEndian.Uint32(b) & maxWindow)
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.stream > c.last {
		return &broken{protocolError, "a window of a call that nobody began"}
	}
	window := &c.window
	if h.stream != 0 {
		st := c.streams[h.stream]
		if st == nil {
			return nil
		}
		window = &st.window
	}
	if n == 0 {
		return &broken{protocolError, "a window update of nothing"}
	}
	if *window += n; *window > maxWindow {
		return &broken{flowError, "a window that is too large"}
	}
	c.unblock()
	return nil
}

// control puts a frame of the connection's own into out: c.out with the frame added. It is called with the lock held.
func (c *conn) control(out []byte) error {
	if c.out = out; len(out) > c.server.options.outLimit {
		return &broken{tooMuch, "the client asks, and does not read"}
	}
	c.kick()
	return nil
}

// kick wakes the writer. It is called with the lock held.
func (c *conn) kick() { c.more.Signal() }

// write is the writer: it sends what is in out until the connection is closed.
func (c *conn) write() {
	var sent []byte
	stuck := time.AfterFunc(reading, c.cut)
	defer stuck.Stop()
	c.mu.Lock()
	for {
		for len(c.out) == 0 && !c.closing && !c.closed {
			c.more.Wait()
		}
		if len(c.out) == 0 || c.closed {
			gently := !c.closed
			c.mu.Unlock() // TLS may take its time to say goodbye
			c.hangUp(gently)
			return
		}
		if cap(sent) > 2*outWanted {
			sent = nil
		}
		sent, c.out = c.out, sent[:0]
		c.unblock()
		c.mu.Unlock()
		var err error
		for b := sent; len(b) > 0 && err == nil; {
			stuck.Reset(reading)
			var n int
			n, err = c.net.Write(b[:min(len(b), outWanted)])
			b = b[n:]
		}
		stuck.Stop()
		c.mu.Lock()
		if err != nil {
			c.closed = true // the reader notices, as the connection gets closed
		}
	}
}

// hangUp says that nothing more comes. A client that has been told so closes the connection, or gets cut off.
func (c *conn) hangUp(gently bool) {
	half, ok := c.net.(interface{ CloseWrite() error })
	if !ok || !gently {
		_ = c.net.Close()
		return
	}
	time.AfterFunc(parting, func() { _ = c.net.Close() })
	_ = half.CloseWrite()
}

// unblock has those look again who wait to send. It is called with the lock held.
func (c *conn) unblock() {
	for _, st := range c.blocked {
		st.blocked = false
		wake(st.room)
	}
	clear(c.blocked)
	c.blocked = c.blocked[:0]
}

// goAway tells the client to go elsewhere, and ends the connection when no call is left.
func (c *conn) goAway() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving || c.closed {
		return
	}
	if c.leaving = true; !c.ready { // still at the handshake
		c.closed = true
		_ = c.net.Close()
		return
	}
	_ = c.control(c.goodbye(noError))
	c.closeIfIdle()
}

func (c *conn) goodbye(why code) []byte {
	b := appendHead(c.out, 8, frameGoAway, 0, 0)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, c.last), uint32(why))
}

// farewell says why the connection ends.
func (c *conn) farewell(why code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.out = c.goodbye(why)
	}
}

func (c *conn) closeIfIdle() {
	if c.leaving && c.active == 0 {
		c.closing = true
		c.kick()
	}
}

// cut ends the connection at once.
func (c *conn) cut() {
	c.mu.Lock()
	nc := c.net
	c.closed = true
	c.kick()
	c.mu.Unlock()
	_ = nc.Close()
}

// end gives up all calls, after the last frame has been read. What waits to be written may still go.
func (c *conn) end() {
	c.mu.Lock()
	c.closing, c.leaving = true, true
	streams := make([]*stream, 0, len(c.streams))
	for _, st := range c.streams {
		streams = append(streams, st)
	}
	c.kick()
	c.mu.Unlock()
	for _, st := range streams {
		st.abandon()
	}
}

// over counts a call off. It is called with the lock held.
func (c *conn) over() {
	c.active--
	c.closeIfIdle()
}

// wake signals a channel of capacity 1 that somebody may be waiting on.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

var errGone = status.Error(codes.Canceled, "The caller has gone.")
