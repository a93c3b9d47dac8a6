package integration

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/tenure-dev/tenure/adapters/bus/sources"
	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/org"
	"github.com/tenure-dev/tenure/graphql/generated"
)

// mutations says which command each mutation of the API gives. Empty: sources do not take it.
var mutations = map[string]string{
	"registerOrg": "org.register", "renameOrg": "org.rename",
	"publishTier": "tier.publish", "deprecateTier": "tier.deprecate",
	"requestTenant": "tenant.request", "suspendTenant": "tenant.suspend", "resumeTenant": "tenant.resume", "offboardTenant": "tenant.offboard",
	"registerPlane": "plane.register", "cordonPlane": "plane.cordon", "uncordonPlane": "plane.uncordon",
	"createJoinToken": "", // its answer is a secret, which no broker shall hold
	"retrySaga":       "saga.retry", "cancelSaga": "saga.cancel",
}

func TestSourcesTakeTheCommandsThatTheAPIExposes(t *testing.T) {
	var want []string
	for _, f := range generated.NewExecutableSchema(generated.Config{}).Schema().Mutation.Fields {
		command, ok := mutations[f.Name]
		if !ok {
			t.Errorf("%s is new: name its command here and in the table of package sources, or say why sources do not take it", f.Name)
		}
		if command != "" {
			want = append(want, command)
		}
	}
	if slices.Sort(want); !slices.Equal(sources.Commands(), want) {
		t.Errorf("sources take %q, the API gives %q", sources.Commands(), want)
	}
}

// TestASourceOverTheNodeAnswersARepeatAfterARestart runs a source on a real node and real Buses.
func TestASourceOverTheNodeAnswersARepeatAfterARestart(t *testing.T) {
	log := startStore(t).open()
	epoch := domain.Epoch{Number: 1, ID: "0a1b"}
	broker := gochannel.NewGoChannel(gochannel.Config{Persistent: true}, nil)
	defer broker.Close()
	replies, err := broker.Subscribe(context.Background(), "answers")
	if err != nil {
		t.Fatal(err)
	}
	request := []byte(`{"specversion":"1.0","id":"k-1","source":"/crm","type":"org.register","data":{"name":"Acme"}}`)
	serve := func() (position, stream string) {
		bus, err := commands.New(commands.Config{Log: log, Aggregates: []domain.Aggregate{org.Aggregate}, HashKey: make([]byte, 32), Epoch: epoch, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = bus.Close(context.Background()) }()
		topic := "asks-" + watermill.NewUUID()
		r, err := sources.New(sources.Options{Commands: bus, Clock: wallClock{}, Epoch: epoch, Sources: []sources.Source{{Subscriber: broker, Topic: topic,
			Publisher: broker, Config: sources.Config{Name: "crm", Actor: "svc-crm", Replies: "answers", First: time.Millisecond}}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		if err := broker.Publish(topic, message.NewMessage(watermill.NewUUID(), request)); err != nil {
			t.Fatal(err)
		}
		m := <-replies
		m.Ack()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		var a struct {
			Type, Subject string
			Data          struct{ Position string }
		}
		if err := json.Unmarshal(m.Payload, &a); err != nil || a.Type != "org.register.accepted" {
			t.Fatalf("%s: %v", m.Payload, err)
		}
		return a.Data.Position, a.Subject
	}
	first, stream := serve()
	again, same := serve()
	var events int
	for _, err := range log.Read(t.Context(), stream, 0) {
		if err != nil {
			t.Fatal(err)
		}
		events++
	}
	if first != again || stream != same || first == "0" || events != 1 {
		t.Errorf("first %s at %s, then %s at %s; %d events", stream, first, same, again, events)
	}
}
