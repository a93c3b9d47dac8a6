package webhook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func TestARedirectIsFollowedWithTheSameBodyAndSignature(t *testing.T) {
	body := []byte(`{"specversion":"1.0"}`)
	for _, status := range []int{http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		var taken atomic.Int32
		receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/there" {
				http.Redirect(w, r, "/there", status)
				return
			}
			got, _ := io.ReadAll(r.Body)
			wh, err := standardwebhooks.NewWebhook(first.Reveal())
			if err != nil || wh.Verify(got, r.Header) != nil || !bytes.Equal(got, body) || r.Method != http.MethodPost {
				t.Errorf("%s %q %v", r.Method, got, r.Header)
			}
			taken.Add(1)
		}))
		err := publisher(t, Config{URL: receiver.URL, Allow: local}, nil).Publish("", message.NewMessage("evt-1", body))
		receiver.Close()
		if err != nil || taken.Load() != 1 {
			t.Errorf("%d: %v, taken %d times", status, err, taken.Load())
		}
	}
}

func TestNoRedirectToAFormOfAPrivateAddressIsDialled(t *testing.T) {
	var location atomic.Value
	receiver := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", location.Load().(string))
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	listener, err := net.Listen("tcp", "127.0.0.2:0") // so that 127.0.0.1 is not allowed
	if err != nil {
		t.Fatal(err)
	}
	_ = receiver.Listener.Close()
	receiver.Listener = listener
	receiver.Start()
	defer receiver.Close()
	own := netip.MustParseAddrPort(receiver.Listener.Addr().String())
	var others atomic.Int32
	p := publisher(t, Config{URL: receiver.URL, Allow: []netip.Prefix{netip.PrefixFrom(own.Addr(), 32)}}, func(to netip.AddrPort) error {
		if to != own {
			others.Add(1)
			return errors.New("dialled")
		}
		return nil
	})
	tried := 0
	for _, form := range forms {
		tried++
		location.Store(fmt.Sprintf("https://%s:9/", form))
		if err := p.Publish("", message.NewMessage("evt-1", nil)); err == nil {
			t.Errorf("a redirect to %s is followed", form)
		}
	}
	if others.Load() != 0 || tried < 60 {
		t.Errorf("%d of %d forms were dialled", others.Load(), tried)
	}
}

// A receiver has taken a message when it says so, however long it goes on talking.
func TestAnAnswerThatTricklesIsASuccess(t *testing.T) {
	closed := make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done() // the publisher closes the connection
		close(closed)
	}))
	defer receiver.Close()
	p := publisher(t, Config{URL: receiver.URL, Allow: local, Timeout: longestTimeout}, nil)
	if err := p.Publish("", message.NewMessage("evt-1", nil)); err != nil {
		t.Fatal(err)
	}
	<-closed
}
