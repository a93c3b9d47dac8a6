package broker

import (
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/domain"
)

func TestAWrongSettingIsRefusedByName(t *testing.T) {
	for name, c := range map[string]struct{ kind, text, field string }{
		"unknown":                {"nats", "{url: nats://h, subject: a, stream: S, colour: red}", "colour"},
		"twice":                  {"nats", "{url: nats://h, subject: a, stream: S, stream: S}", "stream"},
		"no URL":                 {"nats", "{subject: a, stream: S}", "url"},
		"wrong scheme":           {"nats", "{url: 'http://h', subject: a, stream: S}", "url"},
		"unset variable":         {"nats", "{url: {env: ABSENT}, subject: a, stream: S}", "url.env"},
		"part of a value":        {"nats", "{url: {env: A, colour: B}, subject: a, stream: S}", "url.colour"},
		"placeholder":            {"nats", "{url: nats://h, subject: 'a.{colour}', stream: S}", "subject"},
		"forbidden in subject":   {"nats", "{url: nats://h, subject: 'a.>', stream: S}", "subject"},
		"no stream":              {"nats", "{url: nats://h, subject: a}", "stream"},
		"not true or false":      {"nats", "{url: nats://h, subject: a, stream: S, create: 7}", "create"},
		"no duration":            {"nats", "{url: nats://h, subject: a, stream: S, timeout: 10}", "timeout"},
		"no topic":               {"kafka", "{brokers: ['h:9092']}", "topic"},
		"no brokers":             {"kafka", "{topic: t}", "brokers"},
		"password without TLS":   {"kafka", "{brokers: ['h:9092'], topic: t, user: u, password: p}", "tls"},
		"no exchange":            {"amqp", "{url: 'amqp://h', routingKey: k}", "exchange"},
		"wildcard in key":        {"amqp", "{url: 'amqp://h', exchange: e, routingKey: 'a.#'}", "routingKey"},
		"table with a quote":     {"postgres", `{url: 'postgres://h/d', topic: 'a"b'}`, "topic"},
		"unparseable port":       {"postgres", "{url: 'postgres://u:geheim@h:x/d', topic: t}", "url"},
		"certificates not PEM":   {"amqp", "{url: 'amqps://h', ca: x, exchange: e, routingKey: k}", "ca"},
		"file that is not there": {"nats", "{url: nats://h, credentials: {file: /gone}, subject: a, stream: S}", "credentials.file"},
		"bad name":               {"nats", "{url: nats://h, subject: a, stream: 'S.T'}", "stream"},
		"timeout out of range":   {"kafka", "{brokers: ['h:9092'], topic: t, timeout: 6m}", "timeout"},
		"TLS without its own":    {"kafka", "{brokers: ['h:9092'], topic: t, ca: '-----BEGIN CERTIFICATE-----'}", "ca"},
		"a user alone":           {"kafka", "{brokers: ['h:9092'], topic: t, tls: true, user: u}", "password"},
		"a broker without port":  {"kafka", "{brokers: [h], topic: t}", "brokers"},
		"name too long":          {"amqp", "{url: 'amqp://h', exchange: " + strings.Repeat("e", 256) + ", routingKey: k}", "exchange"},
		"schema's form":          {"postgres", "{url: 'postgres://h/d', topic: t, schema: A}", "schema"},
		"no durable":             {"nats source", "{url: nats://h, stream: S}", "durable"},
		"durable's form":         {"nats source", "{url: nats://h, stream: S, durable: 'a.b'}", "durable"},
		"source's stream's form": {"nats source", "{url: nats://h, stream: 'S.T', durable: d}", "stream"},
		"wait out of range":      {"nats source", "{url: nats://h, stream: S, durable: d, ackWait: 1ms}", "ackWait"},
		"no queue":               {"amqp source", "{url: 'amqp://h'}", "queue"},
		"queue's name too long":  {"amqp source", "{url: 'amqp://h', queue: " + strings.Repeat("q", 256) + "}", "queue"},
		"rest out of range":      {"amqp source", "{url: 'amqp://h', queue: q, redelivery: 11m}", "redelivery"},
		"no group":               {"postgres source", "{url: 'postgres://h/d', topic: t}", "group"},
		"poll out of range":      {"postgres source", "{url: 'postgres://h/d', topic: t, group: g, poll: 1ms}", "poll"},
		"not settings":           {"nats", "[]", ""},
		"limit out of range":     {"postgres", "{url: 'postgres://h/d', topic: t, maxBytes: 1}", "maxBytes"},
		"exchange's wrong type":  {"amqp", "{url: 'amqp://h', exchange: e, routingKey: k, exchangeType: odd}", "exchangeType"},
	} {
		t.Run(name, func(t *testing.T) {
			err := build(t, c.kind, c.text)
			var coded *domain.Error
			if !errors.As(err, &coded) || coded.Code != domain.CodeInvalid || coded.Field != strings.TrimSuffix("at."+c.field, ".") {
				t.Fatalf("got %v, want invalid at.%s", err, c.field)
			}
			if strings.Contains(err.Error(), "geheim") {
				t.Errorf("%v tells the password", err)
			}
		})
	}
}

