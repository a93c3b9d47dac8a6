package domain_test

import (
	"strings"
	"testing"

	"github.com/tenure-dev/tenure/domain"
	. "github.com/tenure-dev/tenure/domain/domaintest"
	"github.com/tenure-dev/tenure/domain/org"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/reservation"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/domain/sink"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/domain/tier"
)

func TestTheEpochsWire(t *testing.T) {
	Wire(t, []any{domain.EpochBegan{Number: 1, ID: "5485b0c6"}}, domain.EpochCatalog)
}

// aggregates are all that the Bus holds.
var aggregates = []domain.Aggregate{org.Aggregate, tier.Aggregate, tenant.Aggregate, plane.Aggregate, reservation.Aggregate, saga.Aggregate, sink.Aggregate}

// everything joins all catalogs, as the log is read.
func everything() *domain.Registry {
	catalogs := []domain.Catalog{domain.EpochCatalog, saga.Definitions, sink.Cursors}
	for _, a := range aggregates {
		catalogs = append(catalogs, a.Events, a.Commands)
	}
	return domain.NewRegistry(catalogs...)
}

func TestWireNamesAreUniqueAndOfOneForm(t *testing.T) {
	for _, e := range everything().Entries() {
		if !strings.Contains(e.Name, ".") || strings.Trim(e.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.") != "" {
			t.Errorf("%q is an odd name", e.Name)
		}
	}
}

// FuzzEveryMessage reads any payload under every name: it never panics, what is read is written and read the same again, and
// every fold takes it.
func FuzzEveryMessage(f *testing.F) {
	all := everything()
	for _, seed := range []string{``, `null`, `{}`, `[]`, `{"reason":{"text":"x"}}`, `{"reason":null,"revision":-1}`, `{"cost":{"slots":9223372036854775807}}`,
		`{"desired":{"change":1e3}}`, `{"expiresAt":"2026-01-02T03:04:05Z"}`, `{"tenants":[null]}`, `{"name":"\ud800"}`, `{"isolations":null,"capacity":{"a":1}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, e := range all.Entries() {
			m, err := all.Decode(e.Name, e.Revision, data)
			if err != nil {
				if domain.CodeOf(err) != domain.CodeInternal {
					t.Errorf("%s: %v", e.Name, err)
				}
				continue
			}
			name, rev, written, err := all.Encode(m)
			if err != nil || name != e.Name || rev != e.Revision {
				t.Errorf("%s is written as %s revision %d, %v", e.Name, name, rev, err)
				continue
			}
			again, err := all.Decode(name, rev, written)
			if err != nil {
				t.Errorf("%s: %s: %v", e.Name, written, err)
			} else if _, _, twice, _ := all.Encode(again); string(twice) != string(written) {
				t.Errorf("%s is written as %s, then as %s", e.Name, written, twice)
			}
			for _, a := range aggregates {
				state := a.Evolve(a.Zero, m)
				_ = a.Phase(a.Evolve(state, m))
			}
		}
	})
}
