package rpc

import (
	"context"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
)

// FuzzAnythingIsSaid has a client say anything after its greeting, and then fall silent: the connection ends, and another
// client is served on.
func FuzzAnythingIsSaid(f *testing.F) {
	for _, test := range goodbyes {
		f.Add(test.say)
	}
	f.Add(call(1, true))
	f.Add(append(call(1, false), whole(frameData, flagEndStream, 1, message(3)...)...))
	shared := serve(f, Options{MaxCalls: 5}, &service{stream: func(st grpc.ServerStream) error { return st.RecvMsg(&bytesValue{}) }}, nil)
	other := shared.client()
	f.Fuzz(func(t *testing.T, said []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		r := &rig{t: t, ctx: ctx, addr: shared.addr}
		w := r.raw().greet()
		defer w.net.Close()
		w.say(said)
		_ = w.net.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, w.net); err != nil && isTimeout(err) {
			t.Fatal("the connection does not end")
		}
		r.echo(other, "well")
	})
}
