package sinks

import (
	"strings"
	"time"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/domain"
)

// Target is the part of a sink's configuration that says where its events go; whoever builds the target reads it.
type Target struct {
	Kind     string            // one of the kinds that Parse was given
	Settings *settings.Section // its mapping, such as sinks.billing.webhook
}

// Parse reads the mapping of `sinks`, in its order. types are the wire names of the events of the log, kinds those of the
// targets. The error is CodeInvalid and its Field the full path of the key; the targets' own keys are not looked at yet.
func Parse(root *settings.Section, types, kinds []string) ([]Config, error) {
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
	c := Config{Name: name, Types: s.Some("types"), Orgs: s.Some("orgs"), Tenants: s.Some("tenants"),
		FromStart: s.OneOf("from", "now", "start") == "start", Personal: Personal(s.OneOf("personal", string(Omit), string(Hash), string(Open))),
		Attempts: s.Number("attempts", 12, 1, 100), InFlight: s.Number("inFlight", 16, 1, 256), DisableAfter: s.Duration("disableAfter", 120*time.Hour)}
	for _, t := range c.Types {
		if !known(t, types) {
			s.Refuse("types", "names %q, which no event of this release has", t)
		}
	}
	checkIDs(s, "orgs", domain.OrgID, c.Orgs)
	checkIDs(s, "tenants", domain.TenantID, c.Tenants)
	c.First, c.Most = s.Backoff(time.Second, 10*time.Minute)
	c.Target.Kind, c.Target.Settings = s.One(kinds)
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
