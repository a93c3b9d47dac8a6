package broker

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/domain"
)

// uuidHeader is where watermill's own subscribers find a message's UUID.
const uuidHeader = "_watermill_message_uuid"

// NATSServer says how to reach NATS.
type NATSServer struct {
	URL         settings.Secret // nats://, tls://, ws:// or wss://, with comma-separated ones for the members of a cluster
	Credentials settings.Secret // of a user, as `nsc` writes them: a JWT and a seed
	CA          []byte          // certificates (PEM) to trust instead of the system's
	Stream      string
}

func (c *NATSServer) read(s *settings.Section) {
	c.URL, c.Credentials = settings.NewSecret(s.Required("url")), settings.NewSecret(s.Text("credentials", ""))
	c.CA, c.Stream = s.Certificates("ca"), s.Required("stream")
}

// NATSSink publishes to a JetStream stream.
type NATSSink struct {
	NATSServer
	Subject string        // a template with {type}, {org}, {tenant}, {stream}
	Create  bool          // make the stream if it is not there: file storage, one replica, the subjects that Subject can give
	Timeout time.Duration // of one message; 10s, at least 100ms, at most 5m
}

// NewNATSSink gives the defaults.
func NewNATSSink() *NATSSink { return &NATSSink{Timeout: defaultTimeout} }

func (c *NATSSink) read(s *settings.Section) {
	c.NATSServer.read(s)
	c.Subject, c.Create, c.Timeout = s.Required("subject"), s.Bool("create", false), readTimeout(s)
}

var streamForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)

// Publisher connects in the background. A wrong setting is refused.
func (c *NATSSink) Publisher(log *slog.Logger) (message.Publisher, error) {
	subject, err := parseTemplate("subject", c.Subject, subjectForbids, 4096)
	if err := cmp.Or(err, formed("stream", c.Stream, streamForm)); err != nil {
		return nil, err
	}
	if c.Create && subjectsOf(c.Subject) == ">" {
		return nil, domain.Invalid("subject", "must begin with a fixed part where the stream is created")
	}
	t := &natsTarget{subject: subject, config: *c}
	t.cut() // the first connection begins
	conn, hide, err := c.connect(log, t.cut, nats.ReconnectErrHandler(t.note), nats.ConnectHandler(t.welcome), nats.ReconnectHandler(t.welcome))
	if err != nil {
		return nil, err
	}
	t.conn = conn
	if t.js, err = jetstream.New(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return newPublisher(t, hide, c.Timeout), nil
}

// connect makes the first attempt at once, for 2 s at most, and the others in the background. Lost is called, if not nil,
// after a connection has gone.
func (c *NATSServer) connect(log *slog.Logger, lost func(), more ...nats.Option) (*nats.Conn, scrubber, error) {
	at, credentials := c.URL.Reveal(), c.Credentials.Reveal()
	trusted, err := authorities(c.CA)
	if err != nil {
		return nil, nil, err
	}
	for _, one := range strings.Split(at, ",") {
		if err := checkURL("url", strings.TrimSpace(one), "nats", "tls", "ws", "wss"); err != nil {
			return nil, nil, err
		}
	}
	hide, log := hiding(at, credentials), quiet(log)
	options := []nats.Option{
		nats.Name("tenure"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectBufSize(-1), // a message that waits for a connection could be sent long after its Publish failed
		nats.CustomReconnectDelay(backoff),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if lost != nil {
				lost()
			}
			if err != nil {
				log.Warn("broker: disconnected from NATS", "error", hide.scrub(err.Error()))
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("broker: NATS", "error", hide.scrub(err.Error()))
		}),
	}
	options = append(options, more...)
	if trusted != nil {
		options = append(options, nats.Secure(trusted))
	}
	if credentials != "" {
		options = append(options, nats.UserCredentialBytes([]byte(credentials)))
	}
	conn, err := nats.Connect(at, options...)
	if err != nil {
		return nil, nil, domain.Invalid("url", "or credentials cannot be used: %s", hide.scrub(err.Error()))
	}
	return conn, hide, nil
}

// checkURL refuses what is no URL with a host and one of the schemes, without saying the URL.
func checkURL(field, text string, schemes ...string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) {
		return domain.Invalid(field, "must be a URL of the form %s://host:port", schemes[0])
	}
	return nil
}

