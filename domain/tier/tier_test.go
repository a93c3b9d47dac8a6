package tier_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tenure-dev/tenure/domain"
	. "github.com/tenure-dev/tenure/domain/domaintest"
	"github.com/tenure-dev/tenure/domain/tier"
)

const key = "standard"

var (
	plain = tier.Terms{Name: key, Isolation: "pool", Endpoint: "shared", Nodes: "shared", Cost: domain.Units{"slots": 1}}
	terms = tier.Terms{Name: "Premium", Isolation: "silo", Endpoint: "dedicated", Nodes: "reserved", Quotas: domain.Units{"connections": 50},
		Features: []string{"audit-log", "sso"}, Targets: domain.Units{"availability-ppm": 999_900}, Cost: domain.Units{"memory-mb": 2048, "slots": 4}}
	first      = tier.Published{Version: 1, Terms: plain}
	deprecated = tier.Deprecated{}
)

// with is the plain terms with a change.
func with(change func(*tier.Terms)) tier.Terms {
	t := plain
	change(&t)
	return t
}

var spec = Spec{
	Aggregate: tier.Aggregate,
	Reach:     map[string][]any{"published": {first}, "deprecated": {first, deprecated}},
	Examples: []any{
		tier.Published{Version: 2, Terms: terms}, deprecated, tier.Noted{},
		tier.Publish{TierKey: key, Terms: terms}, tier.Deprecate{TierKey: key},
	},
	Cases: map[string]Case{
		"what is left out has a default": Given().When(tier.Publish{TierKey: key}).Then(first),
		"what is given is kept": Given().When(tier.Publish{TierKey: "premium", Terms: terms}).
			Then(tier.Published{Version: 1, Terms: terms}),
		"features are a set": Given().When(tier.Publish{TierKey: key, Terms: tier.Terms{Features: []string{"sso", "audit-log", "sso"}}}).
			Then(tier.Published{Version: 1, Terms: with(func(t *tier.Terms) { t.Features = []string{"audit-log", "sso"} })}),
		"a tier may cost nothing": Given().When(tier.Publish{TierKey: key, Terms: tier.Terms{Cost: domain.Units{}}}).
			Then(tier.Published{Version: 1, Terms: with(func(t *tier.Terms) { t.Cost = domain.Units{} })}),
		"the same terms again change nothing": Given(first).When(tier.Publish{TierKey: key}).Nothing(),
		"the same terms written out change nothing": Given(tier.Published{Version: 1, Terms: terms}).
			When(tier.Publish{TierKey: "premium", Terms: func() tier.Terms { t := terms; t.Features = []string{"sso", "audit-log"}; return t }()}).Nothing(),
		"another name is the next version":      Given(first).When(tier.Publish{TierKey: key, Terms: tier.Terms{Name: "B"}}).Then(second(func(t *tier.Terms) { t.Name = "B" })),
		"another isolation is the next version": Given(first).When(tier.Publish{TierKey: key, Terms: tier.Terms{Isolation: "silo"}}).Then(second(func(t *tier.Terms) { t.Isolation = "silo" })),
		"another endpoint is the next version":  Given(first).When(tier.Publish{TierKey: key, Terms: tier.Terms{Endpoint: "dedicated"}}).Then(second(func(t *tier.Terms) { t.Endpoint = "dedicated" })),
		"other nodes are the next version":      Given(first).When(tier.Publish{TierKey: key, Terms: tier.Terms{Nodes: "reserved"}}).Then(second(func(t *tier.Terms) { t.Nodes = "reserved" })),
		"other quotas are the next version": Given(first).When(tier.Publish{TierKey: key, Terms: tier.Terms{Quotas: domain.Units{"connections": 5}}}).
			Then(second(func(t *tier.Terms) { t.Quotas = domain.Units{"connections": 5} })),
		"other features are the next version": Given(first).When(tier.Publish{TierKey: key, Terms: tier.Terms{Features: []string{"sso"}}}).
			Then(second(func(t *tier.Terms) { t.Features = []string{"sso"} })),
		"other targets are the next version": Given(first).When(tier.Publish{TierKey: key, Terms: tier.Terms{Targets: domain.Units{"uptime-ppm": 5}}}).
			Then(second(func(t *tier.Terms) { t.Targets = domain.Units{"uptime-ppm": 5} })),
		"another cost is the next version": Given(first).When(tier.Publish{TierKey: key, Terms: tier.Terms{Cost: domain.Units{"slots": 2}}}).
			Then(second(func(t *tier.Terms) { t.Cost = domain.Units{"slots": 2} })),
		"only the latest version is compared": Given(first, second(func(t *tier.Terms) { t.Name = "B" })).When(tier.Publish{TierKey: key}).
			Then(tier.Published{Version: 3, Terms: plain}),
		"publishing the same terms puts a deprecated tier back on offer": Given(first, deprecated).When(tier.Publish{TierKey: key}).
			Then(tier.Published{Version: 2, Terms: plain}),

		"a tier is deprecated":                       Given(first).When(tier.Deprecate{TierKey: key}).Then(deprecated),
		"deprecating once more changes nothing":      Given(first, deprecated).When(tier.Deprecate{TierKey: key}).Nothing(),
		"a tier that is not there is not deprecated": Given().When(tier.Deprecate{TierKey: key}).NotAllowed("deprecate", "absent", "published"),
	},
}

