package webhook

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
)

// nobody is a URL whose port is taken, but does not listen: that of a connection to a receiver.
func nobody(t *testing.T, receiver *httptest.Server) string {
	t.Helper()
	conn, err := net.Dial("tcp", receiver.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return "http://" + conn.LocalAddr().String() + "/"
}

// holding starts a receiver that answers nobody until the test ends, and tells of every request and of its end.
func holding(t *testing.T) (receiver *httptest.Server, entered, left <-chan struct{}) {
	t.Helper()
	in, out, release := make(chan struct{}, 8), make(chan struct{}, 8), make(chan struct{})
	receiver = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // net/http sees the connection's end only after the body's
		in <- struct{}{}
		select {
		case <-r.Context().Done():
			out <- struct{}{}
		case <-release:
		}
	}))
	t.Cleanup(func() { close(release); receiver.Close() })
	return receiver, in, out
}

// silent is an address that takes connections and says nothing.
func silent(t *testing.T) (address string, accepted <-chan net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	all, done := make(chan net.Conn, 8), make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			all <- conn
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return listener.Addr().String(), all
}

// unanswered is a resolver whose questions nobody answers. A lookup of package net outlasts its context, so all end with the test.
func unanswered(t *testing.T) (resolver *net.Resolver, asked <-chan struct{}) {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ask, over := make(chan struct{}, 64), make(chan struct{})
	t.Cleanup(func() { close(over); _ = server.Close() })
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		conn, err := net.Dial("udp", server.LocalAddr().String())
		if err != nil {
			return nil, err
		}
		go func() { <-over; _ = conn.Close() }()
		select {
		case ask <- struct{}{}:
			return conn, nil
		case <-over:
			return nil, net.ErrClosed
		}
	}}, ask
}

func TestADeliveryEndsWhenItsTimeIsOver(t *testing.T) {
	receiver, _, _ := holding(t)
	address, _ := silent(t)
	slow := raw(t, func(w io.Writer) {
		_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nA: a")
		_, _ = w.(net.Conn).Read(make([]byte, 1)) // until the publisher closes the connection
	})
	for name, url := range map[string]string{
		"no answer":         receiver.URL,
		"half an answer":    slow,
		"no handshake":      "https://" + address + "/",
		"no word after TCP": "http://" + address + "/",
	} {
		p := publisher(t, Config{URL: url, Allow: local, Timeout: shortestTimeout}, nil)
		var r *Refused
		if err := p.Publish("", message.NewMessage("evt-1", nil)); !errors.As(err, &r) || r.Code() != CodeTimeout || r.Status() != 0 || r.Permanent() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestADeliveryEndsWhenNobodyResolvesItsName(t *testing.T) {
	resolver, _ := unanswered(t)
	p, err := newPublisher(Config{URL: "https://hooks.example.com./", Secrets: []settings.Secret{first}, Timeout: shortestTimeout}, time.Now, "1", resolver, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	var r *Refused
	if err := p.Publish("", message.NewMessage("evt-1", nil)); !errors.As(err, &r) || r.Code() != CodeTimeout {
		t.Error(err)
	}
}

func TestFailuresWithoutAnAnswerHaveCodes(t *testing.T) {
	receiver, _, _ := holding(t)
	for name, c := range map[string]struct{ url, code string }{
		"nobody listens": {nobody(t, receiver), CodeConnect},
		"closed":         {raw(t, func(io.Writer) {}), CodeNoAnswer},
		"cut off":        {raw(t, func(w io.Writer) { _, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nA: ") }), CodeNoAnswer},
		"not HTTP":       {raw(t, func(w io.Writer) { _, _ = io.WriteString(w, "220 mail.example.com\r\n\r\n") }), CodeNoAnswer},
		"not a status":   {raw(t, func(w io.Writer) { _, _ = io.WriteString(w, "HTTP/1.1 2000 OK\r\n\r\n") }), CodeNoAnswer},
	} {
		var r *Refused
		err := publisher(t, Config{URL: c.url, Allow: local, Timeout: longestTimeout}, nil).Publish("", message.NewMessage("evt-1", nil))
		if !errors.As(err, &r) || r.Code() != c.code || r.Status() != 0 || r.Permanent() || r.Gone() || r.RetryAfter() != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAMessagesContextEndsItsDelivery(t *testing.T) {
	receiver, entered, left := holding(t)
	p := publisher(t, Config{URL: receiver.URL, Allow: local, Timeout: longestTimeout}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	m := message.NewMessageWithContext(ctx, "evt-1", nil)
	published := make(chan error, 1)
	go func() { published <- p.Publish("", m) }()
	<-entered
	cancel()
	if err := <-published; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-left // the receiver sees it too
	if err := p.Publish("", m); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	select {
	case <-entered:
		t.Error("delivered though it was cancelled before")
	default:
	}
}

func TestCloseEndsDeliveries(t *testing.T) {
	receiver, entered, left := holding(t)
	p := publisher(t, Config{URL: receiver.URL, Allow: local, Timeout: longestTimeout}, nil)
	const deliveries = 4
	published := make(chan error, deliveries)
	for range deliveries {
		go func() { published <- p.Publish("", message.NewMessage("evt-1", nil), message.NewMessage("evt-2", nil)) }()
	}
	for range deliveries {
		<-entered
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	for range deliveries {
		select {
		case err := <-published:
			if !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
			<-left
		case <-entered:
			t.Error("Close lets deliveries begin")
		}
	}
	if err := p.Close(); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestCloseEndsHandshakesAndLookups(t *testing.T) {
	address, accepted := silent(t)
	never, asked := unanswered(t)
	var conn net.Conn
	for name, c := range map[string]struct {
		url          string
		begun, ended func()
	}{
		"a handshake": {"https://" + address + "/", func() { conn = <-accepted }, func() { _, _ = io.Copy(io.Discard, conn) }}, // until it is closed
		"a lookup":    {"https://hooks.example.com./", func() { <-asked }, func() {}},
	} {
		p, err := newPublisher(Config{URL: c.url, Allow: local, Secrets: []settings.Secret{first}, Timeout: longestTimeout}, time.Now, "1", never, nil)
		if err != nil {
			t.Fatal(err)
		}
		published := make(chan error, 1)
		go func() { published <- p.Publish("", message.NewMessage("evt-1", nil)) }()
		c.begun()
		_ = p.Close()
		if err := <-published; !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
		c.ended()
	}
}

// A connection that the receiver closed while it was idle is replaced: the message is delivered, once.
func TestAnIdleConnectionThatWasClosedIsReplaced(t *testing.T) {
	var taken, dials atomic.Int32
	receiver := receiverAt(t, "127.0.0.1:0", func(http.ResponseWriter, *http.Request) { taken.Add(1) })
	p := publisher(t, Config{URL: receiver.URL, Allow: local}, func(netip.AddrPort) error { dials.Add(1); return nil })
	for range 8 {
		if err := p.Publish("", message.NewMessage("evt-1", []byte("{}"))); err != nil {
			t.Fatal(err)
		}
		receiver.CloseClientConnections()
	}
	if taken.Load() != 8 || dials.Load() != 8 {
		t.Errorf("taken %d times by %d connections", taken.Load(), dials.Load())
	}
}
