package broker

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/domain"
)

// amqpLink is a connection that is made when it is asked for, and anew when it is asked for after it was lost.
type amqpLink struct {
	url  string
	tls  *tls.Config
	hide scrubber

	gate     chan struct{} // holds one token: who has it may dial
	mu       sync.Mutex
	conn     *amqp.Connection
	wire     net.Conn // below conn
	ended    bool
	failures int // in a row; with the gate's token
}

func newLink(at settings.Secret, ca []byte) (*amqpLink, error) {
	url := at.Reveal()
	trusted, err := authorities(ca)
	if err := cmp.Or(err, checkURL("url", url, "amqp", "amqps")); err != nil {
		return nil, err
	}
	if _, err := amqp.ParseURI(url); err != nil {
		return nil, domain.Invalid("url", "must be a URL of the form amqp://user:password@host:port/vhost")
	}
	return &amqpLink{url: url, tls: trusted, hide: hiding(url), gate: make(chan struct{}, 1)}, nil
}

func (l *amqpLink) current() *amqp.Connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil && !l.conn.IsClosed() {
		return l.conn
	}
	return nil
}

// connection waits its turn. After a failure the next one to dial waits first, longer each time.
func (l *amqpLink) connection(ctx context.Context) (*amqp.Connection, error) {
	if conn := l.current(); conn != nil {
		return conn, nil
	}
	select {
	case l.gate <- struct{}{}:
		defer func() { <-l.gate }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if conn := l.current(); conn != nil {
		return conn, nil
	}
	if l.failures > 0 && !pause(ctx, min(backoff(l.failures), time.Second)) {
		return nil, ctx.Err()
	}
	conn, err := l.dial(ctx)
	l.failures++
	if err == nil {
		l.failures = 0
	}
	return conn, err
}

func (l *amqpLink) dial(ctx context.Context) (*amqp.Connection, error) {
	var wire net.Conn
	conn, err := amqp.DialConfig(l.url, amqp.Config{
		TLSClientConfig: l.tls,
		Properties:      amqp.Table{"connection_name": "tenure", "product": "tenure"},
		Dial: func(network, address string) (_ net.Conn, err error) {
			if wire, err = new(net.Dialer).DialContext(ctx, network, address); err != nil {
				return nil, err
			}
			if deadline, set := ctx.Deadline(); set { // of the handshake: the library takes it away afterwards
				err = wire.SetDeadline(deadline)
			}
			return wire, err
		},
	})
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		_ = wire.Close()
		return nil, &Failure{code: CodeClosed, text: "the publisher is closed"}
	}
	l.conn, l.wire = conn, wire
	return conn, nil
}

// end says goodbye, for a second at most, and cuts the connection.
func (l *amqpLink) end() {
	l.mu.Lock()
	l.ended = true
	conn, wire := l.conn, l.wire
	l.mu.Unlock()
	if conn == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		_ = conn.Close()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
	}
	_ = wire.Close()
	<-done
}
