package webhook

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
)

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	var value atomic.Value
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Retry-After"] = strings.Split(value.Load().(string), "|")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer receiver.Close()
	p, err := newPublisher(Config{URL: receiver.URL, Allow: local, Secrets: []settings.Secret{first}}, func() time.Time { return now }, "1", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	for asked, want := range map[string]time.Duration{
		"0":                                  0,
		"1":                                  time.Second,
		"86400":                              longestRetryAfter,
		"86401":                              longestRetryAfter,
		" 007 ":                              7 * time.Second,
		"Sun, 01 Mar 2026 11:00:30 GMT":      30 * time.Second,
		"Sunday, 01-Mar-26 12:00:00 GMT":     time.Hour, // RFC 850
		"Sun Mar  1 11:10:00 2026":           10 * time.Minute,
		"Sun, 01 Mar 2026 10:59:59 GMT":      0, // gone by
		"Thu, 01 Jan 1970 00:00:00 GMT":      0,
		"Fri, 31 Dec 9999 23:59:59 GMT":      longestRetryAfter,
		"Sun, 01 Mar 2026 11:00:30 +0200":    0,
		"2026-03-01T11:00:30Z":               0,
		"Sun, 31 Feb 2026 11:00:30 GMT":      0,
		"":                                   0,
		"soon":                               0,
		"1.5":                                0,
		"1e3":                                0,
		"+5":                                 0,
		"0x10":                               0,
		"5s":                                 0,
		"5, 6":                               0,
		"٣":                                  0,
		"5|600":                              5 * time.Second, // the first of two
		strings.Repeat("9", 1<<10):           longestRetryAfter,
		strings.Repeat("soon ", 1<<10) + ".": 0,
	} {
		value.Store(asked)
		var r *Refused
		if err := p.Publish("", message.NewMessage("evt-1", nil)); !errors.As(err, &r) || r.Code() != "http_503" || r.RetryAfter() != want {
			t.Errorf("%.40q: %v, %s, want %s", asked, err, r.RetryAfter(), want)
		}
	}
}

// Whoever publishes asks errors by what they can tell, without their type.
func TestErrorsTellTheirStatus(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone":
			w.WriteHeader(http.StatusGone)
		case "/private":
			http.Redirect(w, r, "https://10.0.0.1/", http.StatusPermanentRedirect)
		default:
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}
	}))
	defer receiver.Close()
	for url, want := range map[string]int{
		receiver.URL + "/gone":    http.StatusGone,
		receiver.URL + "/private": http.StatusPermanentRedirect,
		receiver.URL + "/circle":  http.StatusTemporaryRedirect,
		nobody(t, receiver):       0,
	} {
		err := publisher(t, Config{URL: url, Allow: local}, nil).Publish("", message.NewMessage("evt-1", nil))
		var told interface {
			Status() int
			Code() string
			Permanent() bool
			Gone() bool
			RetryAfter() time.Duration
		}
		if !errors.As(err, &told) || told.Status() != want || told.Gone() != (want == http.StatusGone) || told.Permanent() != told.Gone() {
			t.Errorf("%s: %v", url, err)
		}
	}
}
