package webhook

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
)

// resolving answers a resolver whose every question goes to a server of DNS on this machine, which answers with records.
func resolving(t testing.TB, records func(dnsmessage.Question) []dnsmessage.Resource) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		packet := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(packet)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(packet[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.RecursionAvailable, m.Additionals, m.Answers = true, true, nil, records(m.Questions[0])
			if packed, err := m.Pack(); err == nil {
				_, _ = server.WriteTo(packed, from)
			}
		}
	}()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// leading is what a question is answered with where a name has addresses, behind a chain of aliases or none.
func leading(q dnsmessage.Question, aliases []string, addresses ...netip.Addr) []dnsmessage.Resource {
	var records []dnsmessage.Resource
	owner := q.Name
	for _, alias := range aliases {
		to := dnsmessage.MustNewName(alias)
		records = append(records, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: owner, Class: q.Class}, Body: &dnsmessage.CNAMEResource{CNAME: to}})
		owner = to
	}
	for _, a := range addresses {
		h := dnsmessage.ResourceHeader{Name: owner, Class: q.Class}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			records = append(records, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			records = append(records, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return records
}

func TestNoNameOfAPrivateAddressIsDialled(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1",
		"224.0.0.1", "255.255.255.255", "::1", "::", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "fd00:ec2::254", "fe80::1"} {
		var dials, asked atomic.Int32
		resolver := resolving(t, func(q dnsmessage.Question) []dnsmessage.Resource {
			asked.Add(1)
			return leading(q, nil, netip.MustParseAddr(address))
		})
		p, err := newPublisher(Config{URL: "https://hooks.example.com/", Secrets: []settings.Secret{first}}, time.Now, "1", resolver,
			func(netip.AddrPort) error { dials.Add(1); return errors.New("dialled") })
		if err != nil {
			t.Fatal(err)
		}
		err = p.Publish("", message.NewMessage("evt-1", nil))
		_ = p.Close()
		var r *Refused
		if !errors.As(err, &r) || r.Code() != CodeForbidden || dials.Load() != 0 || asked.Load() == 0 {
			t.Errorf("%s: %v, %d dials, %d questions", address, err, dials.Load(), asked.Load())
		}
	}
}

func TestAPrivateAddressBesideAPublicOneIsNotDialled(t *testing.T) {
	public := netip.MustParseAddr("8.8.8.8")
	var private atomic.Int32
	var dialled atomic.Int32
	resolver := resolving(t, func(q dnsmessage.Question) []dnsmessage.Resource {
		return leading(q, nil, public, netip.MustParseAddr("10.0.0.1"))
	})
	p, err := newPublisher(Config{URL: "https://hooks.example.com/", Secrets: []settings.Secret{first}}, time.Now, "1", resolver,
		func(to netip.AddrPort) error {
			dialled.Add(1)
			if to.Addr() != public {
				private.Add(1)
			}
			return errors.New("no connection in tests")
		})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	if err := p.Publish("", message.NewMessage("evt-1", nil)); err == nil || private.Load() != 0 || dialled.Load() != 1 {
		t.Errorf("%v, %d private of %d dials", err, private.Load(), dialled.Load())
	}
}
