package webhook

import (
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/tenure-dev/tenure/domain"
)

// longestURL is in bytes.
const longestURL = 2048

var (
	hostForm = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$`)
	// Resolvers take names whose last part is a number for IPv4 addresses: 2130706433, 0x7f.1, 127.1, 127.0.0.1.
	numberForm = regexp.MustCompile(`^([0-9]+|0[xX][0-9A-Fa-f]*)$`)
)

// parseTarget reads a URL that webhooks may go to, as far as its text can say: guards decide again when it is dialled.
func parseTarget(text string, allow []netip.Prefix) (*url.URL, error) {
	if len(text) > longestURL {
		return nil, domain.Invalid("url", "must not be longer than %d bytes", longestURL)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "": // the error would show the text, password and all
		return nil, domain.Invalid("url", "must be a URL such as https://hooks.example.com/tenure")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, domain.Invalid("url", "must begin with https://")
	case u.User != nil:
		return nil, domain.Invalid("url", "must not have a user or password in it")
	case strings.Contains(text, "#"):
		return nil, domain.Invalid("url", "must not have a fragment (#)")
	case !validPort(u):
		return nil, domain.Invalid("url", "must have a port from 1 to 65535, or none")
	case u.Scheme == "http" && len(allow) == 0:
		return nil, domain.Invalid("url", "must begin with https:// (http is for networks in allow)")
	}
	if err := checkHost(u.Hostname(), guard{allow: allow, closed: u.Scheme == "http"}); err != nil {
		return nil, err
	}
	return u, nil
}

func validPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && port > 0
}

// checkHost refuses addresses that the guard forbids, and names that are addresses in disguise.
func checkHost(host string, g guard) error {
	if address, err := netip.ParseAddr(host); err == nil {
		return refusedHost(g.permits(address))
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	switch {
	case len(host) > 254 || !hostForm.MatchString(host):
		return domain.Invalid("url", "must have a host name in ASCII (xn--… for others) or an address")
	case numberForm.MatchString(name[strings.LastIndexByte(name, '.')+1:]):
		return domain.Invalid("url", "must have an IPv4 address in its usual form, such as 192.0.2.1")
	case name == "localhost" || strings.HasSuffix(name, ".localhost"):
		if g.permits(netip.IPv6Loopback()) != nil {
			return refusedHost(g.permits(netip.MustParseAddr("127.0.0.1")))
		}
	}
	return nil
}

func refusedHost(err error) error {
	if err == nil {
		return nil
	}
	return &domain.Error{Code: domain.CodeInvalid, Field: "url", Message: "must not lead to a network that is not public unless allow has it", Cause: err}
}
