package integration

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"go.uber.org/goleak"

	"github.com/tenure-dev/tenure/adapters/app"
	"github.com/tenure-dev/tenure/adapters/bus"
)

// quick is how soon the suites' nacked messages come again.
var quick = bus.Backoff{First: time.Millisecond, Last: 20 * time.Millisecond}

// leases hands out leases within one process.
type leases struct{ held sync.Map }

func (l *leases) Lead(ctx context.Context, name string, run func(ctx context.Context) error) error {
	one, _ := l.held.LoadOrStore(name, make(chan struct{}, 1))
	select {
	case one.(chan struct{}) <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-one.(chan struct{}) }()
	return run(ctx)
}

func groupName(suites string) string {
	return strings.NewReplacer("cg_", "cg-", "test_", "t-").Replace(suites)
}

// TestTheBusKeepsWatermillsContract runs watermill's own suite on the ordered subscriber over a real node. ForceShort is the suite's
// switch for fewer messages: its long form waits on thousands of single acknowledgements. GuaranteedOrder holds with any number
// of subscribers: one of a name reads at a time.
func TestTheBusKeepsWatermillsContract(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	log := app.MessageLog{Log: startStore(t).open()}
	turns := &leases{}
	grouped := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		s, err := bus.NewSubscriber(bus.SubscriberConfig{Log: log, Name: groupName(group), Redelivery: quick, Leases: turns,
			Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil))})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() }) // the suite's own test of order closes its subscribers before it subscribes
		return bus.NewPublisher(log), s
	}
	features := tests.Features{ConsumerGroups: true, GuaranteedOrder: true, Persistent: true, ForceShort: true}
	t.Run("a group", func(t *testing.T) {
		tests.TestPubSub(t, features, func(t *testing.T) (message.Publisher, message.Subscriber) { return grouped(t, "suite") }, grouped)
	})
	t.Run("no group", func(t *testing.T) {
		features.NewSubscriberReceivesOldMessages = true
		tests.TestNewSubscriberReceivesOldMessages(t, tests.TestContext{TestID: tests.NewTestID(), Features: features},
			func(t *testing.T) (message.Publisher, message.Subscriber) {
				return grouped(t, "cg_"+watermill.NewUUID())
			})
	})
}

// TestCompetingConsumersKeepWatermillsContract runs the suite on persistent subscriptions, which guarantee no order.
func TestCompetingConsumersKeepWatermillsContract(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	log := app.MessageLog{Log: startStore(t).open()}
	grouped := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		s, err := bus.NewConsumers(bus.ConsumersConfig{Groups: log, Name: groupName(group), Redelivery: quick,
			New: bus.GroupSettings{FromStart: true}, Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil))})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() }) // the suite's own test of order closes its subscribers before it subscribes
		return bus.NewPublisher(log), s
	}
	features := tests.Features{ConsumerGroups: true, Persistent: true, ForceShort: true}
	tests.TestPubSub(t, features, func(t *testing.T) (message.Publisher, message.Subscriber) { return grouped(t, "suite") }, grouped)
}
