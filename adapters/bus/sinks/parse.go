package sinks

import (
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/domain"
)

// Target is the part of a sink's configuration that says where its events go; whoever builds the target reads it.
type Target struct {
	Kind string     // one of the kinds that Parse was given
	Path string     // of its mapping, such as sinks.billing.webhook
	Node *yaml.Node // the mapping
}

// Parse reads the mapping below `sinks`, in its order. types are the wire names of the events of the log, kinds those of the
// targets. The error is CodeInvalid and its Field the full path of the key; the targets' own keys are not looked at yet.
func Parse(n *yaml.Node, types, kinds []string, secrets settings.Secrets) ([]Config, error) {
	root := settings.New("sinks", n, secrets)
	var all []Config
	for _, name := range root.Keys() {
		if err := domain.CheckSlug(root.Path(name), name); err != nil {
			return nil, err
		}
		c := parseSink(name, root.Section(name), types, kinds)
		if err := root.First(); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, root.Err()
}

func parseSink(name string, s *settings.Section, types, kinds []string) Config {
	c := Config{Name: name, Types: s.Texts("types"), Orgs: s.Texts("orgs"), Tenants: s.Texts("tenants"),
		FromStart: s.OneOf("from", "now", "start") == "start", Personal: Personal(s.OneOf("personal", string(Omit), string(Hash), string(Open))),
		Attempts: s.Number("attempts", 12, 1, 100), InFlight: s.Number("inFlight", 16, 1, 256), DisableAfter: s.Duration("disableAfter", 120*time.Hour)}
	for _, key := range []string{"types", "orgs", "tenants"} {
		if s.Has(key) && len(s.Take(key).Content) == 0 {
			s.Refuse(key, "must not be empty: left out, it stands for all")
		}
	}
	for _, t := range c.Types {
		if !known(t, types) {
			s.Refuse("types", "names %q, which no event of this release has", t)
		}
	}
	checkIDs(s, "orgs", domain.OrgID, c.Orgs)
	checkIDs(s, "tenants", domain.TenantID, c.Tenants)
	backoff := s.Section("backoff")
	c.First, c.Most = backoff.Duration("first", time.Second), backoff.Duration("most", 10*time.Minute)
	if c.First > c.Most {
		backoff.Refuse("most", "must not be shorter than first")
	}
	_ = backoff.Err()
	for _, kind := range kinds {
		switch {
		case !s.Has(kind):
		case c.Target.Kind != "":
			s.Refuse(kind, "stands beside %s: a sink has one target", c.Target.Kind)
		default:
			c.Target = Target{kind, s.Path(kind), s.Take(kind)}
		}
	}
	if s.Err() == nil && c.Target.Kind == "" {
		s.Refuse("", "must have one target: %s", strings.Join(kinds, ", "))
	}
	return c
}

// known tells whether a name, or a prefix and .*, fits a wire name that may be sent.
func known(name string, types []string) bool {
	prefix, wild := strings.CutSuffix(name, ".*")
	for _, t := range types {
		if !strings.HasPrefix(t, "sinkcursor.") && (t == name || wild && prefix != "" && strings.HasPrefix(t, prefix+".")) {
			return true
		}
	}
	return false
}

func checkIDs(s *settings.Section, key, prefix string, ids []string) {
	for _, id := range ids {
		if !domain.IsID(prefix, id) {
			s.Refuse(key, "must be ids beginning with %s_", prefix)
		}
	}
}
