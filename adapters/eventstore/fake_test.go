package eventstore

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/tenure-dev/tenure/domain"
)

// fake is a node that misbehaves as a test tells it to. What is not told answers an empty log.
type fake struct {
	api.UnimplementedStreamsServer
	serverfeatures.UnimplementedServerFeaturesServer
	append  func(n int, r []*api.AppendReq) (*api.AppendResp, error) // the whole request has been read
	early   error                                                    // answered before the request is read
	read    func(n int, r *api.ReadReq, s api.Streams_ReadServer) error
	hello   func() error
	trailer metadata.MD // of every append
	groups  persistent.PersistentSubscriptionsServer
	tls     *tls.Config

	mu             sync.Mutex
	appends, reads int
	open, most     int // reads under way
	accepted       int // connections
	live           map[net.Conn]bool
	server         *grpc.Server
	address        string
}

func (f *fake) GetSupportedMethods(context.Context, *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	if f.hello != nil {
		if err := f.hello(); err != nil {
			return nil, err
		}
	}
	return &serverfeatures.SupportedMethods{EventStoreServerVersion: "24.10.4"}, nil
}

func (f *fake) Append(s api.Streams_AppendServer) error {
	if f.early != nil {
		return f.early
	}
	var all []*api.AppendReq
	for {
		r, err := s.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	f.mu.Lock()
	f.appends++
	n := f.appends
	f.mu.Unlock()
	if f.append == nil {
		return s.SendAndClose(success(0, 100))
	}
	s.SetTrailer(f.trailer)
	resp, err := f.append(n, all)
	if err != nil {
		return err
	}
	return s.SendAndClose(resp)
}

func success(revision, commit uint64) *api.AppendResp {
	return &api.AppendResp{Result: &api.AppendResp_Success_{Success: &api.AppendResp_Success{
		CurrentRevisionOption: &api.AppendResp_Success_CurrentRevision{CurrentRevision: revision},
		PositionOption:        &api.AppendResp_Success_Position{Position: &api.AppendResp_Position{CommitPosition: commit, PreparePosition: commit}}}}}
}

func (f *fake) Read(r *api.ReadReq, s api.Streams_ReadServer) error {
	f.mu.Lock()
	f.reads++
	n := f.reads
	f.open++
	f.most = max(f.most, f.open)
	f.mu.Unlock()
	defer func() { f.mu.Lock(); f.open--; f.mu.Unlock() }()
	if f.read == nil {
		return nil
	}
	return f.read(n, r, s)
}

func (f *fake) counts() (open, most, accepted, live int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open, f.most, f.accepted, len(f.live)
}

// counted counts the connections that a listener accepts, and those that are open.
type counted struct {
	net.Listener
	f *fake
}

type countedConn struct {
	net.Conn
	f    *fake
	once sync.Once
}

func (l counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	l.f.accepted++
	l.f.live[c] = true
	return &countedConn{Conn: c, f: l.f}, nil
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.f.mu.Lock(); delete(c.f.live, c.Conn); c.f.mu.Unlock() })
	return c.Conn.Close()
}

// serve listens, on the address of before if there was one.
func (f *fake) serve(t testing.TB) {
	t.Helper()
	if f.address == "" {
		f.address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	f.address, f.live = l.Addr().String(), map[net.Conn]bool{}
	secure := insecure.NewCredentials()
	if f.tls != nil {
		secure = credentials.NewTLS(f.tls)
	}
	f.server = grpc.NewServer(grpc.Creds(secure), grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.MaxConcurrentStreams(100))
	api.RegisterStreamsServer(f.server, f)
	serverfeatures.RegisterServerFeaturesServer(f.server, f)
	if f.groups != nil {
		persistent.RegisterPersistentSubscriptionsServer(f.server, f.groups)
	}
	go func(s *grpc.Server) { _ = s.Serve(counted{l, f}) }(f.server)
	t.Cleanup(func() { f.server.Stop() })
}

// opened is a Log on the fake.
func opened(t testing.TB, f *fake, timeout time.Duration) *Log {
	t.Helper()
	f.serve(t)
	l, err := Open(t.Context(), Config{URL: "esdb://" + f.address + "?tls=false", Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := l.Close(ctx); err != nil {
			t.Error("close:", err)
		}
	})
	return l
}

func event(stream string, revision, commit uint64) *api.ReadResp {
	return &api.ReadResp{Content: &api.ReadResp_Event{Event: &api.ReadResp_ReadEvent{
		Event: &api.ReadResp_ReadEvent_RecordedEvent{
			Id:               &shared.UUID{Value: &shared.UUID_String_{String_: domain.DeriveUUID(strconv.FormatUint(commit, 10)).String()}},
			StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)}, StreamRevision: revision,
			CommitPosition: commit, PreparePosition: commit, Data: []byte(`{}`), CustomMetadata: domain.Meta{Rev: 1}.Encode(),
			Metadata: map[string]string{"type": "x.done", "content-type": "application/json", "created": "17000000001234567"},
		}, Position: &api.ReadResp_ReadEvent_CommitPosition{CommitPosition: commit}}}}
}

func one(id string) []domain.Proposed {
	return []domain.Proposed{{ID: domain.DeriveUUID(id).String(), Type: "x.done", Data: []byte(`{}`), Meta: domain.Meta{Rev: 1}.Encode()}}
}

// eventually waits until a condition holds; what it waits for happens in the client's own goroutines.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}
