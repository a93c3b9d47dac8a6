// Package eventstore is the event log: the official EventStoreDB client, wrapped once, with its traps hidden. Only
// adapters/app makes a Log; inner packages use it through the ports that they declare.
//
// What the client does that callers of this package need not know: it ignores contexts while it connects; once it has failed
// to find a node it is dead for ever and lets callers hang; each UNAVAILABLE answer makes it open a connection and forget the
// old one; closing it while calls are under way panics; its errors have to be searched for codes in three ways; read streams
// must be closed, or hold one of a connection's hundred slots for 292 years; it draws random event ids where none are given.
//
// One thing cannot be hidden: it ends the process when a node sends an event whose time of creation is no number.
package eventstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
)

// Config says where the event store is and how long to wait for it.
type Config struct {
	// URL is an esdb:// or esdb+discover:// address with EventStoreDB's own settings. Its gossipTimeout is in seconds, as the
	// Go client has it; more than two minutes is taken for other clients' milliseconds.
	URL string
	// Timeout bounds every call, waiting for a connection and a slot included; 10 s when zero.
	Timeout time.Duration
	Logger  *slog.Logger // nil drops

	pauses time.Duration // the first pause before another try; firstPause when zero
}

// Log is a connection to an event store. It is safe for concurrent use. It reconnects for ever: a call made while the event
// store is away waits for it up to the timeout.
type Log struct {
	timeout time.Duration
	logger  *slog.Logger
	calls   *link // appends and pages of single streams
	feeds   *link // subscriptions and pages of the whole log, so that slow consumers of those never starve a call
}

var _ commands.Log = (*Log)(nil)

// Open connects and fails if the event store does not answer within the timeout. The error is CodeInvalid for a URL that is
// not understood, CodeUnauthenticated or CodeForbidden for a user that the event store refuses, and CodeUnavailable.
func Open(ctx context.Context, c Config) (*Log, error) {
	settings, err := parse(c.URL)
	if err != nil {
		return nil, err
	}
	if c.Timeout <= 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	settings.Logger = func(_ esdb.LogLevel, format string, args ...any) {
		c.Logger.Debug("event store client", "said", fmt.Sprintf(format, args...))
		intercept(format, args)
	}
	l := &Log{timeout: c.Timeout, logger: c.Logger}
	l.calls, l.feeds = newLink("calls", *settings, c.Timeout, c.Logger), newLink("feeds", *settings, c.Timeout, c.Logger)
	if c.pauses > 0 {
		l.calls.pauses, l.feeds.pauses = c.pauses, c.pauses
	}
	if settings.DisableTLS && settings.Username != "" {
		l.logger.Warn("the event store's user and password are not sent, as TLS is off")
	}
	if _, err := l.Head(ctx); err != nil {
		_ = l.Close(ctx)
		if refused := login(err); refused != nil {
			return nil, refused
		}
		return nil, err
	}
	return l, nil
}

// Close ends subscriptions and calls under way and waits for them, at most until ctx ends.
func (l *Log) Close(ctx context.Context) error {
	l.calls.stop()
	l.feeds.stop()
	if err := l.calls.wait(ctx); err != nil {
		return err
	}
	return l.feeds.wait(ctx)
}

// The settings of an address that the client knows; others it only warns of.
var known = []string{"discoveryinterval", "gossiptimeout", "maxdiscoverattempts", "nodepreference", "keepaliveinterval",
	"keepalivetimeout", "tls", "tlscafile", "usercertfile", "userkeyfile", "tlsverifycert", "defaultdeadline"}

func parse(address string) (*esdb.Configuration, error) {
	if _, query, found := strings.Cut(address, "?"); found {
		settings, err := url.ParseQuery(query)
		if err != nil {
			return nil, badURL(err)
		}
		for key := range settings {
			if !slices.Contains(known, strings.ToLower(key)) {
				return nil, badURL(fmt.Errorf("it has no setting %q", key))
			}
		}
	}
	c, err := esdb.ParseConnectionString(address)
	if err != nil {
		return nil, badURL(err)
	}
	if c.GossipTimeout > 120 {
		c.GossipTimeout = max(1, c.GossipTimeout/1000)
	}
	// One round over the candidates: the link begins again, with a new client and a pause.
	c.MaxDiscoverAttempts = 1
	return c, nil
}

// badURL says what is wrong with an address without repeating it: it may hold a password.
func badURL(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	bad := domain.Invalid("eventstore", "is no esdb:// address that is understood")
	bad.Cause = err
	return bad
}
