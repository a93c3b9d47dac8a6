package sinks_test

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/adapters/bus/sinks"
	"github.com/tenure-dev/tenure/domain"
)

func parse(text string) ([]sinks.Config, error) {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		return nil, err
	}
	return sinks.Parse(settings.New("sinks", &n, settings.Secrets{
		Env: func(name string) (string, bool) { return someOrg, name == "ORG" },
		File: func(path string) ([]byte, error) {
			if path == "/there" {
				return []byte(someOrg + "\n"), nil
			}
			return nil, os.ErrNotExist
		}}), []string{"tenant.requested", "tenant.active", "org.registered", "sink.disabled", "sinkcursor.moved"}, []string{"webhook", "nats"})
}

func TestWhatIsLeftOutHasADefault(t *testing.T) {
	all, err := parse("{second: {nats: {}}, first: {webhook: {url: u}}}")
	if err != nil {
		t.Fatal(err)
	}
	c := all[0]
	if len(all) != 2 || c.Name != "second" || c.Target.Kind != "nats" || c.FromStart || c.Personal != sinks.Omit || c.Attempts != 12 ||
		c.First != time.Second || c.Most != 10*time.Minute || c.DisableAfter != 120*time.Hour || c.InFlight != 16 || c.Types != nil {
		t.Errorf("%+v", all)
	}
}

func TestASinksConfigurationIsReadStrictly(t *testing.T) {
	const target = "webhook: {url: u}"
	for text, field := range map[string]string{
		"billing: {types: [tenant.*, org.registered, sink.disabled], from: start, personal: hash, attempts: 100, backoff: {first: 2s, most: 2s}, " + target + "}": "",
		"[]":                                  "sinks",
		"Billing: {}":                         "sinks.Billing",
		"billing: 5":                          "sinks.billing",
		"billing: {}":                         "sinks.billing",
		"billing: {odd: 1, " + target + "}":   "sinks.billing.odd",
		"billing: {nats: {}, " + target + "}": "sinks.billing.nats",
		"billing: {types: [tenant.gone], " + target + "}":                   "sinks.billing.types",
		"billing: {types: [ten*], " + target + "}":                          "sinks.billing.types",
		"billing: {types: ['*'], " + target + "}":                           "sinks.billing.types",
		"billing: {types: [sinkcursor.moved], " + target + "}":              "sinks.billing.types",
		"billing: {types: [sinkcursor.*], " + target + "}":                  "sinks.billing.types",
		"billing: {types: [], " + target + "}":                              "sinks.billing.types",
		"billing: {types: tenant.active, " + target + "}":                   "sinks.billing.types",
		"billing: {orgs: [ten_aaaaaaaaaaaaaaaaaaaaaaaaaa], " + target + "}": "sinks.billing.orgs",
		"billing: {tenants: [x], " + target + "}":                           "sinks.billing.tenants",
		"billing: {from: end, " + target + "}":                              "sinks.billing.from",
		"billing: {personal: show, " + target + "}":                         "sinks.billing.personal",
		"billing: {attempts: 0, " + target + "}":                            "sinks.billing.attempts",
		"billing: {attempts: 101, " + target + "}":                          "sinks.billing.attempts",
		"billing: {attempts: many, " + target + "}":                         "sinks.billing.attempts",
		"billing: {inFlight: 257, " + target + "}":                          "sinks.billing.inFlight",
		"billing: {disableAfter: 0s, " + target + "}":                       "sinks.billing.disableAfter",
		"billing: {disableAfter: 5, " + target + "}":                        "sinks.billing.disableAfter",
		"billing: {backoff: {first: 2m, most: 1m}, " + target + "}":         "sinks.billing.backoff.most",
		"billing: {backoff: {last: 1m}, " + target + "}":                    "sinks.billing.backoff.last",
		"billing: {from: {env: UNSET}, " + target + "}":                     "sinks.billing.from.env",
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

func TestATargetIsLeftToWhoeverBuildsIt(t *testing.T) {
	all, err := parse("billing: {webhook: {url: u, colour: red}}")
	if err != nil {
		t.Fatal(err)
	}
	target := all[0].Target
	if keys := target.Settings.Keys(); target.Kind != "webhook" || target.Settings.Path("url") != "sinks.billing.webhook.url" || !slices.Equal(keys, []string{"url", "colour"}) {
		t.Errorf("the target is %+v: %v", target, keys)
	}
}

func TestATextMayStandInTheEnvironmentOrInAFile(t *testing.T) {
	for text, field := range map[string]string{
		"[{env: ORG}]":     "",
		"[{file: /there}]": "",
		"[{env: UNSET}]":   "sinks.billing.orgs[0].env",
		"[{file: /gone}]":  "sinks.billing.orgs[0].file",
		"[{vault: x}]":     "sinks.billing.orgs[0].vault",
	} {
		all, err := parse("billing: {orgs: " + text + ", webhook: {}}")
		refusedFor(t, text, err, field)
		if err == nil && !slices.Equal(all[0].Orgs, []string{someOrg}) {
			t.Errorf("%s: orgs are %q", text, all[0].Orgs)
		}
	}
}

const someOrg = "org_aaaaaaaaaaaaaaaaaaaaaaaaaa"
