package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestAUnaryCallIsAnswered(t *testing.T) {
	for name, size := range map[string]int{"nothing": 0, "a byte": 1, "a frame": maxFrame, "a window": startWindow, "10 MB": 10 << 20} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, Options{MaxMessage: 11 << 20}, nil, nil)
			want := bytes.Repeat([]byte{7}, size)
			out := &bytesValue{}
			if err := r.client().Invoke(r.ctx, unaryMethod, wrapperspb.Bytes(want), out); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Value, want) {
				t.Fatalf("got %d bytes back, want %d", len(out.Value), size)
			}
		})
	}
}

func TestMessagesStreamBothWays(t *testing.T) {
	t.Run("answer by answer", func(t *testing.T) {
		r := serve(t, Options{}, &service{stream: func(st grpc.ServerStream) error {
			for {
				m := &bytesValue{}
				if err := st.RecvMsg(m); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
				m.Value = append(m.Value, '!')
				if err := st.SendMsg(m); err != nil {
					return err
				}
			}
		}}, nil)
		st := r.open(r.ctx, r.client())
		for _, text := range []string{"a", "", "b"} {
			r.send(st, text)
			r.wantMessage(st, text+"!")
		}
		st.CloseSend()
		if err := st.RecvMsg(&bytesValue{}); err != io.EOF {
			t.Fatalf("at the end: %v", err)
		}
	})
	t.Run("many requests, one answer", func(t *testing.T) {
		r := serve(t, Options{}, &service{stream: func(st grpc.ServerStream) error {
			var all []byte
			for m := new(bytesValue); st.RecvMsg(m) == nil; {
				all = append(all, m.Value...)
			}
			return st.SendMsg(wrapperspb.Bytes(all))
		}}, nil)
		st := r.open(r.ctx, r.client())
		var want strings.Builder
		for range 3000 {
			r.send(st, strings.Repeat("x", 999)) // 3 MB: more than the window
			want.WriteString(strings.Repeat("x", 999))
		}
		st.CloseSend()
		r.wantMessage(st, want.String())
	})
	t.Run("what is queued goes out in order, at the flush or with a message", func(t *testing.T) {
		flushed := make(chan struct{})
		r := serve(t, Options{}, &service{stream: func(st grpc.ServerStream) error {
			queue, err := SenderOf(st.Context())
			if err != nil {
				return err
			}
			quote := func(text string) error { return queue.Queue(append([]byte{10, byte(len(text))}, text...)) }
			if err := errors.Join(quote("1"), quote("2"), queue.Flush()); err != nil {
				return err
			}
			<-flushed
			return errors.Join(quote("3"), st.SendMsg(wrapperspb.Bytes([]byte("4"))), quote("5"))
		}}, nil)
		st := r.open(r.ctx, r.client())
		r.wantMessage(st, "1")
		r.wantMessage(st, "2")
		close(flushed)
		for _, text := range []string{"3", "4", "5"} {
			r.wantMessage(st, text)
		}
		if err := st.RecvMsg(&bytesValue{}); err != io.EOF {
			t.Fatal(err)
		}
	})
	t.Run("a handler that ends early ends the call", func(t *testing.T) {
		r := serve(t, Options{}, &service{stream: func(grpc.ServerStream) error { return status.Error(codes.Aborted, "enough") }}, nil)
		conn := r.client()
		wantCode(t, r.open(r.ctx, conn).RecvMsg(&bytesValue{}), codes.Aborted)
		r.echo(conn, "still here")
	})
}

