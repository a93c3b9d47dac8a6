package broker

import (
	"errors"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/domain"
)

func TestAWrongSettingIsRefusedByName(t *testing.T) {
	for name, c := range map[string]struct{ kind, text, field string }{
		"unknown":               {"nats", "{url: nats://h, subject: a, stream: S, colour: red}", "colour"},
		"twice":                 {"nats", "{url: nats://h, subject: a, stream: S, stream: S}", "stream"},
		"no URL":                {"nats", "{subject: a, stream: S}", "url"},
		"wrong scheme":          {"nats", "{url: 'http://h', subject: a, stream: S}", "url"},
		"unset variable":        {"nats", "{url: {env: ABSENT}, subject: a, stream: S}", "url"},
		"part of a value":       {"nats", "{url: {env: A, colour: B}, subject: a, stream: S}", "url.colour"},
		"placeholder":           {"nats", "{url: nats://h, subject: 'a.{colour}', stream: S}", "subject"},
		"forbidden in subject":  {"nats", "{url: nats://h, subject: 'a.>', stream: S}", "subject"},
		"no stream":             {"nats", "{url: nats://h, subject: a}", "stream"},
		"not true or false":     {"nats", "{url: nats://h, subject: a, stream: S, create: 7}", "create"},
		"no duration":           {"nats", "{url: nats://h, subject: a, stream: S, timeout: 10}", "timeout"},
		"no topic":              {"kafka", "{brokers: ['h:9092']}", "topic"},
		"no brokers":            {"kafka", "{topic: t}", "brokers"},
		"password without TLS":  {"kafka", "{brokers: ['h:9092'], topic: t, user: u, password: p}", "tls"},
		"no exchange":           {"amqp", "{url: 'amqp://h', routingKey: k}", "exchange"},
		"wildcard in key":       {"amqp", "{url: 'amqp://h', exchange: e, routingKey: 'a.#'}", "routingKey"},
		"table with a quote":    {"postgres", `{url: 'postgres://h/d', topic: 'a"b'}`, "topic"},
		"unparseable port":      {"postgres", "{url: 'postgres://u:geheim@h:x/d', topic: t}", "url"},
		"certificates not PEM":  {"amqp", "{url: 'amqps://h', ca: x, exchange: e, routingKey: k}", "ca"},
		"unknown kind":          {"smoke", "{}", "smoke"},
		"not settings":          {"nats", "[]", ""},
		"limit out of range":    {"postgres", "{url: 'postgres://h/d', topic: t, maxBytes: 1}", "maxBytes"},
		"exchange's wrong type": {"amqp", "{url: 'amqp://h', exchange: e, routingKey: k, exchangeType: odd}", "exchangeType"},
	} {
		t.Run(name, func(t *testing.T) {
			err := build(t, c.kind, c.text)
			var coded *domain.Error
			if !errors.As(err, &coded) || coded.Code != domain.CodeInvalid || coded.Field != c.field {
				t.Fatalf("got %v, want invalid %q", err, c.field)
			}
			if strings.Contains(err.Error(), "geheim") {
				t.Errorf("%v tells the password", err)
			}
		})
	}
}

func build(t *testing.T, kind, text string) error {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	sink, err := DecodeSink(kind, document.Content[0])
	if err != nil {
		return err
	}
	p, err := sink.Publisher(Ports{Lookup: Lookup{Env: func(string) (string, bool) { return "", false }}})
	if err == nil {
		err = p.Close()
	}
	return err
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
