// Package rpc is a small gRPC server over HTTP/2, made for a node that answers few connections with very many small calls.
// Only package eventnode uses it.
//
// Generated service descriptions are registered as with grpc-go's own server, and their handlers run in a goroutine a call. A
// method whose calls are worth it is registered as Direct instead: its messages are handed over on the goroutine that
// reads the connection, and it is answered from any goroutine, so a call costs no goroutine, no context and no timer. All
// that is ready to be sent on a connection goes out in one write.
//
// Sources: RFC 9113 (HTTP/2), RFC 7541 (HPACK), and the gRPC project's "gRPC over HTTP2". Left out is what no client of an
// event store asks for: push, priorities, compressed messages.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
)

// acceptPause is how long nothing is accepted after that has failed for want of something, such as files.
const acceptPause = 20 * time.Millisecond

// Options of a server. The zero value is one without limits on who may call.
type Options struct {
	// MaxMessage is the largest message a client may send, in bytes; 4 MiB when zero.
	MaxMessage int
	// MaxCalls is how many calls one connection may have open; 100 when zero.
	MaxCalls int
	// TLS makes the handshake of a connection; nil serves in the clear.
	TLS credentials.TransportCredentials
	// Admit is asked before a call is served, with the call's metadata in the context. What it returns becomes the
	// handler's context, or the call's error.
	Admit func(ctx context.Context, method string) (context.Context, error)
	// Idle is called, on the goroutine that reads a connection, when direct calls have been taken from it and there is
	// nothing more to be read at once.
	Idle func()
	// Observe is told of every call of a known method that has ended. It must not wait for anything.
	Observe func(method string, code codes.Code)
	// Logger gets what went wrong with connections. It defaults to none.
	Logger *slog.Logger

	outLimit int // bytes that may wait to be written before the connection is given up; defaultOutLimit when zero
}

// Server answers gRPC calls. Register everything before Serve.
type Server struct {
	options Options
	methods map[string]*method
	open    atomic.Int64 // connections

	mu       sync.Mutex
	conns    map[*conn]struct{}
	listener net.Listener
	stopping bool
	owned    sync.WaitGroup // connections and handlers
}

// method is how calls of one method are served: exactly one of the three is set.
type method struct {
	name   string
	impl   any
	unary  *grpc.MethodDesc
	stream *grpc.StreamDesc
	direct func(*Call) Receiver
}

// New makes a server that has nothing to serve yet.
func New(options Options) *Server {
	if options.MaxMessage == 0 {
		options.MaxMessage = 4 << 20
	}
	if options.MaxCalls == 0 {
		options.MaxCalls = 100
	}
	if options.outLimit == 0 {
		options.outLimit = defaultOutLimit
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{options: options, methods: map[string]*method{}, conns: map[*conn]struct{}{}}
}

// RegisterService implements grpc.ServiceRegistrar.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	add := func(name string, m *method) {
		m.name, m.impl = "/"+desc.ServiceName+"/"+name, impl
		s.methods[m.name] = m
	}
	for i := range desc.Methods {
		add(desc.Methods[i].MethodName, &method{unary: &desc.Methods[i]})
	}
	for i := range desc.Streams {
		add(desc.Streams[i].StreamName, &method{stream: &desc.Streams[i]})
	}
}

// RegisterDirect has a method served by receivers, in place of what a service's description says of it.
func (s *Server) RegisterDirect(name string, begin func(*Call) Receiver) {
	s.methods[name] = &method{name: name, direct: begin}
}

// Methods are the full names of all methods, in no order.
func (s *Server) Methods() []string {
	names := make([]string, 0, len(s.methods))
	for name := range s.methods {
		names = append(names, name)
	}
	return names
}

// Connections is how many connections are open.
func (s *Server) Connections() int { return int(s.open.Load()) }

// Serve takes connections until the server is stopped, then returns nil, or until the listener fails. Only after all
// connections are gone does it return. The server closes the listener.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listener = l
	stopping := s.stopping
	if !stopping {
		s.owned.Add(1) // under the lock, so that nobody has begun to wait
	}
	s.mu.Unlock()
	if stopping {
		return l.Close()
	}
	defer func() {
		s.owned.Done()
		s.owned.Wait()
	}()
	for {
		nc, err := l.Accept()
		if err != nil {
			var passing interface{ Temporary() bool }
			if errors.As(err, &passing) && passing.Temporary() && !s.isStopping() {
				s.options.Logger.Warn("a connection was not accepted", "error", err)
				time.Sleep(acceptPause)
				continue
			}
			if s.isStopping() {
				return nil
			}
			return fmt.Errorf("rpc: %w", err)
		}
		s.owned.Go(func() { s.serve(nc) })
	}
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

func (s *Server) serve(nc net.Conn) {
	s.open.Add(1)
	defer s.open.Add(-1)
	c := newConn(s, nc)
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		_ = nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	err := c.run()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	if err != nil {
		s.options.Logger.Debug("a connection has ended", "peer", nc.RemoteAddr().String(), "error", err)
	}
}

// GracefulStop takes no more connections and calls, waits until all calls have ended, and then for everything to be gone.
func (s *Server) GracefulStop() { s.stop((*conn).goAway) }

// Stop ends all connections at once and waits for their handlers.
func (s *Server) Stop() { s.stop((*conn).cut) }

func (s *Server) stop(end func(*conn)) {
	s.mu.Lock()
	s.stopping = true
	if s.listener != nil {
		_ = s.listener.Close()
	}
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		end(c)
	}
	s.owned.Wait()
}