func TestMetadataGoesBothWays(t *testing.T) {
	long := strings.Repeat("y", 60<<10) // takes CONTINUATION frames
	values := metadata.Pairs("plain", "a b", "twice", "1", "twice", "2", "raw-bin", "\x00\xff\n", "long", long)
	r := serve(t, Options{}, &service{unary: func(ctx context.Context, in *bytesValue) (*bytesValue, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if p, ok := peer.FromContext(ctx); !ok || p.Addr == nil {
			return nil, status.Error(codes.Internal, "no peer")
		}
		if md.Get(":authority") == nil || md.Get("user-agent") == nil {
			return nil, status.Error(codes.Internal, "no authority, no agent")
		}
		out := metadata.MD{}
		for _, key := range []string{"plain", "twice", "raw-bin"} {
			out[key] = md[key]
		}
		if err := errors.Join(grpc.SetHeader(ctx, out), grpc.SetTrailer(ctx, values), grpc.SetTrailer(ctx, metadata.MD{"Upper": {"case"}})); err != nil {
			return nil, err
		}
		if len(in.Value) > 0 {
			return nil, status.Error(codes.Aborted, string(in.Value))
		}
		return in, nil
	}}, nil)
	conn := r.client()
	sent := metadata.NewOutgoingContext(r.ctx, metadata.Pairs("plain", "a b", "twice", "1", "twice", "2", "raw-bin", "\x00\xff\n"))
	for _, message := range []string{"", "plain", "50% of häuser\n\x01 were ☃", strings.Repeat("z", 20<<10)} {
		var header, trailer metadata.MD
		err := conn.Invoke(sent, unaryMethod, wrapperspb.Bytes([]byte(message)), &bytesValue{}, grpc.Header(&header), grpc.Trailer(&trailer))
		if got := status.Convert(err).Message(); got != message || (err == nil) != (message == "") {
			t.Fatalf("the message is %q, want %q", got, message)
		}
		for key, want := range values {
			if !slices.Equal(trailer[key], want) {
				t.Errorf("with %.9q trailer %s is %.40q", message, key, trailer[key])
			}
			if key != "long" && !slices.Equal(header[key], want) {
				t.Errorf("header %s is %q", key, header[key])
			}
		}
		if !slices.Equal(trailer["upper"], []string{"case"}) {
			t.Errorf("an upper-case key came as %q", trailer["upper"])
		}
	}
}

func TestHeadersCanBeSentBeforeTheFirstMessage(t *testing.T) {
	seen := make(chan struct{})
	r := serve(t, Options{}, &service{stream: func(st grpc.ServerStream) error {
		if err := st.SendHeader(metadata.Pairs("early", "yes")); err != nil {
			return err
		}
		<-seen
		return nil
	}}, nil)
	md, err := r.open(r.ctx, r.client()).Header()
	close(seen)
	if err != nil || md.Get("early") == nil {
		t.Fatalf("got %v, %v", md, err)
	}
}

func TestHandlersLearnThatNobodyWaits(t *testing.T) {
	waiting := func(begun, ended chan error) *service {
		return &service{stream: func(st grpc.ServerStream) error {
			begun <- nil
			<-st.Context().Done()
			ended <- st.Context().Err()
			return st.Context().Err()
		}}
	}
	t.Run("because of the deadline", func(t *testing.T) {
		begun, ended := make(chan error, 1), make(chan error, 1)
		r := serve(t, Options{}, waiting(begun, ended), nil)
		ctx, cancel := context.WithTimeout(r.ctx, 50*time.Millisecond)
		defer cancel()
		err := r.open(ctx, r.client()).RecvMsg(&bytesValue{})
		wantCode(t, err, codes.DeadlineExceeded)
		if <-begun; <-ended == nil {
			t.Fatal("the handler's context has not ended")
		}
	})
	t.Run("because the caller has cancelled", func(t *testing.T) {
		begun, ended := make(chan error, 1), make(chan error, 1)
		r := serve(t, Options{}, waiting(begun, ended), nil)
		ctx, cancel := context.WithCancel(r.ctx)
		r.open(ctx, r.client())
		<-begun
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Fatal(err)
		}
	})
	t.Run("because the connection is gone", func(t *testing.T) {
		begun, ended := make(chan error, 1), make(chan error, 1)
		r := serve(t, Options{}, waiting(begun, ended), nil)
		conn := r.client()
		r.open(r.ctx, conn)
		<-begun
		conn.Close()
		if err := <-ended; err != context.Canceled {
			t.Fatal(err)
		}
	})
}