func second(change func(*tier.Terms)) tier.Published {
	return tier.Published{Version: 2, Terms: with(change)}
}

func TestSpecification(t *testing.T) { spec.Run(t) }

func TestInputIsRefusedByItsField(t *testing.T) {
	publish := func(change func(*tier.Terms)) tier.Publish {
		c := tier.Publish{TierKey: key, Terms: terms}
		change(&c.Terms)
		return c
	}
	many := domain.Units{}
	for i := range 65 {
		many["unit-"+strings.Repeat("x", i%30)+string(rune('a'+i/30))] = 1
	}
	CheckInputs(t, map[string]Input{
		"all of it":            Good(publish(func(*tier.Terms) {})),
		"the key alone":        Good(tier.Publish{TierKey: key}),
		"no key":               Bad("tierKey", tier.Publish{}),
		"odd key":              Bad("tierKey", tier.Publish{TierKey: "Standard"}),
		"long name":            Bad("name", publish(func(t *tier.Terms) { t.Name = strings.Repeat("n", 201) })),
		"odd isolation":        Bad("isolation", publish(func(t *tier.Terms) { t.Isolation = "Pool" })),
		"odd endpoint":         Bad("endpoint", publish(func(t *tier.Terms) { t.Endpoint = "reserved" })),
		"odd nodes":            Bad("nodes", publish(func(t *tier.Terms) { t.Nodes = "pool" })),
		"odd quota":            Bad("quotas", publish(func(t *tier.Terms) { t.Quotas = domain.Units{"Users": 1} })),
		"negative quota":       Bad("quotas.users", publish(func(t *tier.Terms) { t.Quotas = domain.Units{"users": -1} })),
		"no connections":       Bad("quotas.connections", publish(func(t *tier.Terms) { t.Quotas = domain.Units{"connections": 0} })),
		"one connection":       Good(publish(func(t *tier.Terms) { t.Quotas = domain.Units{"connections": 1} })),
		"10000 connections":    Good(publish(func(t *tier.Terms) { t.Quotas = domain.Units{"connections": 10_000} })),
		"too many connections": Bad("quotas.connections", publish(func(t *tier.Terms) { t.Quotas = domain.Units{"connections": 10_001} })),
		"target above 2^53":    Bad("targets.rto-ms", publish(func(t *tier.Terms) { t.Targets = domain.Units{"rto-ms": domain.MaxAmount + 1} })),
		"highest target":       Good(publish(func(t *tier.Terms) { t.Targets = domain.Units{"rto-ms": domain.MaxAmount} })),
		"negative cost":        Bad("cost.slots", publish(func(t *tier.Terms) { t.Cost = domain.Units{"slots": -1} })),
		"many units of cost":   Bad("cost", publish(func(t *tier.Terms) { t.Cost = many })),
		"odd feature":          Bad("features", publish(func(t *tier.Terms) { t.Features = []string{"sso", ""} })),
		"a hundred features":   Good(publish(func(t *tier.Terms) { t.Features = slices.Repeat([]string{"sso"}, 100) })),
		"more features":        Bad("features", publish(func(t *tier.Terms) { t.Features = slices.Repeat([]string{"sso"}, 101) })),
		"deprecate":            Good(tier.Deprecate{TierKey: key}),
		"deprecate nothing":    Bad("tierKey", tier.Deprecate{}),
		"deprecate by an id":   Bad("tierKey", tier.Deprecate{TierKey: "org_aaaaaaaaaaaaaaaaaaaaaaaaaa"}),
	})
}

func TestATiersEventsAreNobodys(t *testing.T) {
	if o, ten := tier.Aggregate.Owner(tier.State{}, key); o != "" || ten != "" {
		t.Errorf("owner is %q, %q", o, ten)
	}
	CheckTargets(t, spec, key)
}

func TestVersionsCountUpByOneAndPublishingTwiceIsPublishingOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		Walk(t, tier.Aggregate, 30, func(t *rapid.T, _ any) any {
			if rapid.IntRange(0, 3).Draw(t, "which") == 0 {
				return tier.Deprecate{TierKey: key}
			}
			return tier.Publish{TierKey: key, Terms: tier.Terms{
				Isolation: rapid.SampledFrom([]string{"", "pool", "silo"}).Draw(t, "isolation"),
				Quotas:    rapid.SampledFrom([]domain.Units{nil, {}, {"users": 3}}).Draw(t, "quotas"),
				Features:  rapid.SampledFrom([][]string{nil, {}, {"sso"}, {"sso", "api", "sso"}}).Draw(t, "features"),
			}}
		}, func(s Step) {
			before, after := s.Before.(tier.State), s.After.(tier.State)
			_, publishes := s.Command.(tier.Publish)
			switch {
			case publishes && s.Err != nil:
				t.Fatalf("publishing was refused: %v", s.Err)
			case publishes && len(s.Events) == 1 && after.Version != before.Version+1, !publishes && after.Version != before.Version:
				t.Fatalf("%#v led from version %d to %d", s.Command, before.Version, after.Version)
			case publishes && after.Phase != tier.Offered:
				t.Fatalf("%#v led to phase %q", s.Command, after.Phase)
			}
			if again, err := tier.Aggregate.Decide(after, s.Command); len(again) > 0 || (err != nil) != (s.Err != nil) {
				t.Fatalf("%#v once more led to %v, %v", s.Command, again, err)
			}
		})
	})
}
