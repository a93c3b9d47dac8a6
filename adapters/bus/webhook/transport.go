package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

const (
	headerBytes     = 64 << 10              // of an answer, most
	bodyBytes       = 64 << 10              // of an answer, read so that its connection can be used again
	bodyWait        = 50 * time.Millisecond // for that, most: a body that trickles costs its connection
	idleConnections = 32
	idleFor         = 90 * time.Second
)

// transport sends by https to wherever the guard permits, and by http only into allowed networks. It uses no proxy.
type transport struct{ https, http *http.Transport }

// newTransport makes a transport whose connections end with ctx.
func newTransport(ctx context.Context, open guard, resolver *net.Resolver, roots *x509.CertPool, timeout time.Duration) transport {
	closed := open
	closed.closed = true
	with := func(g guard) *http.Transport {
		return &http.Transport{
			DialContext:            dialUntil(ctx, &net.Dialer{Timeout: timeout, Resolver: resolver, ControlContext: g.control}),
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout:    timeout,
			ForceAttemptHTTP2:      true,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: timeout, PingTimeout: timeout},
			DisableCompression:     true,
			MaxResponseHeaderBytes: headerBytes,
			MaxIdleConns:           idleConnections,
			MaxIdleConnsPerHost:    idleConnections,
			IdleConnTimeout:        idleFor,
		}
	}
	return transport{https: with(open), http: with(closed)}
}

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" {
		return t.http.RoundTrip(r)
	}
	return t.https.RoundTrip(r)
}

func (t transport) close() {
	t.https.CloseIdleConnections()
	t.http.CloseIdleConnections()
}

// dialUntil ends dials and connections with a context: net/http lets a dial go on when its request is cancelled.
func dialUntil(end context.Context, dialer *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(end, cancel)()
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return tied{conn, context.AfterFunc(end, func() { _ = conn.Close() })}, nil
	}
}

// tied is a connection that closes when a context ends, unless it was closed before.
type tied struct {
	net.Conn
	untie func() bool
}

func (t tied) Close() error {
	t.untie()
	return t.Conn.Close()
}
