// Package webhook delivers messages by HTTP POST to one URL: a watermill publisher, signed as Standard Webhooks says, which does not
// connect to addresses that are not public unless its config allows them.
package webhook

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/domain"
)

// redirects is how many are followed in one delivery.
const redirects = 3

// ErrClosed is the error of messages that come after Close, or that Close has cut off.
var ErrClosed = errors.New("webhook: the publisher is closed")

// The id is signed with dots around it, and goes into a header.
var idForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

// Publisher posts messages to one URL. It is safe for concurrent use.
type Publisher struct {
	url     *url.URL
	allow   []netip.Prefix
	signers []*standardwebhooks.Webhook
	timeout time.Duration
	agent   string
	now     func() time.Time
	send    transport

	mu      sync.Mutex // for adding to posting while end is not done
	posting sync.WaitGroup
	end     context.Context
	close   context.CancelFunc
}

var _ message.Publisher = (*Publisher)(nil)

// Open makes a publisher of a target's settings: url, secrets, allow, timeout and roots. version is that of the program, for the
// header user-agent. Errors are domain.CodeInvalid and name the key by its full path. It must be closed.
func Open(s *settings.Section, now func() time.Time, version string) (*Publisher, error) {
	config := read(s)
	if err := s.Err(); err != nil {
		return nil, err
	}
	p, err := New(config, now, version)
	return p, s.Locate(err)
}

// New is Open for settings that do not stand in a file: its errors name the key alone.
func New(config Config, now func() time.Time, version string) (*Publisher, error) {
	return newPublisher(config, now, version, nil, nil)
}

func newPublisher(config Config, now func() time.Time, version string, resolver *net.Resolver, connecting func(netip.AddrPort) error) (*Publisher, error) {
	signers, roots, err := config.check()
	if err != nil {
		return nil, err
	}
	to, err := parseTarget(config.URL, config.Allow)
	if err != nil {
		return nil, err
	}
	timeout := cmp.Or(config.Timeout, defaultTimeout)
	end, cancel := context.WithCancel(context.Background())
	g := guard{allow: config.Allow, connecting: connecting}
	return &Publisher{url: to, allow: config.Allow, signers: signers, timeout: timeout, agent: "tenure/" + version, now: now,
		send: newTransport(end, g, resolver, roots, timeout), end: end, close: cancel}, nil
}

// Publish delivers messages one after another, each within its own context, and stops at the first that fails. The topic has no meaning:
// a webhook is one URL. Errors are *Refused, ErrClosed, the context's error, or domain.CodeInvalid for an id that no header can hold.
func (p *Publisher) Publish(_ string, messages ...*message.Message) error {
	p.mu.Lock()
	if p.end.Err() != nil {
		p.mu.Unlock()
		return ErrClosed
	}
	p.posting.Add(1)
	p.mu.Unlock()
	defer p.posting.Done()
	for _, m := range messages {
		if err := p.deliver(m); err != nil {
			return err
		}
	}
	return nil
}

// Close ends deliveries under way and waits for them. Doing it again changes nothing.
func (p *Publisher) Close() error {
	p.mu.Lock()
	p.close()
	p.mu.Unlock()
	p.posting.Wait()
	p.send.close()
	return nil
}

func (p *Publisher) deliver(m *message.Message) error {
	if !idForm.MatchString(m.UUID) {
		return domain.Invalid("id", "must be 1 to 256 letters, digits, dashes and underscores")
	}
	header, err := p.header(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(m.Context(), p.timeout)
	defer cancel()
	defer context.AfterFunc(p.end, cancel)()
	err = p.follow(ctx, header, m.Payload)
	switch {
	case err == nil:
		return nil
	case m.Context().Err() != nil:
		return m.Context().Err()
	case p.end.Err() != nil:
		return ErrClosed
	}
	return err
}

func (p *Publisher) header(m *message.Message) (http.Header, error) {
	now := p.now()
	signatures := make([]string, len(p.signers))
	for i, signer := range p.signers {
		signature, err := signer.Sign(m.UUID, now, m.Payload)
		if err != nil {
			return nil, err
		}
		signatures[i] = signature
	}
	return http.Header{
		"Content-Type":      {"application/cloudevents+json"},
		"User-Agent":        {p.agent},
		"Webhook-Id":        {m.UUID},
		"Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)},
		"Webhook-Signature": {strings.Join(signatures, " ")},
		// Lets net/http try again on another connection when an idle one turns out to be closed. It is not sent.
		"X-Idempotency-Key": nil,
	}, nil
}

// follow posts to the URL, and on to where 307 and 308 lead, which ask for the same method and body again.
func (p *Publisher) follow(ctx context.Context, header http.Header, body []byte) error {
	to := p.url
	for hop := 0; ; hop++ {
		answer, err := p.post(ctx, to, header, body)
		if err != nil {
			return err
		}
		switch status := answer.StatusCode; {
		case status >= 200 && status < 300:
			return nil
		case status != http.StatusTemporaryRedirect && status != http.StatusPermanentRedirect:
			return refusedByStatus(answer, p.now())
		case hop == redirects:
			return &Refused{status: status, code: CodeRedirect, detail: "more than " + strconv.Itoa(redirects)}
		}
		if to, err = p.next(to, answer); err != nil {
			return err
		}
	}
}

// next is where a redirect leads. It must be a URL that the config could have, and not leave https.
func (p *Publisher) next(from *url.URL, answer *http.Response) (*url.URL, error) {
	refused := func(detail string) error {
		return &Refused{status: answer.StatusCode, code: CodeRedirect, detail: detail}
	}
	location, err := from.Parse(answer.Header.Get("Location"))
	if err != nil || answer.Header.Get("Location") == "" {
		return nil, refused("to no URL")
	}
	if from.Scheme == "https" && location.Scheme != "https" {
		return nil, refused("away from https")
	}
	to, err := parseTarget(location.String(), p.allow)
	var address *forbidden
	switch {
	case errors.As(err, &address):
		return nil, &Refused{status: answer.StatusCode, code: CodeForbidden, detail: "by a redirect: " + address.Error()}
	case err != nil:
		return nil, refused("to a URL that is not permitted")
	}
	return to, nil
}

// post sends one request. The answer is there with its headers; of its body little is read, not for long, and none of a long one.
func (p *Publisher) post(ctx context.Context, to *url.URL, header http.Header, body []byte) (*http.Response, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var connected, failed atomic.Bool
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, traced(&connected, &failed)), http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, &Refused{code: CodeRedirect, detail: "to no URL"}
	}
	request.Header = header
	answer, err := p.send.RoundTrip(request)
	if err != nil {
		return nil, refusedBy(err, connected.Load(), !failed.Load())
	}
	// After 101 the body is the connection itself, which no context ends.
	if answer.StatusCode != http.StatusSwitchingProtocols && answer.ContentLength <= bodyBytes {
		defer time.AfterFunc(bodyWait, cancel).Stop()
		_, _ = io.CopyN(io.Discard, answer.Body, bodyBytes) // what fails here was answered all the same
	}
	_ = answer.Body.Close()
	return answer, nil
}

func traced(connected, failed *atomic.Bool) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn:          func(httptrace.GotConnInfo) { connected.Store(true) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) { failed.Store(err != nil) },
	}
}
