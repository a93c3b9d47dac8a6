// Package agent is what runs beside a data plane: it dials the gateway, is told what tenants shall be, and has the driver
// make them so. It journals every effect before it begins, so a crash repeats an effect under the same id and never
// loses or doubles one. The command line starts it; it knows nothing of the control plane but agent/protocol.
package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/tenure-dev/tenure/agent/drivers"
	"github.com/tenure-dev/tenure/agent/protocol"
)

// Config is all that an agent needs. The zero value of every field that is not marked as required is useful.
type Config struct {
	Dir string // required: the agent's own directory, made with mode 0700

	GatewayURL string // https://host:port; empty: the one of the last start
	JoinToken  string // needed once for a plane; empty, or the same again, once the agent has joined

	// Driver is required. The caller made it, and closes it after Run has returned.
	Driver drivers.Driver
	// DriverName and DriverOptions are saved in Dir, so that Secret's caller can make the same driver again.
	DriverName    string
	DriverOptions map[string]string

	Version      string   // of this binary, told to the gateway
	Capabilities []string // what the driver can do, told to the gateway

	MaxParallel    int           // tenants worked on at once, and as many again being suspended or resumed; 8
	AttemptTimeout time.Duration // of one call of the driver; 15 minutes
	Retry          Retry         // of failures that may pass; 5 attempts, 250 ms to 15 s apart
	Reconnect      Backoff       // between sessions, for ever; 100 ms to 30 s
	Logger         *slog.Logger  // slog.Default

	// Dial makes the connection to the gateway; net.Dialer by default. Tests dial in memory.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Agent is one plane's agent.
type Agent struct {
	cfg   Config
	log   *slog.Logger
	token *protocol.Token // nil when none was given

	key      ed25519.PrivateKey
	settings Settings
	journal  *journal
	work     *work

	mu           sync.Mutex
	live         *session // the session that outcomes go to; nil while there is none
	inventoryDue bool     // Unclaimed has not been sent since the start, or since the last resync
}

// New checks the configuration; it touches nothing. Its errors are of code invalid.
func New(cfg Config) (*Agent, error) {
	if cfg.Dir == "" {
		return nil, failf(CodeInvalid, nil, "an agent needs a directory")
	}
	if cfg.Driver == nil {
		return nil, failf(CodeInvalid, nil, "an agent needs a driver")
	}
	if cfg.GatewayURL != "" {
		u, err := url.Parse(cfg.GatewayURL)
		if err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, failf(CodeInvalid, nil, "the gateway's address must be https://HOST:PORT, not %q", cfg.GatewayURL)
		}
	}
	a := &Agent{cfg: cfg.withDefaults(), inventoryDue: true}
	a.log = a.cfg.Logger
	if cfg.JoinToken != "" {
		token, err := protocol.ParseToken(cfg.JoinToken)
		if err != nil {
			return nil, failf(CodeInvalid, err, "the join token cannot be used")
		}
		a.token = &token
	}
	return a, nil
}

func (c Config) withDefaults() Config {
	if c.MaxParallel <= 0 {
		c.MaxParallel = 8
	}
	if c.AttemptTimeout <= 0 {
		c.AttemptTimeout = 15 * time.Minute
	}
	if c.Retry.Attempts <= 0 {
		c.Retry.Attempts = 5
	}
	c.Retry.Backoff = c.Retry.withDefaults(250*time.Millisecond, 15*time.Second)
	c.Reconnect = c.Reconnect.withDefaults(100*time.Millisecond, 30*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	}
	return c
}

// Run works until ctx ends, and then returns nil once every call of the driver has returned. It dials again for ever;
// what it returns is an *Error that dialling again cannot mend. It holds Dir's lock all the while.
func (a *Agent) Run(ctx context.Context) error {
	unlock, err := lockDir(a.cfg.Dir)
	if err != nil {
		return err
	}
	defer unlock()

	if a.key, err = ensureIdentity(a.cfg.Dir); err != nil {
		return err
	}
	if err := a.loadSettings(); err != nil {
		return err
	}
	if err := a.joinIfNeeded(ctx); err != nil {
		return unlessEnded(ctx, err)
	}
	if a.journal, err = openJournal(a.cfg.Dir, a.settings.PlaneID, a.log); err != nil {
		return err
	}
	defer a.journal.close()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.work = newWork(a.cfg, a.journal, a.report, cancel)
	defer a.work.wait() // after cancel(nil): defers run in reverse
	defer cancel(nil)
	return unlessEnded(ctx, a.serve(ctx))
}

// unlessEnded is nil when ctx ended because it was asked to, and the cause when a broken journal ended it.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	var broken *Error
	if errors.As(context.Cause(ctx), &broken) {
		return broken
	}
	return nil
}

// serve holds one session after another. A session's *Error ends it; anything else is dialled again.
func (a *Agent) serve(ctx context.Context) error {
	gateway, err := a.connect()
	if err != nil {
		return err
	}
	defer gateway.close()
	failures := 0
	for ctx.Err() == nil {
		lasted, err := a.hold(ctx, gateway)
		a.work.forgetWaiting()
		gateway.close() // a half-dead connection is not used again
		var final *Error
		if errors.As(err, &final) {
			return final
		}
		if ctx.Err() != nil {
			break
		}
		if failures++; lasted {
			failures = 1
		}
		delay := a.cfg.Reconnect.delay(failures)
		a.log.Warn("the gateway is away, dialling again", "in", delay, "error", err)
		pause(ctx, delay)
	}
	return ctx.Err()
}

// Connected tells whether a session with the gateway is open. It may be asked before, while and after the agent runs.
func (a *Agent) Connected() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.live != nil
}

// report hands an outcome to the live session; without one it waits in the journal for the next.
func (a *Agent) report(o outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.live != nil {
		a.live.outbox.putOutcome(o)
	}
}
