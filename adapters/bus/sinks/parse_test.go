package sinks_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/adapters/bus/sinks"
	"github.com/tenure-dev/tenure/domain"
)

func parse(text string) ([]sinks.Config, error) {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		return nil, err
	}
	return sinks.Parse(&n, []string{"tenant.requested", "tenant.active", "org.registered", "sink.disabled", "sinkcursor.moved"},
		[]string{"webhook", "nats"}, sinks.Secrets{
			Env: func(name string) (string, bool) { return "from " + name, name == "SET" },
			File: func(path string) ([]byte, error) {
				if path == "/there" {
					return []byte("from a file\n"), nil
				}
				return nil, os.ErrNotExist
			}})
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
		"billing: {from: {env: UNSET}, " + target + "}":                     "sinks.billing.from",
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

func TestATargetsKeysAreReadStrictlyAndSecretsAreLookedUp(t *testing.T) {
	for text, field := range map[string]string{
		"url: u, secrets: [plain, {env: SET}, {file: /there}], timeout: 10s": "",
		"secrets: [plain, {env: SET}, {file: /there}]":                       "sinks.billing.webhook.url",
		"url: u, secrets: [{env: UNSET}]":                                    "sinks.billing.webhook.secrets[0]",
		"url: u, secrets: [a, {file: /gone}]":                                "sinks.billing.webhook.secrets[1]",
		"url: u, secrets: [{vault: x}]":                                      "sinks.billing.webhook.secrets[0]",
		"url: [u]":                                                           "sinks.billing.webhook.url",
		"url: u, timeout: soon":                                              "sinks.billing.webhook.timeout",
		"url: u, colour: red":                                                "sinks.billing.webhook.colour",
	} {
		all, err := parse("billing: {webhook: {" + text + "}}")
		if err != nil {
			t.Fatal(err)
		}
		s := all[0].Target
		s.Required("url")
		secrets := s.Texts("secrets")
		s.Duration("timeout", time.Second)
		refusedFor(t, text, s.Err(), field)
		if field == "" && strings.Join(secrets, ",") != "plain,from SET,from a file" {
			t.Errorf("secrets are %q", secrets)
		}
	}
}
