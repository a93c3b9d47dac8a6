package eventstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tenure-dev/tenure/domain"
)

const (
	// slots is how many calls and subscriptions one connection carries: EventStoreDB's own limit is 100, beyond which calls
	// wait in silence.
	slots = 90
	// grace is how long a call may outlive its deadline before its client is taken for dead.
	grace = 2 * time.Second

	firstPause, lastPause = 50 * time.Millisecond, 2 * time.Second
)

// link keeps one client alive. The first sign that it is not ends it, and calls wait for another: the client's own way to
// reconnect leaks connections and ends for ever at the first failure, so it is never taken (see intercept). What is left of
// it is a node that says it is not the leader: there the client dials the leader by itself.
type link struct {
	name     string
	settings esdb.Configuration
	timeout  time.Duration
	logger   *slog.Logger
	pauses   time.Duration // the first pause before another try
	counters counters
	base     context.Context // ends when the link is stopped
	end      context.CancelFunc

	mu         sync.Mutex
	now        *session      // nil while there is no connection
	up         chan struct{} // closed when now is set
	connecting bool
	last       error          // why there is no connection
	refused    *domain.Error  // the node takes no calls from us: ends a link that has never been up
	owned      sync.WaitGroup // connecting, and retiring sessions
}

// session is one client's life.
type session struct {
	client *esdb.Client
	slots  chan struct{}
	gone   chan struct{} // closed when the client is not to be used any more
	once   sync.Once
}

func newLink(name string, settings esdb.Configuration, timeout time.Duration, logger *slog.Logger) *link {
	l := &link{name: name, settings: settings, timeout: timeout, logger: logger, pauses: firstPause, up: make(chan struct{})}
	l.base, l.end = context.WithCancel(context.Background())
	return l
}

