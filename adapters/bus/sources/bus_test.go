package sources_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tenure-dev/tenure/adapters/bus/sources"
	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/commands/commandstest"
	"github.com/tenure-dev/tenure/domain"
	orgs "github.com/tenure-dev/tenure/domain/org"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/reservation"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/domain/tier"
)

// sealer "seals" by capitals.
type sealer struct{}

func (sealer) Seal(_ context.Context, subject, text string) (domain.Sealed, error) {
	return domain.Sealed{Subject: subject, Key: "1", Text: []byte(strings.ToUpper(text))}, nil
}
func (sealer) Open(_ context.Context, s domain.Sealed) (string, bool, error) {
	return strings.ToLower(string(s.Text)), true, nil
}

func realBus(t *testing.T) (*commands.Bus, *commandstest.Log) {
	t.Helper()
	log := &commandstest.Log{}
	b, err := commands.New(commands.Config{Log: log, Facts: commands.Facts, Sealer: sealer{}, HashKey: make([]byte, 32), Epoch: epoch,
		Now: func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }, Aggregates: []domain.Aggregate{orgs.Aggregate,
			tier.Aggregate, tenant.Aggregate, plane.Aggregate, reservation.Aggregate, saga.Aggregate}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	return b, log
}

func TestARepeatIsAnsweredWithTheFirstOutcome(t *testing.T) {
	b, log := realBus(t)
	r := start(t, b)
	r.send(event("k-1", "org.register", `{"name":"Acme"}`))
	first := r.reply(r.replies)
	r.send(event("k-1", "org.register", `{"name":"Acme"}`))
	again := r.reply(r.replies)
	if first.Type != "org.register.accepted" || again.ID != first.ID || again.Data["position"] != first.Data["position"] ||
		first.Data["repeated"] != nil || again.Data["repeated"] != true || len(log.All()) != 1 {
		t.Errorf("%+v, then %+v; %d events", first, again, len(log.All()))
	}
	if e := log.All()[0]; e.Actor != "svc-crm" || e.CommandID != domain.CallerCommandID("svc-crm", "org.register", again.Data["id"].(string), "k-1") {
		t.Errorf("%+v", e.Meta)
	}
	r.send(event("k-1", "org.register", `{"name":"Other"}`))
	if a := r.reply(r.replies); a.Data["code"] != "idempotency_key_reused" {
		t.Errorf("%+v", a)
	}
}

func TestDuplicatesInFlightTakeEffectOnce(t *testing.T) {
	b, log := realBus(t)
	one, other := start(t, b), start(t, b) // two processes on one log
	for _, r := range []*rig{one, other} {
		r.send(event("k-1", "org.register", `{"name":"Acme"}`))
	}
	first, second := one.reply(one.replies), other.reply(other.replies)
	if first.Type != "org.register.accepted" || first.ID != second.ID || first.Data["position"] != second.Data["position"] || len(log.All()) != 1 {
		t.Errorf("%+v and %+v; %d events", first, second, len(log.All()))
	}
}

func TestCommandsMeetTheRealRulebook(t *testing.T) {
	b, log := realBus(t)
	r := start(t, b)
	ask := func(kind, data string, more ...string) answered {
		r.send(event("k-"+domain.DeriveUUID(kind, data).String(), kind, data, more...))
		return r.reply(r.replies)
	}
	p := ask("plane.register", `{"name":"north","capacity":{"slots":5},"labels":{"zone":"a"},"isolations":["pool"]}`)
	id, _ := p.Data["id"].(string)
	if a := ask("plane.cordon", `{"planeId":"`+id+`","reason":"disks are old"}`); a.Type != "plane.cordon.accepted" || a.Subject != "plane-"+id {
		t.Errorf("%+v", a)
	}
	for _, e := range log.All() {
		if strings.Contains(string(e.Data), "disks are old") {
			t.Errorf("the log holds a reason in the clear: %s", e.Data)
		}
	}
	if a := ask("plane.uncordon", `{"planeId":"`+id+`"}`, `"expectedrevision":0`); a.Data["code"] != "conflict" || a.Data["actual"] != 1.0 {
		t.Errorf("%+v", a)
	}
	for data, want := range map[string]string{
		`{"orgId":"` + org + `","name":"Acme"}`:                    "not_found orgId org-" + org,
		`{"orgId":"` + org + `"}`:                                  "invalid name ",
		`{"orgId":"` + org + `","name":"a\u0000b"}`:                "invalid name ",
		`{"orgId":"acme","name":"Acme"}`:                           "invalid orgId ",
		`{"orgId":null,"name":"` + strings.Repeat("x", 201) + `"}`: "invalid orgId ",
	} {
		a := ask("org.rename", data)
		if got := a.Data["code"].(string) + " " + a.Data["field"].(string) + " " + a.Subject; got != want {
			t.Errorf("%s: %s, want %s", data, got, want)
		}
	}
	if a := ask("saga.retry", `{"saga":"onboarding.sag_aaaaaaaaaaaaaaaaaaaaaaaaaa","reason":"now"}`); a.Data["code"] != "not_found" || a.Data["field"] != "saga" {
		t.Errorf("%+v", a)
	}
}

// TestEveryCommandCanBeRead sends every command with nothing in it: none may be unreadable or internal.
func TestEveryCommandCanBeRead(t *testing.T) {
	b, _ := realBus(t)
	r := start(t, b)
	for _, name := range sources.Commands() {
		r.send(event("k-1", name, "{}"))
		a := r.reply(r.replies)
		if name != "plane.register" && (a.Type != name+".refused" || a.Data["code"] != "invalid") { // of a plane, everything may be left out
			t.Errorf("%s: %+v", name, a)
		}
	}
}
