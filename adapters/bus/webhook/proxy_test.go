package webhook

import (
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
)

// A proxy would dial what the guard does not see. net/http reads these variables once, and then keeps to them: they are the same in
// every run of this test, and it makes sure that they are heard.
func TestTheEnvironmentsProxyIsNotUsed(t *testing.T) {
	const proxy = "http://127.0.0.3:9"
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, proxy)
	}
	for _, name := range []string{"NO_PROXY", "no_proxy", "REQUEST_METHOD"} {
		t.Setenv(name, "")
	}
	var taken, others atomic.Int32
	receiver := receiverAt(t, "127.0.0.1:0", func(http.ResponseWriter, *http.Request) { taken.Add(1) })
	own := addressOf(receiver)
	a := newAuthority(t)
	resolver := resolving(t, func(q dnsmessage.Question) []dnsmessage.Resource { return leading(q, nil, own.Addr()) })
	allow := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} // the proxy too
	for _, url := range []string{"http://" + hooks + ":" + portOf(own), "https://" + hooks + ":" + portOf(own)} {
		p, err := newPublisher(Config{URL: url, Allow: allow, Secrets: []settings.Secret{first}, Roots: a.roots}, time.Now, "1", resolver, func(to netip.AddrPort) error {
			if to != own {
				others.Add(1)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = p.Publish("", message.NewMessage("evt-1", nil))
		_ = p.Close()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if by, err := http.ProxyFromEnvironment(request); err != nil || by == nil || by.String() != proxy {
			t.Errorf("the environment's proxy for %s is %v, %v", url, by, err)
		}
	}
	if taken.Load() != 1 || others.Load() != 0 {
		t.Errorf("taken %d times, %d connections to others", taken.Load(), others.Load())
	}
}
