package sagas_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/sagas"
	"github.com/tenure-dev/tenure/sagas/sagastest"
)

// BenchmarkOnboarding runs whole onboardings, 50 in flight, over a log in memory and a Bus that answers at once: what is left
// is the runner's own cost.
func BenchmarkOnboarding(b *testing.B) {
	log := &sagastest.Log{}
	bus := &instantBus{log: log}
	r, err := sagas.NewRunner(sagas.Config{Definitions: []*sagas.Definition{onboarding.Definition()}, Registry: registry,
		Epoch: domain.Epoch{Number: 1, ID: "e"}, Log: log, Source: log, Bus: bus, Open: sagas.FoldedStore{Source: log}, Cursors: &sagastest.Cursors{},
		Snapshots: planes{"p1", "p2", "p3"}, Planes: alwaysOnline{}, Lease: sagastest.NoLease{}, Clock: clock{}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = r.Run(ctx) })
	slots := make(chan struct{}, 50)
	enabled, ended := make(chan struct{}), make(chan struct{})
	running.Go(func() {
		n := 0
		for d := range log.Follow(ctx, 0) {
			switch d.Event.Type {
			case "saga.definition.enabled":
				close(enabled)
			case "saga.ended":
				<-slots
				if n++; n == b.N {
					close(ended)
				}
			}
		}
	})
	<-enabled
	b.ResetTimer()
	for n := range b.N {
		slots <- struct{}{}
		tenant := fmt.Sprint("ten", n)
		m := domain.Meta{Rev: 1, RecordedAt: time.Now(), Tenant: tenant, Org: "org_x"}
		name, _, data, _ := registry.Encode(requested{tenant})
		_ = log.Append(ctx, "tenant-"+tenant, domain.NoStream, []domain.Proposed{{ID: tenant, Type: name, Data: data, Meta: m.Encode()}})
	}
	<-ended
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "onboardings/s")
	cancel()
	running.Wait()
}

// instantBus appends what each ask leads to, and an operation's outcome right behind it.
type instantBus struct{ log *sagastest.Log }

func (i *instantBus) Execute(ctx context.Context, a sagas.Ask) (out sagas.Outcome, err error) {
	var e any
	switch c := a.Command.(type) {
	case reserve:
		e = reserved{}
	case operate:
		e = operationDue{domain.OperationIDFor(a.CommandID), c.Kind, c.Tenant}
	case activate:
		e = activated{}
	}
	stream := "x-" + a.CommandID
	put := func(rev int64, e any) sagas.Event {
		name, _, data, _ := registry.Encode(e)
		m := domain.Meta{Rev: 1, RecordedAt: time.Now(), Correlation: a.Correlation, CommandID: a.CommandID, Answers: &a.Answers}
		m.EventID, m.Stream, m.Revision, m.Type = domain.EventID(a.CommandID, stream, int(rev)), stream, rev, name
		err = i.log.Append(ctx, stream, rev-1, []domain.Proposed{{ID: m.EventID, Type: name, Data: data, Meta: m.Encode()}})
		return sagas.Event{Event: e, Meta: m}
	}
	out = sagas.Outcome{Stream: stream, Events: []sagas.Event{put(0, e)}}
	if _, ok := e.(operationDue); ok {
		put(1, operationDone{"op", "db"})
	}
	return out, err
}
