package webhook

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
)

// hooks is the name of the receivers of these tests.
const hooks = "hooks.example.com"

// authority signs certificates of receivers.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	roots       []byte // PEM
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, key := sign(t, template, nil, nil)
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{certificate, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// sign makes a key and a certificate of it; it signs itself without an issuer.
func sign(t testing.TB, template, issuer *x509.Certificate, by *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if issuer == nil {
		issuer, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

// certify makes a good certificate of a receiver, but for what change makes of it.
func (a authority) certify(t testing.TB, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{hooks}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	if change != nil {
		change(template)
	}
	der, key := sign(t, template, a.certificate, a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// secure starts a receiver that speaks TLS, and HTTP/2 if two.
func secure(t testing.TB, config *tls.Config, two bool, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	receiver := httptest.NewUnstartedServer(handler)
	receiver.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that the publisher breaks off
	receiver.TLS, receiver.EnableHTTP2 = config, two
	receiver.StartTLS()
	t.Cleanup(receiver.Close)
	return receiver
}

// toHooks publishes one message to a receiver by name.
func toHooks(t testing.TB, receiver *httptest.Server, roots []byte) error {
	t.Helper()
	at := netip.MustParseAddrPort(receiver.Listener.Addr().String())
	resolver := resolving(t, func(q dnsmessage.Question) []dnsmessage.Resource { return leading(q, nil, at.Addr()) })
	p, err := newPublisher(Config{URL: "https://" + hooks + ":" + portOf(at), Allow: local, Secrets: []settings.Secret{first}, Roots: roots}, time.Now, "1", resolver, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	return p.Publish("", message.NewMessage("evt-1", []byte("{}")))
}

func TestOnlyATrustedCertificateOfTheNameIsTaken(t *testing.T) {
	trusted, other := newAuthority(t), newAuthority(t)
	alone := func() tls.Certificate {
		der, key := sign(t, &x509.Certificate{SerialNumber: big.NewInt(3), DNSNames: []string{hooks}, NotBefore: time.Unix(0, 0),
			NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}, nil, nil)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	own := alone()
	for name, c := range map[string]struct {
		certificate tls.Certificate
		roots       []byte
		detail      string // empty: delivered
	}{
		"signed by one of roots":             {trusted.certify(t, nil), trusted.roots, ""},
		"signed by the second of roots":      {trusted.certify(t, nil), append(bytes.Clone(other.roots), trusted.roots...), ""},
		"self-signed, in roots":              {own, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]}), ""},
		"signed by nobody, without roots":    {trusted.certify(t, nil), nil, "nobody who is trusted"},
		"signed by another authority":        {other.certify(t, nil), trusted.roots, "nobody who is trusted"},
		"self-signed":                        {alone(), trusted.roots, "nobody who is trusted"},
		"of another name":                    {trusted.certify(t, func(c *x509.Certificate) { c.DNSNames = []string{"example.com", "a." + hooks} }), trusted.roots, "another name"},
		"of a name in its common name alone": {trusted.certify(t, func(c *x509.Certificate) { c.DNSNames, c.Subject.CommonName = nil, hooks }), trusted.roots, "another name"},
		"of its address alone":               {trusted.certify(t, func(c *x509.Certificate) { c.DNSNames = nil }), trusted.roots, "another name"},
		"expired":                            {trusted.certify(t, func(c *x509.Certificate) { c.NotAfter = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC) }), trusted.roots, "expired"},
		"not yet valid":                      {trusted.certify(t, func(c *x509.Certificate) { c.NotBefore = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC) }), trusted.roots, "not valid yet"},
		"of a client": {trusted.certify(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }),
			trusted.roots, "is not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			var taken atomic.Int32
			receiver := secure(t, &tls.Config{Certificates: []tls.Certificate{c.certificate}}, false, func(http.ResponseWriter, *http.Request) { taken.Add(1) })
			err := toHooks(t, receiver, c.roots)
			var r *Refused
			switch {
			case c.detail == "" && (err != nil || taken.Load() != 1):
				t.Errorf("%v, taken %d times", err, taken.Load())
			case c.detail != "" && (!errors.As(err, &r) || r.Code() != CodeTLS || !strings.Contains(r.Error(), c.detail) || r.Permanent() || taken.Load() != 0):
				t.Errorf("%v, taken %d times, want tls: %s", err, taken.Load(), c.detail)
			}
		})
	}
}

