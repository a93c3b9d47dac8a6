package eventnode

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	ps "github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"

	"github.com/tenure-dev/tenure/adapters/eventnode/operations"
	"github.com/tenure-dev/tenure/adapters/eventnode/rpc"
)

// Options say where a node keeps its events and where it listens.
type Options struct {
	// Dir is the directory of the database. It is created if it is not there. One process at a time may have it.
	Dir string
	// Addr is where to listen, host:port; port 0 picks a free one. Not looked at if there is a Listener.
	Addr string
	// Listener is where to listen instead. The node closes it.
	Listener net.Listener
	// AdvertiseHost is the name under which clients that discover the node by gossip reach it. It defaults to the host
	// the node listens on, or to 127.0.0.1 if that is every address.
	AdvertiseHost string
	// TLS makes the node speak TLS, and answer nobody but Users. Both are given, or neither: then everybody may do everything,
	// so only this machine should reach it.
	TLS *tls.Config
	// Users are those whom the node answers.
	Users *Users
	// Metrics gets the node's collector for as long as it is open. It defaults to none.
	Metrics prometheus.Registerer
	// Logger gets what the owner of the node should know. It defaults to none.
	Logger *slog.Logger
	// Now is the clock: events are stamped with it, and $maxAge is measured by it. Required.
	Now func() time.Time

	fs           vfs.FS           // defaults to the disk
	ringEvents   int              // events that live subscribers may lag behind; 0 is ringEvents
	ticks        <-chan time.Time // of persistent subscriptions; defaults to one a second
	batchTimeout time.Duration    // 0 is batchTimeout
	batchLinger  time.Duration    // 0 is batchLinger
}

const (
	ringEvents = 8 << 10
	ringBytes  = 16 << 20

	// maxRequest is the largest message a client may send, in bytes.
	maxRequest = 16<<20 - 10000
	// maxCalls is how many calls, subscriptions included, one connection may have open, as on a real node.
	maxCalls = 100
)

// Node is an event store that serves the EventStoreDB protocol. Its methods may be called from any goroutine.
type Node struct {
	options    Options
	log        eventLog
	database   *database
	ring       *ring
	writer     *writer
	persistent *groupKeeper
	scavenges  *scavenges
	batches    batchRooms
	receivers  sync.WaitGroup // of calls of BatchAppend
	listener   net.Listener
	server     *rpc.Server
	metrics    *metrics
	instance   uuid.UUID
	logger     *slog.Logger

	halt      sync.Once
	stop      chan struct{} // closed when open reads have to end
	closing   sync.Once
	closed    error
	committer sync.WaitGroup
	err       error // why the committer has stopped; read after writer.ended
}

// Open opens or creates the database, listens, and starts the committer. Calls are answered from Serve on.
//
// It fails, in one line: with ErrInUse if another process has the directory, with ErrDirectory if there can be none, and with
// neither if what is in it is damaged or written by a newer program, or if the disk does not take what opening writes.
func Open(options Options) (*Node, error) {
	switch {
	case options.Now == nil:
		return nil, errors.New("eventnode: Options.Now is missing")
	case options.Dir == "":
		return nil, errors.New("eventnode: Options.Dir is missing")
	case options.Addr == "" && options.Listener == nil:
		return nil, errors.New("eventnode: Options.Addr is missing")
	case (options.TLS == nil) != (options.Users == nil):
		return nil, errors.New("eventnode: Options.TLS and Options.Users go together")
	}
	n := &Node{options: options, stop: make(chan struct{}), instance: uuid.New(), logger: options.Logger}
	if n.logger == nil {
		n.logger = slog.New(slog.DiscardHandler)
	}
	if n.options.ringEvents == 0 {
		n.options.ringEvents = ringEvents
	}
	if n.options.batchTimeout == 0 {
		n.options.batchTimeout = batchTimeout
	}
	if n.options.batchLinger == 0 {
		n.options.batchLinger = batchLinger
	}
	var err error
	if n.database, err = openDatabase(options.Dir, options.fs, n.logger); err != nil {
		return nil, err
	}
	n.log = newEventLog(n.database.db)
	next, err := n.database.next()
	if err != nil {
		return nil, errors.Join(err, n.database.close())
	}
	if n.listener = options.Listener; n.listener == nil {
		if n.listener, err = net.Listen("tcp", options.Addr); err != nil {
			return nil, errors.Join(fmt.Errorf("eventnode: %w", err), n.database.close())
		}
	}
	n.ring = newRing(next-1, n.options.ringEvents, ringBytes)
	n.writer = newWriter(n.log, n.ring, next, n.now, n.database.fatal)
	n.metrics = newMetrics(n)
	n.writer.metrics = n.metrics
	n.persistent = newGroupKeeper(n)
	n.scavenges = &scavenges{node: n}
	n.server = n.newServer()
	n.metrics.methods(n.server.Methods())
	n.committer.Go(n.commit)
	n.committer.Go(n.keepMark)
	n.committer.Go(n.watchDisk)
	if next == firstPosition {
		if err := n.firstEvents(); err != nil {
			return nil, n.abandon(err)
		}
	}
	if err := n.persistent.begin(); err != nil {
		return nil, n.abandon(err)
	}
	if options.Metrics != nil {
		if err := options.Metrics.Register(n.metrics); err != nil {
			return nil, errors.Join(fmt.Errorf("eventnode: %w", err), n.Close(context.Background()))
		}
	}
	return n, nil
}

