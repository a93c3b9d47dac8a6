package rpc

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait, so that a hanging server is a failed test.
const patience = 2 * time.Minute

type bytesValue = wrapperspb.BytesValue

// service is what the tests' two ordinary methods do.
type service struct {
	unary  func(context.Context, *bytesValue) (*bytesValue, error)
	stream func(grpc.ServerStream) error
}

const (
	unaryMethod  = "/tests.Service/Unary"
	streamMethod = "/tests.Service/Stream"
	directMethod = "/tests.Service/Direct"
)

var description = grpc.ServiceDesc{
	ServiceName: "tests.Service",
	Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(s any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		in := &bytesValue{}
		if err := decode(in); err != nil {
			return nil, err
		}
		return s.(*service).unary(ctx, in)
	}}},
	Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, ClientStreams: true, Handler: func(s any, st grpc.ServerStream) error {
		return s.(*service).stream(st)
	}}},
}

// rig is a server and the addresses of those who call it.
type rig struct {
	t      testing.TB
	ctx    context.Context
	server *Server
	addr   string
}

// serve starts a server with the two methods, and with the direct one if it is given.
func serve(t testing.TB, o Options, s *service, direct func(*Call) Receiver) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r := &rig{t: t, ctx: ctx, server: New(o)}
	if s == nil {
		s = &service{}
	}
	if s.unary == nil {
		s.unary = func(_ context.Context, in *bytesValue) (*bytesValue, error) { return in, nil }
	}
	r.server.RegisterService(&description, s)
	if direct != nil {
		r.server.RegisterDirect(directMethod, direct)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(narrow{l}) }()
	t.Cleanup(func() {
		r.server.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		cancel()
	})
	return r
}

// narrow is a listener whose connections let the kernel keep little of what a client does not read.
type narrow struct{ net.Listener }

func (l narrow) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return nc, nc.(*net.TCPConn).SetWriteBuffer(16 << 10)
}

// client is grpc-go's.
func (r *rig) client(options ...grpc.DialOption) *grpc.ClientConn {
	r.t.Helper()
	options = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(32<<20), grpc.MaxCallSendMsgSize(32<<20)),
	}, options...)
	conn, err := grpc.NewClient(r.addr, options...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

// echo demands that a client is served.
func (r *rig) echo(conn *grpc.ClientConn, text string) {
	r.t.Helper()
	out := &bytesValue{}
	if err := conn.Invoke(r.ctx, unaryMethod, wrapperspb.Bytes([]byte(text)), out); err != nil || string(out.Value) != text {
		r.t.Fatalf("the echo of %q is %q, %v", text, out.Value, err)
	}
}

// open begins a call of the streaming method.
func (r *rig) open(ctx context.Context, conn *grpc.ClientConn, options ...grpc.CallOption) grpc.ClientStream {
	r.t.Helper()
	st, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, streamMethod, options...)
	if err != nil {
		r.t.Fatal(err)
	}
	return st
}

// messages is either side of a call.
type messages interface {
	SendMsg(any) error
	RecvMsg(any) error
}

func (r *rig) send(st messages, text string) {
	r.t.Helper()
	if err := st.SendMsg(wrapperspb.Bytes([]byte(text))); err != nil {
		r.t.Errorf("sending %q: %v", text, err)
	}
}

func (r *rig) wantMessage(st messages, text string) {
	r.t.Helper()
	m := &bytesValue{}
	if err := st.RecvMsg(m); err != nil || string(m.Value) != text {
		r.t.Fatalf("got message %q, %v; want %q", m.Value, err, text)
	}
}

func wantCode(t testing.TB, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Fatalf("got %v (%v), want %v", got, err, want)
	}
}

// wantClosed waits for a channel to be closed.
func (r *rig) wantClosed(c <-chan struct{}, what string) {
	r.t.Helper()
	select {
	case <-c:
	case <-r.ctx.Done():
		r.t.Fatalf("it did not happen: %s", what)
	}
}

// receiver is a direct method in functions.
type receiver struct {
	message func([]byte)
	end     func()
	gone    func()
}

func (r *receiver) Message(b []byte) {
	if r.message != nil {
		r.message(b)
	}
}

func (r *receiver) End() {
	if r.end != nil {
		r.end()
	}
}

func (r *receiver) Gone() {
	if r.gone != nil {
		r.gone()
	}
}

// pending holds answers until they are driven, as a committer does.
type pending struct {
	mu      sync.Mutex
	answers []func()
}

func (p *pending) add(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers = append(p.answers, f)
}

func (p *pending) drive() {
	p.mu.Lock()
	answers := p.answers
	p.answers = nil
	p.mu.Unlock()
	for _, answer := range answers {
		answer()
	}
}
