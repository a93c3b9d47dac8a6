package sagastest_test

import (
	"testing"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/sagas"
	"github.com/tenure-dev/tenure/sagas/sagastest"
)

type (
	wanted struct {
		Tenant string `json:"tenant"`
	}
	made struct {
		Endpoint string `json:"endpoint"`
	}
	mk struct {
		Tenant string `json:"tenant"`
		Plane  string `json:"plane"`
	}
	plan struct {
		Tenant   string `json:"tenant"`
		Plane    string `json:"plane,omitempty"`
		Endpoint string `json:"endpoint,omitempty"`
	}
)

func (c mk) Target() string { return c.Plane }

var registry = domain.NewRegistry(domain.Catalog{domain.Fact[wanted]("wanted"), domain.Fact[made]("made"), domain.Fact[mk]("make")})

var making = sagas.Saga[plan]{Name: "making", Version: 1,
	Start: sagas.StartsWith(func(e wanted, _ domain.Meta) plan { return plan{Tenant: e.Tenant} }),
	Steps: []sagas.Step[plan]{
		{Name: "choose", Choose: sagas.Choose(func(p plan, planes []string, _ []sagas.Past) (sagas.Choice[plan], error) {
			p.Plane = planes[0]
			return sagas.Choice[plan]{Plan: p, Chosen: p.Plane}, nil
		})},
		{Name: "make", Within: time.Minute, Done: sagas.When[made](), Do: func(p plan) domain.Command { return mk{p.Tenant, p.Plane} },
			Learn: sagas.Learns(func(p plan, e made, _ domain.Meta) plan { p.Endpoint = e.Endpoint; return p })},
	}}.Definition()

func TestGolden(t *testing.T) {
	at := func(seconds int, what any) sagas.Trigger {
		return sagas.Trigger{Now: time.Date(2026, 1, 2, 3, 4, seconds, 0, time.UTC), What: what}
	}
	begin := sagas.Event{Event: wanted{"ten_x"}, Meta: domain.Meta{Stream: "tenant-ten_x", EventID: "e0", Tenant: "ten_x", Type: "wanted"}}
	s := sagastest.Golden(t, registry, making, "testdata", "well", at(0, begin), at(0, sagas.Snapshot{Step: "choose", Value: []string{"p1"}}),
		at(1, sagas.Accepted{Stream: "plane-p1"}), at(2, sagas.Event{Event: made{"db"}, Meta: domain.Meta{Stream: "plane-p1", EventID: "e1", Answers: &domain.Answers{}}}))
	if s.Ended == nil || s.Ended.Outcome != saga.OutcomeSucceeded {
		t.Errorf("ended as %+v", s.Ended)
	}
	s = sagastest.Golden(t, registry, making, "testdata", "cancelled", at(0, begin), at(0, sagas.Snapshot{Step: "choose", Value: []string{"p1"}}),
		at(1, saga.Cancelled{}), at(2, sagas.Wake{}))
	if s.Ended == nil || s.Ended.Outcome != saga.OutcomeFailed {
		t.Errorf("ended as %+v", s.Ended)
	}
	sagastest.ReplayGolden(t, registry, "testdata", making)
}
