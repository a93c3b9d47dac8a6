package reservation_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/tenure-dev/tenure/domain"
	. "github.com/tenure-dev/tenure/domain/domaintest"
	"github.com/tenure-dev/tenure/domain/reservation"
)

const (
	org  = "org_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	one  = "ten_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	two  = "ten_baaaaaaaaaaaaaaaaaaaaaaaaa"
	slug = "slug.org_aaaaaaaaaaaaaaaaaaaaaaaaaa.crm"
)

var (
	held     = reservation.Held{Org: org, Holder: one}
	released = reservation.Released{Org: org, Holder: one}
)

func hold(holder string) reservation.Hold {
	return reservation.Hold{ID: slug, Org: org, Holder: holder}
}

func release(holder string) reservation.Release {
	return reservation.Release{ID: slug, Org: org, Holder: holder}
}

var spec = Spec{
	Aggregate: reservation.Aggregate,
	Reach:     map[string][]any{"held": {held}, "released": {held, released}},
	Examples:  []any{held, released, reservation.Noted{}, hold(one), release(one)},
	Cases: map[string]Case{
		"a free value is held":                       Given().When(hold(one)).Then(held),
		"the holder may hold it once more":           Given(held).When(hold(one)).Nothing(),
		"nobody else may":                            Given(held).When(hold(two)).Refused(domain.CodeAlreadyExists, "slug", "is taken"),
		"a released value is held by another":        Given(held, released).When(hold(two)).Then(reservation.Held{Org: org, Holder: two}),
		"a released value is held by the same again": Given(held, released).When(hold(one)).Then(held),
		"the holder releases it":                     Given(held).When(release(one)).Then(released),
		"nobody else releases it":                    Given(held).When(release(two)).Nothing(),
		"a late release does not take it from the next": Given(held, released, reservation.Held{Org: org, Holder: two}).
			When(release(one)).Nothing(),
		"what was never held is released quietly": Given().When(release(one)).Nothing(),
		"releasing twice is releasing once":       Given(held, released).When(release(one)).Nothing(),
	},
}

func TestSpecification(t *testing.T) { spec.Run(t) }

func TestNames(t *testing.T) {
	if got := reservation.SlugID(org, "crm"); got != slug || reservation.Aggregate.Stream(got) != "reservation-"+slug {
		t.Errorf("a slug's reservation is %q, in the stream %q", got, reservation.Aggregate.Stream(got))
	}
	if kind := reservation.Kind(slug); kind != "slug" {
		t.Errorf("kind is %q", kind)
	}
	CheckTargets(t, spec, slug)
	for _, e := range []domain.Owned{held, released} {
		if o, ten := e.Owner(); o != org || ten != one {
			t.Errorf("%T belongs to %q, %q", e, o, ten)
		}
	}
	if o, ten := reservation.Aggregate.Owner(reservation.State{}, slug); o != "" || ten != "" {
		t.Errorf("the reservation itself belongs to %q, %q", o, ten)
	}
}

func TestAValueHasOneHolderAtATime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		who := rapid.SampledFrom([]string{one, two, "ten_caaaaaaaaaaaaaaaaaaaaaaaaa"})
		holder := ""
		Walk(t, reservation.Aggregate, 40, func(t *rapid.T, _ any) any {
			if rapid.Bool().Draw(t, "hold") {
				return hold(who.Draw(t, "who"))
			}
			return release(who.Draw(t, "who"))
		}, func(s Step) {
			switch c := s.Command.(type) {
			case reservation.Hold:
				if (s.Err != nil) != (holder != "" && holder != c.Holder) {
					t.Fatalf("%s holds it and %s asks: %v", holder, c.Holder, s.Err)
				}
				if s.Err == nil {
					holder = c.Holder
				}
			case reservation.Release:
				if s.Err != nil {
					t.Fatal(s.Err)
				}
				if holder == c.Holder {
					holder = ""
				}
			}
			if got := s.After.(reservation.State).Holder; got != holder {
				t.Fatalf("held by %q, want %q", got, holder)
			}
		})
	})
}
