package webhook

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	first  = settings.NewSecret("whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 24)))
	second = settings.NewSecret("whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{2}, 64)))
	local  = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
)

func publisher(t *testing.T, c Config, connecting func(netip.AddrPort) error) *Publisher {
	t.Helper()
	c.Secrets = []settings.Secret{first, second}
	p, err := newPublisher(c, time.Now, "1.2.3", nil, connecting)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestAReceiverVerifiesUnderEitherSecret(t *testing.T) {
	body := []byte(`{"specversion":"1.0"}`)
	var seen atomic.Int32
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ := io.ReadAll(r.Body)
		for _, secret := range []settings.Secret{first, second} {
			wh, err := standardwebhooks.NewWebhook(secret.Reveal())
			if err != nil || wh.Verify(got, r.Header) != nil {
				t.Error("the signature does not verify")
			}
		}
		if !bytes.Equal(got, body) || r.Method != http.MethodPost || r.Header.Get("webhook-id") != "evt-1" ||
			r.Header.Get("user-agent") != "tenure/1.2.3" || r.Header.Get("content-type") != "application/cloudevents+json" {
			t.Errorf("%s %q %v", r.Method, got, r.Header)
		}
		seen.Add(1)
	}))
	defer receiver.Close()
	p := publisher(t, Config{URL: receiver.URL, Allow: local}, nil)
	if err := p.Publish("", message.NewMessage("evt-1", body)); err != nil || seen.Load() != 1 {
		t.Fatalf("%v, %d deliveries", err, seen.Load())
	}
	_ = p.Close()
	if err := p.Publish("", message.NewMessage("evt-1", body)); !errors.Is(err, ErrClosed) {
		t.Fatalf("after Close: %v", err)
	}
}

func TestStatusesAreErrorsWithCodes(t *testing.T) {
	var dials atomic.Int32
	connecting := func(netip.AddrPort) error { dials.Add(1); return nil }
	for name, c := range map[string]struct {
		status          int
		header, value   string
		code            string
		permanent, gone bool
		after           time.Duration
	}{
		"404":                            {status: 404, code: "http_404", permanent: true},
		"410":                            {status: 410, code: "http_410", permanent: true, gone: true},
		"408":                            {status: 408, code: "http_408"},
		"429 that asks for time":         {status: 429, header: "Retry-After", value: "120", code: "http_429", after: 2 * time.Minute},
		"503 that asks for too much":     {status: 503, header: "Retry-After", value: "99999999999999999999", code: "http_503", after: longestRetryAfter},
		"503 that asks for nonsense":     {status: 503, header: "Retry-After", value: "-5", code: "http_503"},
		"302 is not followed":            {status: 302, header: "Location", value: "/there", code: CodeRedirect},
		"307 to a private address":       {status: 307, header: "Location", value: "https://10.0.0.1/", code: CodeForbidden},
		"307 to the metadata of a cloud": {status: 307, header: "Location", value: "http://169.254.169.254/", code: CodeForbidden},
		"308 to itself, for ever":        {status: 308, header: "Location", value: "/", code: CodeRedirect},
		"307 with a password":            {status: 307, header: "Location", value: "https://a:b@example.com/", code: CodeRedirect},
	} {
		t.Run(name, func(t *testing.T) {
			receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if c.header != "" {
					w.Header().Set(c.header, c.value)
				}
				w.WriteHeader(c.status)
			}))
			defer receiver.Close()
			dials.Store(0)
			err := publisher(t, Config{URL: receiver.URL, Allow: local}, connecting).Publish("", message.NewMessage("evt-1", nil))
			var r *Refused
			if !errors.As(err, &r) || r.Code() != c.code || r.Permanent() != c.permanent && c.code[:4] == "http" || r.Gone() != c.gone || r.RetryAfter() != c.after {
				t.Fatalf("%#v", err)
			}
			if dials.Load() != 1 {
				t.Fatalf("%d connections, want the receiver's alone", dials.Load())
			}
		})
	}
}

// forms are ways of writing addresses that are not public.
var forms = []string{
	"127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.0.0.1.", "127.255.255.254",
	"0.0.0.0", "0", "0x0", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254", "0xa9fea9fe",
	"2852039166", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
	"224.0.0.1", "240.0.0.1", "255.255.255.255", "localhost", "localhost.", "LOCALHOST", "a.localhost", "127.0.0.1", "①②⑦.0.0.1",
	"127。0。0。1", "127.0.0.1%2f", "a@127.0.0.1", "example.com:b@127.0.0.1", "127.0.0.1#@example.com", `example.com\@127.0.0.1`,
	"[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[::ffff:10.0.0.1]", "[0:0:0:0:0:ffff:a9fe:a9fe]",
	"[64:ff9b::127.0.0.1]", "[64:ff9b::a00:1]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2001:0:1::1]", "[2001:db8::1]", "[3fff::1]", "[fc00::1]",
	"[fd00:ec2::254]", "[fe80::1]", "[fe80::1%25lo]", "[2606:4700::1%25lo]", "[fec0::1]", "[ff02::1]", "[100::1]", "[::ffff:0:127.0.0.1]", "[4000::1]",
}

func TestNoFormOfAPrivateAddressIsTaken(t *testing.T) {
	for _, form := range forms {
		for _, scheme := range []string{"https://", "http://"} {
			if _, err := newPublisher(Config{URL: scheme + form + "/", Secrets: []settings.Secret{first}}, time.Now, "1", nil, nil); err == nil {
				t.Errorf("%s%s is taken", scheme, form)
			}
		}
	}
	for _, public := range []string{"https://example.com/a?b", "https://8.8.8.8:8443/", "https://[2606:4700::1]/", "https://[64:ff9b::808:808]/"} {
		if _, err := parseTarget(public, nil); err != nil {
			t.Errorf("%s: %v", public, err)
		}
	}
}

// Below the checks of texts: what a resolver makes of each form is refused as it is dialled.
func TestTheTransportDialsNoFormOfThisMachine(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the receiver was reached") }))
	defer receiver.Close()
	port := receiver.URL[len("http://127.0.0.1:"):]
	var dials atomic.Int32
	p := publisher(t, Config{URL: "https://example.com/"}, func(netip.AddrPort) error { dials.Add(1); return nil })
	for _, form := range []string{"127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "[::1]", "[::]", "0.0.0.0"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+form+":"+port+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := p.send.RoundTrip(request); err == nil {
			_ = answer.Body.Close()
			t.Errorf("%s was dialled", form)
		}
	}
	if dials.Load() != 0 {
		t.Errorf("%d connections below the guard", dials.Load())
	}
}
