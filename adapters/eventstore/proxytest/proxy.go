// Package proxytest holds a TCP proxy that breaks connections, for the tests of clients.
package proxytest

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Proxy passes connections on to one address, and breaks them as it is told. Its methods may be called from any goroutine.
type Proxy struct {
	Cutting atomic.Bool  // each connection is cut after a random number of bytes, from 500 to 30,500
	Muted   atomic.Bool  // what comes back from the address is swallowed
	Cuts    atomic.Int64 // connections cut so far because of Cutting
	Lost    atomic.Int64 // bytes swallowed so far

	listener net.Listener
	address  atomic.Pointer[string]
	passing  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	ended bool
}

// New starts a proxy to an address, for as long as the test runs. The seed draws where connections are cut.
func New(t testing.TB, seed uint64, to string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: listener, conns: map[net.Conn]struct{}{}}
	p.To(to)
	random := rand.New(rand.NewPCG(seed, 11)) //nolint:gosec // to be repeated
	p.passing.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			p.pass(near, 500+random.Int64N(30000))
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
		p.Cut()
		p.passing.Wait()
	})
	return p
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// To changes the address, for the connections that are made from now on.
func (p *Proxy) To(address string) { p.address.Store(&address) }

// Cut breaks every connection that there is.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// pass connects a connection with the address, and closes it if nobody is there.
func (p *Proxy) pass(near net.Conn, bytes int64) {
	far, err := net.Dial("tcp", *p.address.Load())
	if err != nil {
		_ = near.Close()
		return
	}
	left := &atomic.Int64{}
	left.Store(bytes)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		_, _ = near.Close(), far.Close()
		return
	}
	p.conns[near], p.conns[far] = struct{}{}, struct{}{}
	p.passing.Go(func() { p.copy(near, far, left, false) })
	p.passing.Go(func() { p.copy(far, near, left, true) })
}

func (p *Proxy) copy(from, to net.Conn, left *atomic.Int64, back bool) {
	defer func() {
		_, _ = from.Close(), to.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, from)
	}()
	buffer := make([]byte, 512)
	for {
		n, err := from.Read(buffer)
		if before := left.Load(); p.Cutting.Load() && before > 0 && left.Add(-int64(n)) <= 0 {
			p.Cuts.Add(1)
			return
		}
		if back && p.Muted.Load() {
			p.Lost.Add(int64(n))
			n = 0
		}
		if _, werr := to.Write(buffer[:n]); err != nil || werr != nil {
			return
		}
	}
}