func TestWhatIsNotTLS12OrLaterIsRefused(t *testing.T) {
	a := newAuthority(t)
	old := secure(t, &tls.Config{Certificates: []tls.Certificate{a.certify(t, nil)}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false,
		func(http.ResponseWriter, *http.Request) { t.Error("delivered by TLS 1.1") })
	plain := receiverAt(t, "127.0.0.1:0", func(http.ResponseWriter, *http.Request) { t.Error("delivered without TLS") })
	for name, receiver := range map[string]*httptest.Server{"TLS 1.1": old, "no TLS": plain} {
		var r *Refused
		if err := toHooks(t, receiver, a.roots); !errors.As(err, &r) || r.Code() != CodeTLS {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAReceiverMaySpeakHTTP2(t *testing.T) {
	a := newAuthority(t)
	var taken atomic.Int32
	receiver := secure(t, &tls.Config{Certificates: []tls.Certificate{a.certify(t, nil)}}, true, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if r.ProtoMajor != 2 || !strings.HasPrefix(r.Host, hooks+":") || err != nil || string(body) != "{}" || r.Header.Get("Webhook-Id") != "evt-1" {
			t.Errorf("%s to %s: %q %v", r.Proto, r.Host, body, r.Header)
		}
		taken.Add(1)
		w.WriteHeader(http.StatusAccepted)
	})
	if err := toHooks(t, receiver, a.roots); err != nil || taken.Load() != 1 {
		t.Errorf("%v, taken %d times", err, taken.Load())
	}
}

func TestARedirectDoesNotLeaveHTTPS(t *testing.T) {
	a := newAuthority(t)
	var taken atomic.Int32
	handler := func(http.ResponseWriter, *http.Request) { taken.Add(1) }
	plain := receiverAt(t, "127.0.0.1:0", handler)
	safe := secure(t, &tls.Config{Certificates: []tls.Certificate{a.certify(t, nil)}}, false, handler)
	var location atomic.Value
	redirecting := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", location.Load().(string))
		w.WriteHeader(http.StatusPermanentRedirect)
	}
	from := secure(t, &tls.Config{Certificates: []tls.Certificate{a.certify(t, nil)}}, false, redirecting)
	p := publisher(t, Config{URL: from.URL, Allow: local, Roots: a.roots}, nil)
	port := portOf(netip.MustParseAddrPort(plain.Listener.Addr().String()))
	for _, to := range []string{plain.URL, "HTTP://127.0.0.1:" + port, "http:", "http:/", "\thttp://127.0.0.1:" + port, "ftp://127.0.0.1/", "file:///etc/passwd", "data:,x"} {
		location.Store(to)
		var r *Refused
		if err := p.Publish("", message.NewMessage("evt-1", nil)); !errors.As(err, &r) || r.Code() != CodeRedirect || r.Status() != http.StatusPermanentRedirect {
			t.Errorf("%q: %v", to, err)
		}
	}
	if taken.Load() != 0 {
		t.Errorf("taken %d times by http", taken.Load())
	}
	location.Store("//" + safe.Listener.Addr().String() + "/") // under the same scheme
	if err := p.Publish("", message.NewMessage("evt-1", nil)); err != nil || taken.Load() != 1 {
		t.Errorf("to https: %v, taken %d times", err, taken.Load())
	}
	location.Store(safe.URL)
	up := publisher(t, Config{URL: receiverAt(t, "127.0.0.1:0", redirecting).URL, Allow: local, Roots: a.roots}, nil)
	if err := up.Publish("", message.NewMessage("evt-1", nil)); err != nil || taken.Load() != 2 {
		t.Errorf("from http to https: %v, taken %d times", err, taken.Load())
	}
}
