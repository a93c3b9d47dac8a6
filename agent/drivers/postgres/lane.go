package postgres

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// lane is a bounded set of connections to one database. It has no goroutines of its own, and a connection on which
// anything failed is never used again: so session state such as locks cannot leak from one use to the next.
type lane struct {
	config *pgx.ConnConfig
	slots  chan struct{}
	mu     sync.Mutex
	idle   []*pgx.Conn
	closed bool
}

func newLane(base *pgx.ConnConfig, database string, size int) *lane {
	c := base.Copy()
	c.Database = database
	return &lane{config: c, slots: make(chan struct{}, size)}
}

// use waits for a place in the lane and runs f on a connection.
func (l *lane) use(ctx context.Context, f func(*pgx.Conn) error) error {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	conn, err := l.take(ctx)
	if err != nil {
		return err
	}
	if err := f(conn); err != nil {
		hangUp(conn)
		return err
	}
	l.put(conn)
	return nil
}

func (l *lane) take(ctx context.Context) (*pgx.Conn, error) {
	for {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return nil, net.ErrClosed
		}
		n := len(l.idle)
		if n == 0 {
			l.mu.Unlock()
			return pgx.ConnectConfig(ctx, l.config)
		}
		conn := l.idle[n-1]
		l.idle = l.idle[:n-1]
		l.mu.Unlock()
		if conn.Ping(ctx) == nil {
			return conn, nil
		}
		hangUp(conn) // the server has been restarted, perhaps: try the next, or connect anew
	}
}

func (l *lane) put(conn *pgx.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || conn.IsClosed() || conn.PgConn().TxStatus() != 'I' {
		hangUp(conn)
		return
	}
	l.idle = append(l.idle, conn)
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, c := range l.idle {
		hangUp(c)
	}
	l.idle = nil
}

// hangUp closes a connection and waits until pgx has let go of it.
func hangUp(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.Close(ctx)
	<-c.PgConn().CleanupDone()
}

// alone runs f on a connection that is made for it, for a database that is seldom visited.
func alone(ctx context.Context, base *pgx.ConnConfig, database string, f func(*pgx.Conn) error) error {
	c := base.Copy()
	c.Database = database
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	return f(conn)
}
