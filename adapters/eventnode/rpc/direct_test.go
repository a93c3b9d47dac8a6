package rpc

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// collecting is a direct method that hands over the whole request when it is complete.
func collecting(end func(c *Call, messages []string)) func(*Call) Receiver {
	return func(c *Call) Receiver {
		var messages []string
		return &receiver{
			message: func(b []byte) {
				m := &bytesValue{}
				if err := proto.Unmarshal(b, m); err != nil {
					panic(err)
				}
				messages = append(messages, string(m.Value))
			},
			end: func() { end(c, messages) },
		}
	}
}

func answerOf(text string) []byte {
	b, err := proto.Marshal(wrapperspb.Bytes([]byte(text)))
	if err != nil {
		panic(err)
	}
	return b
}

// ask calls the direct method with messages.
func (r *rig) ask(conn *grpc.ClientConn, messages []string, options ...grpc.CallOption) (string, error) {
	st, err := conn.NewStream(r.ctx, &grpc.StreamDesc{ClientStreams: true}, directMethod, options...)
	if err != nil {
		return "", err
	}
	for _, m := range messages {
		if err := st.SendMsg(wrapperspb.Bytes([]byte(m))); err != nil {
			return "", fmt.Errorf("an answer before the request was complete: %w", err)
		}
	}
	if err := st.CloseSend(); err != nil {
		return "", err
	}
	out := &bytesValue{}
	err = st.RecvMsg(out)
	return string(out.Value), err
}

func TestADirectCallIsAnswered(t *testing.T) {
	sizes := map[string][]string{
		"no message":          nil,
		"small messages":      {"a", "", "b"},
		"messages of a frame": {strings.Repeat("f", maxFrame-8), strings.Repeat("g", maxFrame), "h"},
		"messages of 1 MB":    {strings.Repeat("m", 1<<20), strings.Repeat("n", 1<<20)},
	}
	ways := map[string]func(r *rig, f func()){
		"on the reader's goroutine": func(_ *rig, f func()) { f() },
		"from another":              func(r *rig, f func()) { r.server.owned.Go(f) },
	}
	for way, run := range ways {
		for size, messages := range sizes {
			t.Run(way+", "+size, func(t *testing.T) {
				var r *rig
				r = serve(t, Options{}, nil, collecting(func(c *Call, got []string) {
					run(r, func() { c.Answer(answerOf(strings.Join(got, "+"))) })
				}))
				conn := r.client()
				for range 3 { // the second answer's headers refer to the first's
					got, err := r.ask(conn, messages)
					if want := strings.Join(messages, "+"); err != nil || got != want {
						t.Fatalf("got %d bytes, %v; want %d", len(got), err, len(want))
					}
				}
			})
		}
	}
}

func TestManyDirectCallsAreDrivenByIdle(t *testing.T) {
	const calls = 2000
	queue := &pending{}
	r := serve(t, Options{Idle: queue.drive, MaxCalls: calls}, nil, collecting(func(c *Call, got []string) {
		queue.add(func() { c.Answer(answerOf(got[0])) })
	}))
	conns := []*grpc.ClientConn{r.client(), r.client(), r.client()}
	var done sync.WaitGroup
	for i := range calls {
		done.Go(func() {
			want := fmt.Sprint(i)
			if got, err := r.ask(conns[i%len(conns)], []string{want}); err != nil || got != want {
				t.Errorf("call %d: %q, %v", i, got, err)
			}
		})
	}
	done.Wait()
	if got := r.server.Connections(); got != len(conns) {
		t.Errorf("%d connections are open, want %d", got, len(conns))
	}
}