// abandon closes a node that has not come to life, and says why: the committer's reason, if it has one, is the cause.
func (n *Node) abandon(err error) error {
	closed := n.Close(context.Background())
	if cause := n.Err(); cause != nil {
		return cause
	}
	return errors.Join(err, closed)
}

func (n *Node) newServer() *rpc.Server {
	o := rpc.Options{MaxMessage: maxRequest, MaxCalls: maxCalls, Idle: n.writer.queue.call, Observe: n.metrics.called, Logger: n.logger}
	if n.options.TLS != nil {
		o.TLS, o.Admit = credentials.NewTLS(n.options.TLS), n.admit
	}
	server := rpc.New(o)
	api.RegisterStreamsServer(server, &streamsService{node: n})
	server.RegisterDirect(api.Streams_Append_FullMethodName, n.beginAppend)
	ps.RegisterPersistentSubscriptionsServer(server, &persistentService{node: n})
	operations.Register(server, &upkeepService{node: n})
	gossip.RegisterGossipServer(server, &gossipService{node: n})
	serverfeatures.RegisterServerFeaturesServer(server, &featuresService{})
	return server
}

// commit runs the committer to its end. If that is a failure, the node ends, too.
func (n *Node) commit() {
	defer close(n.writer.ended)
	if n.err = n.writer.run(); n.err == nil {
		return
	}
	n.err = fmt.Errorf("eventnode: the node has stopped, as writing to %s failed: %w", n.options.Dir, n.err)
	n.logger.Error(n.err.Error())
	n.endReads()
	n.committer.Go(n.server.GracefulStop)
}

// watchDisk ends the committer when the disk fails while nothing is appended.
func (n *Node) watchDisk() {
	select {
	case <-n.writer.ended:
	case <-n.database.broke.happened:
		n.writer.queue.finish()
	}
}

// Addr is where the node listens.
func (n *Node) Addr() net.Addr { return n.listener.Addr() }

// Serve answers calls until the node is closed, then returns nil, or until the committer fails, then returns why.
func (n *Node) Serve() error {
	err := n.server.Serve(n.listener)
	if n.stopping() { // else the listener has failed
		err = nil
	}
	select {
	case <-n.writer.ended:
		return errors.Join(n.err, err)
	default:
		return err
	}
}

// Done is closed when the committer has stopped: nothing can be appended any more. Err says why.
func (n *Node) Done() <-chan struct{} { return n.writer.ended }

// Err is why the committer has stopped, nil while it runs and after Close.
func (n *Node) Err() error {
	select {
	case <-n.writer.ended:
		return n.err
	default:
		return nil
	}
}

// Close ends the node. Open reads and subscriptions end with UNAVAILABLE, appends in flight are answered; what is still
// open when ctx is done is cut off. It returns the first call's result however often it is called.
func (n *Node) Close(ctx context.Context) error {
	n.closing.Do(func() {
		n.endReads()
		var stopping sync.WaitGroup
		stopping.Go(func() {
			cut := context.AfterFunc(ctx, n.server.Stop)
			defer cut()
			n.server.GracefulStop()
		})
		stopping.Wait()
		_ = n.listener.Close() // the server has closed it, unless it never served
		n.receivers.Wait()
		n.persistent.end()
		n.scavenges.end()
		n.writer.queue.finish()
		n.committer.Wait()
		if n.options.Metrics != nil {
			n.options.Metrics.Unregister(n.metrics)
		}
		n.metrics.close()
		n.closed = n.database.close()
		if n.err != nil {
			n.closed = nil // it is broken, and Err has said so
		}
	})
	return n.closed
}

func (n *Node) endReads() { n.halt.Do(func() { close(n.stop) }) }

func (n *Node) stopping() bool {
	select {
	case <-n.stop:
		return true
	default:
		return false
	}
}

func (n *Node) now() time.Time { return n.options.Now() }

// firstEvents writes what clients expect of every node: that it has a user.
func (n *Node) firstEvents() error {
	w := &write{kind: writeEvents}
	w.stream, w.expected = usersStream, expectNoStream
	w.events = []proposedEvent{{id: uuid.New(), typ: userType, data: []byte("admin")}}
	w.ids = []uuid.UUID{w.events[0].id}
	_, err := n.writer.submit(context.Background(), w)
	return err
}