// certificate is one in PEM.
var certificate = func() string {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}()

// build reads settings that stand at a path, and opens and closes what they lead to: a sink, or a source where the kind says so.
func build(t *testing.T, kind, text string) error {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	s := settings.New("at", &document, settings.Secrets{
		Env: func(name string) (string, bool) {
			if name == "CA" {
				return certificate, true
			}
			return "value of " + name, name != "ABSENT"
		},
		File: func(string) ([]byte, error) { return nil, os.ErrNotExist }})
	if kind, is := strings.CutSuffix(kind, " source"); is {
		subscriber, answers, err := OpenSource(kind, s, nil)
		if err != nil {
			return err
		}
		return errors.Join(subscriber.Close(), answers.Close())
	}
	p, err := OpenSink(kind, s, nil)
	if err != nil {
		return err
	}
	return p.Close()
}

// These are the keys of docs/sinks.md and docs/sources.md.
func TestEveryKeyIsTaken(t *testing.T) {
	for kind, text := range map[string]string{
		"nats":            "{url: nats://127.0.0.1:1, stream: S, subject: 'a.{type}', create: true, credentials: {env: CREDENTIALS}, ca: {env: CA}, timeout: 5m}",
		"kafka":           "{brokers: ['h:9092'], topic: t, tls: TRUE, ca: {env: CA}, user: u, password: {env: PASSWORD}, maxBytes: 1024, timeout: 100ms}",
		"amqp":            "{url: 'amqp://h', exchange: e, exchangeType: fanout, routingKey: k, declare: false, ca: {env: CA}, timeout: 10s}",
		"postgres":        "{url: 'postgres://h/d', topic: t, schema: s, declare: false, maxBytes: 1024, timeout: 10s}",
		"nats source":     "{url: nats://127.0.0.1:1, stream: S, durable: d, subject: a, redelivery: 1ms, ackWait: 1s, credentials: {env: CREDENTIALS}, ca: {env: CA}}",
		"amqp source":     "{url: 'amqp://h', queue: q, exchange: e, bindingKey: k, declare: false, redelivery: 10m, ca: {env: CA}}",
		"postgres source": "{url: 'postgres://h/d', topic: t, schema: s, group: g, declare: false, poll: 10ms, redelivery: 1s}",
	} {
		if err := build(t, kind, text); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestATemplateReplacesWhatTheBrokerForbids(t *testing.T) {
	m := message.NewMessage("1", nil)
	m.Metadata = message.Metadata{"type": "tenant.requested", "stream": ".a *>b."}
	subject, err := parseTemplate("subject", "tenure.{type}.{org}.{stream}", subjectForbids, 4096)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := subject.of(m); err != nil || got != "tenure.tenant.requested._._a___b_" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAFailureTellsNoCredentials(t *testing.T) {
	hide := hiding("amqp://user:ge%2Fheim@host/")
	err := fail(errors.New("dial amqp://user:ge%2Fheim@host/: ge/heim"), func(error) verdict { return verdict{} }, hide)
	if strings.Contains(err.Error(), "heim") {
		t.Error(err)
	}
}