// acquire gives a session with one of its slots taken, waiting for both.
func (l *link) acquire(ctx context.Context) (*session, error) {
	for {
		s, up, err := l.session()
		if err != nil {
			return nil, err
		}
		if s == nil {
			select {
			case <-up:
			case <-ctx.Done():
				return nil, l.away(ctx)
			case <-l.base.Done():
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
			select {
			case <-s.gone:
				s.release()
			default:
				return s, nil
			}
		case <-s.gone:
		case <-ctx.Done():
			return nil, domain.Unavailable("too many calls to the event store are under way", ctx.Err())
		}
	}
}

// session gives the present one, or what to wait for while another is made.
func (l *link) session() (*session, <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused != nil {
		return nil, nil, l.refused
	}
	if l.base.Err() != nil {
		return nil, nil, domain.Unavailable("the connection to the event store is closed", nil)
	}
	if l.now == nil && !l.connecting {
		l.connecting = true
		l.owned.Go(l.connect)
	}
	return l.now, l.up, nil
}

func (l *link) away(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return domain.Unavailable("the event store cannot be reached", errors.Join(ctx.Err(), l.last))
}

// connect makes clients until one finds a node.
func (l *link) connect() {
	for n := 0; ; n++ {
		s, err := l.dial()
		l.mu.Lock()
		l.last = err
		if err == nil && l.base.Err() == nil {
			l.now, l.connecting = s, false
			close(l.up)
			l.counters.connected.Add(1)
			l.mu.Unlock()
			return
		}
		if l.counters.connected.Load() == 0 {
			if l.refused = login(err); l.refused != nil {
				l.end()
			}
		}
		l.mu.Unlock()
		if err == nil {
			closeClient(s.client)
		}
		if l.base.Err() != nil {
			return
		}
		l.logger.Warn("the event store cannot be reached", "link", l.name, "try", n+1, "error", err)
		if pause(l.base, l.pauses, n) != nil {
			return
		}
	}
}

// dial makes one client and has it connect.
func (l *link) dial() (*session, error) {
	settings := l.settings
	client, err := esdb.NewClient(&settings)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(l.base, l.timeout)
	defer cancel()
	answers, keep := make(chan error, 1), make(chan bool, 1)
	l.owned.Go(func() { // it may outlive ctx, until the client's own attempt ends; only then can the client be closed
		_, err := guarded(ctx, client, func(_ context.Context, c *esdb.Client) (*esdb.ServerVersion, error) { return c.GetServerVersion() })
		answers <- err
		if !<-keep {
			closeClient(client)
		}
	})
	select {
	case err = <-answers:
	case <-ctx.Done():
		err = fmt.Errorf("no answer: %w", ctx.Err())
	}
	keep <- err == nil
	if err != nil {
		return nil, err
	}
	return &session{client: client, slots: make(chan struct{}, slots), gone: make(chan struct{})}, nil
}

// retire ends a session: no call begins on it any more, and its client is closed when those under way have ended or are
// overdue. Closing it earlier would make them panic.
func (l *link) retire(s *session, why error) {
	s.once.Do(func() {
		l.mu.Lock()
		if l.now == s {
			l.now, l.up, l.last = nil, make(chan struct{}), why
		}
		close(s.gone)
		l.mu.Unlock()
		l.counters.retired.Add(1)
		l.logger.Warn("the connection to the event store is given up", "link", l.name, "error", why)
		l.owned.Go(func() {
			overdue := time.NewTimer(l.timeout + grace)
			defer overdue.Stop()
			for ended := range slots {
				select {
				case s.slots <- struct{}{}:
				case <-overdue.C:
					l.counters.abandoned.Add(uint64(slots - ended))
					closeClient(s.client)
					return
				}
			}
			closeClient(s.client)
		})
	})
}

// stop ends the link: calls and subscriptions fail.
func (l *link) stop() {
	l.mu.Lock()
	l.end()
	s := l.now
	l.mu.Unlock()
	if s != nil {
		l.retire(s, errors.New("closed"))
	}
}

func (l *link) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { l.owned.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) release() { <-s.slots }

type answer[T any] struct {
	value T
	err   error
}

// do makes one call under the link's timeout, in a goroutine of its own because the client may hang in spite of ctx.
func do[T any](ctx context.Context, l *link, f func(context.Context, *esdb.Client) (T, error)) (T, error) {
	var none T
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	s, err := l.acquire(ctx)
	if err != nil {
		return none, err
	}
	stopped := context.AfterFunc(l.base, cancel)
	defer stopped()
	answers := make(chan answer[T], 1)
	go func() {
		defer s.release()
		hung := time.AfterFunc(l.timeout+grace, func() { l.retire(s, errors.New("a call hangs")) })
		defer hung.Stop()
		v, err := guarded(ctx, s.client, f)
		l.judge(s, err)
		answers <- answer[T]{v, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
	}
	select {
	case a := <-answers:
		return a.value, a.err
	default:
		l.late(ctx)
		return none, domain.Unavailable("the event store did not answer in time", ctx.Err())
	}
}

// late counts a call whose time is up, unless its caller has given it up.
func (l *link) late(ctx context.Context) {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		l.counters.timedOut.Add(1)
	}
}

// judge retires a session whose client has met an UNAVAILABLE, is closed, or panicked.
func (l *link) judge(s *session, err error) {
	var e *esdb.Error
	var o *outage
	var p *panicked
	if errors.As(err, &o) || errors.As(err, &p) ||
		errors.As(err, &e) && (e.Code() == esdb.ErrorUnavailable || e.Code() == esdb.ErrorCodeConnectionClosed) {
		l.retire(s, err)
	}
}

// outage is an UNAVAILABLE that was kept from the client's own state machine.
type outage struct{ error }

func (o *outage) Unwrap() error { return o.error }

// intercept keeps the client from reconnecting by itself. Right before it would, in the goroutine of the call, it logs the
// error with the format below; a panic there, which guarded takes for the call's answer, is the one way to step in.
func intercept(format string, args []any) {
	if format != "unexpected exception: %v" || len(args) != 1 {
		return
	}
	if err, ok := args[0].(error); ok && status.Code(err) == codes.Unavailable {
		panic(&outage{err})
	}
}

// panicked is the client's panic as an error.
type panicked struct{ value any }

func (p *panicked) Error() string { return fmt.Sprint("the event store's client panicked: ", p.value) }

// guarded makes a call and takes panics for answers.
func guarded[T any](ctx context.Context, c *esdb.Client, f func(context.Context, *esdb.Client) (T, error)) (v T, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *outage:
			err = p
		default:
			err = &panicked{p}
		}
	}()
	return f(ctx, c)
}

func closeClient(c *esdb.Client) {
	_, _ = guarded(context.Background(), c, func(context.Context, *esdb.Client) (struct{}, error) { return struct{}{}, c.Close() })
}

// pause waits before try n, from 0: first, doubled up to 2 s, with jitter.
func pause(ctx context.Context, first time.Duration, n int) error {
	d := min(first<<min(n, 10), lastPause)
	t := time.NewTimer(d/2 + rand.N(d/2))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
