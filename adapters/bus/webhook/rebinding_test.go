package webhook

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
)

// receiverAt starts a receiver on an address of this machine.
func receiverAt(t testing.TB, address string, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	receiver := httptest.NewUnstartedServer(handler)
	_ = receiver.Listener.Close()
	receiver.Listener = listener
	receiver.Start()
	t.Cleanup(receiver.Close)
	return receiver
}

func addressOf(receiver *httptest.Server) netip.AddrPort {
	return netip.MustParseAddrPort(receiver.Listener.Addr().String())
}

func TestANameThatTurnsPrivateBetweenTwoDeliveriesIsNotDialled(t *testing.T) {
	var taken atomic.Int32
	receiver := receiverAt(t, "127.0.0.2:0", func(w http.ResponseWriter, _ *http.Request) {
		taken.Add(1)
		w.Header().Set("Connection", "close") // so that the next delivery asks for the name again
	})
	own := addressOf(receiver)
	var now atomic.Value
	now.Store(own.Addr())
	resolver := resolving(t, func(q dnsmessage.Question) []dnsmessage.Resource { return leading(q, nil, now.Load().(netip.Addr)) })
	var others atomic.Int32
	c := Config{URL: "http://hooks.example.com:" + portOf(own), Secrets: []settings.Secret{first}, Allow: []netip.Prefix{netip.PrefixFrom(own.Addr(), 32)}}
	p, err := newPublisher(c, time.Now, "1", resolver, func(to netip.AddrPort) error {
		if to != own {
			others.Add(1)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	if err := p.Publish("", message.NewMessage("evt-1", nil)); err != nil || taken.Load() != 1 {
		t.Fatalf("before: %v, taken %d times", err, taken.Load())
	}
	for _, private := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"} {
		now.Store(netip.MustParseAddr(private))
		var r *Refused
		if err := p.Publish("", message.NewMessage("evt-2", nil)); !errors.As(err, &r) || r.Code() != CodeForbidden || others.Load() != 0 {
			t.Errorf("%s: %v, %d dials", private, err, others.Load())
		}
	}
	now.Store(own.Addr())
	if err := p.Publish("", message.NewMessage("evt-3", nil)); err != nil || taken.Load() != 2 {
		t.Errorf("after: %v, taken %d times", err, taken.Load())
	}
}

// One dial asks for addresses of version 4 and of version 6, and each delivery dials: every second answer is private.
func TestANameWhoseAnswersAlternateIsDialledWherePublicOnly(t *testing.T) {
	var asked, public, private atomic.Int32
	resolver := resolving(t, func(q dnsmessage.Question) []dnsmessage.Resource {
		if asked.Add(1)%2 == 0 {
			return leading(q, nil, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"))
		}
		return leading(q, nil, netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("2606:4700::1"))
	})
	p, err := newPublisher(Config{URL: "https://hooks.example.com/", Secrets: []settings.Secret{first}}, time.Now, "1", resolver, func(to netip.AddrPort) error {
		if (guard{}).permits(to.Addr()) == nil {
			public.Add(1)
		} else {
			private.Add(1)
		}
		return errors.New("no connection in tests")
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	for range 16 {
		if err := p.Publish("", message.NewMessage("evt-1", nil)); err == nil {
			t.Error("delivered")
		}
	}
	if private.Load() != 0 || public.Load() == 0 || asked.Load() < 32 {
		t.Errorf("%d private and %d public dials after %d questions", private.Load(), public.Load(), asked.Load())
	}
}

func TestNoChainOfAliasesToAPrivateAddressIsDialled(t *testing.T) {
	for name, c := range map[string]struct {
		aliases []string
		address string
		code    string
	}{
		"a private name":                 {[]string{"db.internal."}, "10.0.0.1", CodeForbidden},
		"a chain":                        {[]string{"a.example.net.", "b.example.org.", "c.internal."}, "192.168.0.1", CodeForbidden},
		"this machine's name":            {[]string{"localhost."}, "127.0.0.1", CodeForbidden},
		"this machine's name, version 6": {[]string{"ip6-localhost."}, "::1", CodeForbidden},
		"a cloud's metadata":             {[]string{"metadata.google.internal."}, "169.254.169.254", CodeForbidden},
		"an address as a name":           {[]string{"127.0.0.1."}, "127.0.0.1", CodeForbidden},
		"an alias without an address":    {[]string{"localhost."}, "", CodeDNS},
		"a circle":                       {[]string{"a.example.com.", "hooks.example.com."}, "", CodeDNS},
	} {
		t.Run(name, func(t *testing.T) {
			var dials atomic.Int32
			resolver := resolving(t, func(q dnsmessage.Question) []dnsmessage.Resource {
				if c.address == "" {
					return leading(q, c.aliases)
				}
				return leading(q, c.aliases, netip.MustParseAddr(c.address))
			})
			p, err := newPublisher(Config{URL: "https://hooks.example.com./", Secrets: []settings.Secret{first}}, time.Now, "1", resolver,
				func(netip.AddrPort) error { dials.Add(1); return errors.New("dialled") })
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = p.Close() }()
			var r *Refused
			if err := p.Publish("", message.NewMessage("evt-1", nil)); !errors.As(err, &r) || r.Code() != c.code || dials.Load() != 0 {
				t.Errorf("%v, %d dials", err, dials.Load())
			}
		})
	}
}

func portOf(a netip.AddrPort) string { return strconv.Itoa(int(a.Port())) }