func TestCallersGetAllOfTheirPlaces(t *testing.T) {
	// As many callers as there are places: whoever has its answer calls again at once, and is never refused.
	const places = 8
	r := serve(t, Options{MaxCalls: places}, nil, nil)
	conn := r.client()
	conn.Connect()
	r.echo(conn, "the settings have come")
	var done sync.WaitGroup
	for range places {
		done.Go(func() {
			for range 200 {
				if err := conn.Invoke(r.ctx, unaryMethod, &bytesValue{}, &bytesValue{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done.Wait()
}

func TestADirectCallIsGone(t *testing.T) {
	for name, give := range map[string]func(cancel func(), conn *grpc.ClientConn){
		"when the caller cancels":    func(cancel func(), _ *grpc.ClientConn) { cancel() },
		"when the connection is cut": func(_ func(), conn *grpc.ClientConn) { conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			come, gone := make(chan struct{}), make(chan struct{})
			observed := make(chan codes.Code, 1)
			r := serve(t, Options{Observe: func(_ string, c codes.Code) { observed <- c }}, nil, func(*Call) Receiver {
				return &receiver{
					message: func([]byte) { close(come) },
					end:     func() { t.Error("the request is not complete") },
					gone:    func() { close(gone) },
				}
			})
			conn := r.client()
			ctx, cancel := context.WithCancel(r.ctx)
			defer cancel()
			st, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, directMethod)
			if err != nil {
				t.Fatal(err)
			}
			r.send(st, "half of it")
			r.wantClosed(come, "the message comes")
			give(cancel, conn)
			r.wantClosed(gone, "Gone")
			if code := <-observed; code != codes.Canceled {
				t.Errorf("observed %v", code)
			}
		})
	}
	t.Run("and yet to be answered, if its request was complete", func(t *testing.T) {
		ended := make(chan *Call, 2)
		r := serve(t, Options{MaxCalls: 1}, nil, collecting(func(c *Call, _ []string) { ended <- c }))
		w := r.raw().greet()
		w.begin(1, directMethod, true)
		call := <-ended
		_ = w.WriteRSTStream(1, http2.ErrCodeCancel)
		w.begin(3, directMethod, true)
		if got := w.outcome(3); got != "REFUSED_STREAM" {
			t.Fatalf("while it is open another call ends with %s", got)
		}
		call.Answer(answerOf("nobody"))
		w.begin(5, directMethod, true)
		(<-ended).Answer(nil)
		if got := w.outcome(5); got != "grpc-status 0" {
			t.Fatalf("after it another call ends with %s", got)
		}
	})
}

func TestADirectCallFails(t *testing.T) {
	want := metadata.Pairs("exception", "odd", "long", strings.Repeat("l", 40<<10))
	r := serve(t, Options{MaxMessage: 1 << 20}, nil, collecting(func(c *Call, _ []string) {
		c.Fail(status.Error(codes.FailedPrecondition, "not näw"), want)
	}))
	conn := r.client()
	for range 2 {
		var trailer metadata.MD
		_, err := r.ask(conn, []string{"x"}, grpc.Trailer(&trailer))
		if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "not näw" {
			t.Fatal(err)
		}
		for key, values := range want {
			if !slices.Equal(trailer[key], values) {
				t.Errorf("trailer %s is %.40q", key, trailer[key])
			}
		}
	}
	// A message that is too large is refused when all has been read: nothing before that disturbs the caller.
	_, err := r.ask(conn, []string{"x", strings.Repeat("t", 1<<20), strings.Repeat("u", 1<<20), "y"})
	wantCode(t, err, codes.ResourceExhausted)
}

func TestADirectCallIsAdmittedOrRefusedAtItsEnd(t *testing.T) {
	type guest struct{}
	r := serve(t, Options{Admit: func(ctx context.Context, method string) (context.Context, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if md.Get("name") == nil {
			return nil, status.Error(codes.PermissionDenied, method)
		}
		return context.WithValue(ctx, guest{}, md.Get("name")[0]), nil
	}}, nil, collecting(func(c *Call, _ []string) { c.Answer(answerOf(c.Context().Value(guest{}).(string))) }))
	conn := r.client()
	megabytes := slices.Repeat([]string{strings.Repeat("m", 1<<20)}, 4)
	_, err := r.ask(conn, megabytes)
	if s := status.Convert(err); s.Code() != codes.PermissionDenied || s.Message() != directMethod {
		t.Fatal(err)
	}
	r.ctx = metadata.AppendToOutgoingContext(r.ctx, "name", "ada")
	if got, err := r.ask(conn, megabytes); err != nil || got != "ada" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestAnAnswerLargerThanTheWindowIsSentAsThereIsRoom(t *testing.T) {
	want := bytes.Repeat([]byte{'w'}, 5<<20)
	r := serve(t, Options{}, nil, collecting(func(c *Call, got []string) {
		if len(got) == 0 {
			c.Answer(answerOf("small"))
			return
		}
		c.Answer(answerOf(string(want)))
	}))
	conn := r.client(grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10))
	for range 2 {
		if got, err := r.ask(conn, []string{"large"}); err != nil || got != string(want) {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
		if got, err := r.ask(conn, nil); err != nil || got != "small" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}
