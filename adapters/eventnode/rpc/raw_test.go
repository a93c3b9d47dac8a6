package rpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// raw is a client that can say anything.
type raw struct {
	*http2.Framer
	r    *rig
	net  net.Conn
	text bytes.Buffer
	pack *hpack.Encoder
}

// raw connects, and says nothing yet.
func (r *rig) raw() *raw {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	w := &raw{Framer: http2.NewFramer(nc, nc), r: r, net: nc}
	w.AllowIllegalWrites = true
	w.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	w.pack = hpack.NewEncoder(&w.text)
	return w
}

// say writes bytes. The server may have hung up already, which reading shows.
func (w *raw) say(b []byte) { _, _ = w.net.Write(b) }

// greet says the preface and settings.
func (w *raw) greet(settings ...http2.Setting) *raw {
	w.say([]byte(preface))
	_ = w.WriteSettings(settings...)
	return w
}

// block encodes headers: those of a call of a method, and others.
func (w *raw) block(method string, others ...string) []byte {
	w.text.Reset()
	fields := append([]string{":method", "POST", ":scheme", "http", ":path", method, "content-type", "application/grpc", "te", "trailers"}, others...)
	for i := 0; i < len(fields); i += 2 {
		_ = w.pack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(w.text.Bytes())
}

// begin opens a call; with end, its request is complete.
func (w *raw) begin(id uint32, method string, end bool) {
	_ = w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: w.block(method), EndHeaders: true, EndStream: end})
}

// await reads up to a frame that is wanted. What ends the connection is an error.
func (w *raw) await(wanted func(http2.Frame) bool) (http2.Frame, error) {
	for {
		f, err := w.ReadFrame()
		if err != nil {
			return nil, err
		}
		if wanted(f) {
			return f, nil
		}
		if g, ok := f.(*http2.GoAwayFrame); ok && g.ErrCode != http2.ErrCodeNo {
			return nil, errors.New("GOAWAY " + g.ErrCode.String())
		}
	}
}

// ending is how a connection ends: the code of the last GOAWAY, or "closed" without one.
func (w *raw) ending() string {
	code := "closed"
	for {
		f, err := w.ReadFrame()
		if isTimeout(err) {
			return "nothing"
		}
		if err != nil {
			return code
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			code = g.ErrCode.String()
		}
	}
}

func isTimeout(err error) bool {
	late, ok := errors.AsType[net.Error](err)
	return ok && late.Timeout()
}

// outcome is how a call ends: the code of a reset, the gRPC status in its trailers, or HTTP's.
func (w *raw) outcome(id uint32) string {
	found := ""
	_, err := w.await(func(f http2.Frame) bool {
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				found = f.ErrCode.String()
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID == id && f.StreamEnded() {
				for _, field := range f.Fields {
					if field.Name == "grpc-status" || field.Name == ":status" && field.Value != "200" {
						found = field.Name + " " + field.Value
					}
				}
			}
		}
		return found != ""
	})
	if err != nil {
		return err.Error()
	}
	return found
}

// settle waits until the server has taken all that was said.
func (w *raw) settle() {
	w.r.t.Helper()
	_ = w.WritePing(false, [8]byte{1})
	if _, err := w.await(func(f http2.Frame) bool { p, ok := f.(*http2.PingFrame); return ok && p.IsAck() }); err != nil {
		w.r.t.Fatal(err)
	}
}

// message is a request's or an answer's message as it is on the wire.
func message(size int) []byte {
	b := make([]byte, prefixSize+size)
	binary.BigEndian.PutUint32(b[1:], uint32(size))
	return b
}
