package webhook

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// special is a network in which no receiver of webhooks can be, and what it is.
type special struct {
	network netip.Prefix
	what    string
}

// specials are from IANA's registries of special-purpose addresses, multicast included. Of IPv6, what is not in them must still be in
// globalUnicast.
var specials = []special{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared by a carrier's customers"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("168.63.129.16/32"), "a cloud's own service"}, // Azure's, on every machine of it
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "reserved for protocols"},
	{netip.MustParsePrefix("192.0.2.0/24"), "for documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "a relay of 6to4"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "for benchmarks"},
	{netip.MustParsePrefix("198.51.100.0/24"), "for documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "for documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved or broadcast"},

	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("::/96"), "an IPv4 address in a form no longer in use"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "a translation to IPv4 of its network's own"},
	{netip.MustParsePrefix("100::/64"), "for discarding"},
	{netip.MustParsePrefix("2001::/32"), "a Teredo tunnel"},
	{netip.MustParsePrefix("2001::/23"), "reserved for protocols"},
	{netip.MustParsePrefix("2001:db8::/32"), "for documentation"},
	{netip.MustParsePrefix("2002::/16"), "a 6to4 tunnel"},
	{netip.MustParsePrefix("3fff::/20"), "for documentation"},
	{netip.MustParsePrefix("fc00::/7"), "private"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fec0::/10"), "site-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

var (
	globalUnicast = netip.MustParsePrefix("2000::/3")     // all of IPv6 that is given to anybody
	translated    = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052: the last four bytes are an IPv4 address
)

// guard says which addresses may be dialled: the public ones, and those of the networks in allow. A closed guard has only the latter.
type guard struct {
	allow  []netip.Prefix
	closed bool
	// connecting, for tests, is told of every connection that the guard lets through, and may still refuse it.
	connecting func(netip.AddrPort) error
}

// forbidden is an address that the guard refuses, and what it is.
type forbidden struct {
	address netip.Addr
	what    string
}

func (f *forbidden) Error() string { return fmt.Sprintf("%s is %s", f.address, f.what) }

// permits answers nil or a *forbidden.
func (g guard) permits(address netip.Addr) error {
	if address.Zone() != "" {
		return &forbidden{address, "of one link (it has a zone)"}
	}
	plain := address.Unmap()
	if slices.ContainsFunc(g.allow, func(p netip.Prefix) bool { return p.Contains(plain) }) {
		return nil
	}
	if translated.Contains(plain) {
		bytes := plain.As16()
		return g.permits(netip.AddrFrom4([4]byte(bytes[12:])))
	}
	for _, s := range specials {
		if s.network.Contains(plain) {
			return &forbidden{plain, s.what}
		}
	}
	switch {
	case plain.Is6() && !globalUnicast.Contains(plain), !plain.IsValid():
		return &forbidden{plain, "not given to anybody"}
	case g.closed:
		return &forbidden{plain, "not in a network that is allowed, as http must be"}
	}
	return nil
}

// control is a net.Dialer's ControlContext. It sees each address as it goes to the kernel, after all names, redirects and ways of
// writing it, so that nothing can change between check and connection.
func (g guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return &forbidden{netip.Addr{}, "no address of TCP"}
	}
	if err := g.permits(to.Addr()); err != nil {
		return err
	}
	if g.connecting != nil {
		return g.connecting(to)
	}
	return nil
}
