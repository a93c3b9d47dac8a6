package sources_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/adapters/bus/sources"
	"github.com/tenure-dev/tenure/domain"
)

func parse(text string) ([]sources.Config, error) {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		return nil, err
	}
	return sources.Parse(settings.New("sources", &n, settings.Secrets{File: os.ReadFile,
		Env: func(name string) (string, bool) { return "svc-crm", name == "ACTOR" }}), []string{"nats", "amqp"})
}

func TestWhatIsLeftOutHasADefault(t *testing.T) {
	all, err := parse("{crm: {actor: svc-crm, nats: {url: u}}, abc: {actor: usr_x, amqp: {}}}")
	if err != nil {
		t.Fatal(err)
	}
	c := all[0]
	if len(all) != 2 || c.Name != "crm" || c.Actor != "svc-crm" || c.Parked != "tenure.sources.crm.parked" || c.Replies != "" || c.Attempts != 12 ||
		c.First != time.Second || c.Most != time.Minute || c.Commands != nil || c.Actors != nil || c.Kind != "nats" || !c.Settings.Has("url") {
		t.Errorf("%+v", c)
	}
}

func TestASourcesConfigurationIsReadStrictly(t *testing.T) {
	for text, field := range map[string]string{
		"actors: [usr_*, svc-a], commands: [tenant.request], replies: a.b, replyTo: [a.*, b], parked: p, attempts: 100, backoff: {first: 2s, most: 2s}": "",
		"odd: 1":                           "sources.crm.odd",
		"actor: [a]":                       "sources.crm.actor", // stands twice with the test's own
		"amqp: {}":                         "sources.crm.amqp",
		"actors: []":                       "sources.crm.actors",
		"actors: ['*']":                    "sources.crm.actors",
		"actors: [a b]":                    "sources.crm.actors",
		"commands: []":                     "sources.crm.commands",
		"commands: tenant.request":         "sources.crm.commands",
		"commands: [tenant.activate]":      "sources.crm.commands",
		"commands: [sink.park]":            "sources.crm.commands",
		"commands: [plane.issueJoinToken]": "sources.crm.commands",
		"replies: ''":                      "sources.crm.replies",
		"replies: 'a b'":                   "sources.crm.replies",
		"replies: {env: A}":                "sources.crm.replies.env",
		"replyTo: ['*']":                   "sources.crm.replyTo",
		"parked: a>b":                      "sources.crm.parked",
		"attempts: 0":                      "sources.crm.attempts",
		"attempts: 101":                    "sources.crm.attempts",
		"attempts: many":                   "sources.crm.attempts",
		"backoff: 5":                       "sources.crm.backoff",
		"backoff: {first: 0s}":             "sources.crm.backoff.first",
		"backoff: {first: 2m}":             "sources.crm.backoff.most",
		"backoff: {last: 2m}":              "sources.crm.backoff.last",
	} {
		_, err := parse("crm: {actor: svc-crm, nats: {}, " + text + "}")
		refusedFor(t, text, err, field)
	}
	for text, field := range map[string]string{
		"":                                     "",
		"[]":                                   "sources",
		"CRM: {}":                              "sources.CRM",
		"crm: 5":                               "sources.crm",
		"crm: {actor: {env: ACTOR}, nats: {}}": "",
		"crm: {nats: {}}":                      "sources.crm.actor",
		"crm: {actor: a b, nats: {}}":          "sources.crm.actor",
		"crm: {actor: svc-crm}":                "sources.crm",
	} {
		_, err := parse(text)
		refusedFor(t, text, err, field)
	}
}

func refusedFor(t *testing.T, text string, err error, field string) {
	t.Helper()
	var e *domain.Error
	if field == "" && err != nil || field != "" && (!errors.As(err, &e) || e.Code != domain.CodeInvalid || e.Field != field) {
		t.Errorf("%s: %v, want it refused for %q", text, err, field)
	}
}

func TestARunnerSaysWhatIsMissing(t *testing.T) {
	whole := sources.Source{Config: sources.Config{Name: "crm", Actor: "svc-crm"}, Subscriber: &line{}, Publisher: &publisher{}}
	for name, change := range map[string]func(*sources.Options){
		"bus":        func(o *sources.Options) { o.Commands = nil },
		"clock":      func(o *sources.Options) { o.Clock = nil },
		"epoch":      func(o *sources.Options) { o.Epoch = domain.Epoch{} },
		"actor":      func(o *sources.Options) { o.Sources[0].Actor = "" },
		"subscriber": func(o *sources.Options) { o.Sources[0].Subscriber = nil },
		"publisher":  func(o *sources.Options) { o.Sources[0].Publisher = nil },
		"a parking place elsewhere": func(o *sources.Options) {
			o.Sources[0].Topic, o.Sources[0].Parked = "asks", "asks"
		},
		"answers elsewhere": func(o *sources.Options) {
			o.Sources[0].Topic, o.Sources[0].Replies = "asks", "asks"
		},
		"twice": func(o *sources.Options) { o.Sources = append(o.Sources, whole) },
	} {
		o := sources.Options{Sources: []sources.Source{whole}, Commands: &bus{}, Clock: &clock{}, Epoch: epoch}
		if _, err := sources.New(o); err != nil {
			t.Fatal(err)
		}
		if change(&o); func() error { _, err := sources.New(o); return err }() == nil {
			t.Errorf("%s: nothing is missed", name)
		}
	}
}