type natsTarget struct {
	conn    *nats.Conn
	js      jetstream.JetStream
	subject template
	config  NATSSink
	made    atomic.Bool // the stream has been seen or made
	refused atomic.Bool // the last attempt to connect failed for our credentials

	mu         sync.Mutex
	connected  context.Context // ends when the connection goes
	disconnect context.CancelFunc
}

func (t *natsTarget) note(_ *nats.Conn, err error) {
	t.refused.Store(errors.Is(err, nats.ErrAuthorization))
}
func (t *natsTarget) welcome(*nats.Conn) { t.refused.Store(false) }

// cut ends the wait for acknowledgements, which do not come by another connection.
func (t *natsTarget) cut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.disconnect != nil {
		t.disconnect()
	}
	t.connected, t.disconnect = context.WithCancel(context.Background())
}

// whileConnected is ctx until the connection goes.
func (t *natsTarget) whileConnected(ctx context.Context) (context.Context, context.CancelFunc) {
	bound, cancel := context.WithCancelCause(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	stop := context.AfterFunc(t.connected, func() { cancel(errInterrupt) })
	return bound, func() { stop(); cancel(nil) }
}

func (t *natsTarget) send(ctx context.Context, m *message.Message) error {
	subject, err := t.subject.of(m)
	if err != nil {
		return err
	}
	bound, release := t.whileConnected(ctx)
	defer release()
	if err = t.ensure(bound); err == nil {
		err = t.publish(bound, subject, m)
	}
	if err != nil && errors.Is(context.Cause(bound), errInterrupt) {
		return errInterrupt
	}
	return err
}

func (t *natsTarget) publish(ctx context.Context, subject string, m *message.Message) error {
	_, err := t.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: m.Payload, Header: natsHeader(m)},
		jetstream.WithMsgID(m.UUID), jetstream.WithExpectStream(t.config.Stream))
	return err
}

func natsHeader(m *message.Message) nats.Header {
	h := nats.Header{}
	for key, value := range m.Metadata {
		h.Set(key, strings.NewReplacer("\r", " ", "\n", " ").Replace(value))
	}
	h.Set("content-type", contentType)
	h.Set(uuidHeader, m.UUID)
	return h
}

// ensure makes the stream where the settings say so. One that is there is left as it is.
func (t *natsTarget) ensure(ctx context.Context) error {
	if !t.config.Create || t.made.Load() {
		return nil
	}
	_, err := t.js.Stream(ctx, t.config.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = t.js.CreateStream(ctx, jetstream.StreamConfig{Name: t.config.Stream, Subjects: []string{subjectsOf(t.config.Subject)}})
	}
	t.made.Store(err == nil)
	return err
}

// subjectsOf is every subject that a template can give: its parts before the first placeholder, and anything below.
func subjectsOf(subject string) string {
	var fixed []string
	for _, part := range strings.Split(placeholder.ReplaceAllString(subject, "{}"), ".") {
		if strings.Contains(part, "{}") {
			return strings.Join(append(fixed, ">"), ".")
		}
		fixed = append(fixed, part)
	}
	return subject
}

func (t *natsTarget) judge(err error) verdict {
	switch {
	case errors.Is(err, nats.ErrMaxPayload), apiCode(err) == jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return verdict{CodeTooLarge, true}
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders),
		apiCode(err) == jetstream.JSErrCodeStreamNotFound, apiCode(err) == natsOtherStream:
		return verdict{code: CodeUnroutable}
	case errors.Is(err, nats.ErrAuthorization), t.refused.Load(), errors.Is(t.conn.LastError(), nats.ErrPermissionViolation):
		return verdict{code: CodeUnauthorized}
	}
	return verdict{}
}

// natsOtherStream says that the subject belongs to another stream than the expected (JSStreamNotMatchErr of the server).
const natsOtherStream jetstream.ErrorCode = 10060

func apiCode(err error) jetstream.ErrorCode {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode
	}
	return 0
}

func (t *natsTarget) end() error {
	t.conn.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.disconnect()
	return nil
}