func TestCallsThatFail(t *testing.T) {
	large := wrapperspb.Bytes(make([]byte, 5000))
	tests := map[string]struct {
		method  string
		in      *bytesValue
		err     error
		options []grpc.CallOption
		code    codes.Code
		text    string
	}{
		"with a status":              {err: status.Error(codes.NotFound, "nowhere"), code: codes.NotFound, text: "nowhere"},
		"with an error of its own":   {err: errors.New("odd"), code: codes.Unknown, text: "odd"},
		"with a context's error":     {err: context.DeadlineExceeded, code: codes.DeadlineExceeded, text: "context deadline exceeded"},
		"an unknown method":          {method: "/tests.Service/Nothing", code: codes.Unimplemented, text: "unknown method /tests.Service/Nothing"},
		"a message beyond the limit": {in: large, code: codes.ResourceExhausted, text: "A message of 5003 bytes is larger than the maximum of 4096."},
		"a message that is compressed": {options: []grpc.CallOption{grpc.UseCompressor(gzip.Name)}, code: codes.Unimplemented,
			text: `Messages must not be compressed, and this one is with "gzip".`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := serve(t, Options{MaxMessage: 4096}, &service{unary: func(context.Context, *bytesValue) (*bytesValue, error) { return &bytesValue{}, test.err }}, nil)
			if test.method == "" {
				test.method = unaryMethod
			}
			if test.in == nil {
				test.in = &bytesValue{}
			}
			conn := r.client()
			for range 2 { // the connection is as good as before
				err := conn.Invoke(r.ctx, test.method, test.in, &bytesValue{}, test.options...)
				if s := status.Convert(err); s.Code() != test.code || s.Message() != test.text {
					t.Fatalf("got %v %q, want %v %q", s.Code(), s.Message(), test.code, test.text)
				}
			}
		})
	}
}

func TestAdmitDecidesWhoIsServed(t *testing.T) {
	type guest struct{}
	admit := func(ctx context.Context, method string) (context.Context, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if len(md.Get("name")) == 0 {
			return nil, status.Error(codes.Unauthenticated, method)
		}
		return context.WithValue(ctx, guest{}, md.Get("name")[0]), nil
	}
	r := serve(t, Options{Admit: admit}, &service{unary: func(ctx context.Context, _ *bytesValue) (*bytesValue, error) {
		return wrapperspb.Bytes([]byte(ctx.Value(guest{}).(string))), nil
	}}, nil)
	conn := r.client()
	err := conn.Invoke(r.ctx, unaryMethod, &bytesValue{}, &bytesValue{})
	wantCode(t, err, codes.Unauthenticated)
	out := &bytesValue{}
	if err := conn.Invoke(metadata.AppendToOutgoingContext(r.ctx, "name", "ada"), unaryMethod, &bytesValue{}, out); err != nil || string(out.Value) != "ada" {
		t.Fatalf("got %q, %v", out.Value, err)
	}
}

func TestEveryCallIsObserved(t *testing.T) {
	type seen struct {
		method string
		code   codes.Code
	}
	observed := make(chan seen, 10)
	r := serve(t, Options{Observe: func(m string, c codes.Code) { observed <- seen{m, c} }}, &service{unary: func(_ context.Context, in *bytesValue) (*bytesValue, error) {
		if len(in.Value) > 0 {
			return nil, status.Error(codes.Aborted, "")
		}
		return in, nil
	}}, nil)
	conn := r.client()
	for _, in := range []string{"", "x"} {
		_ = conn.Invoke(r.ctx, unaryMethod, wrapperspb.Bytes([]byte(in)), &bytesValue{})
	}
	_ = conn.Invoke(r.ctx, "/of/nobody", &bytesValue{}, &bytesValue{}) // names that clients make up are no metrics
	r.server.Stop()
	close(observed)
	var all []seen
	for s := range observed {
		all = append(all, s)
	}
	if want := []seen{{unaryMethod, codes.OK}, {unaryMethod, codes.Aborted}}; !slices.Equal(all, want) {
		t.Fatalf("observed %v, want %v", all, want)
	}
}
