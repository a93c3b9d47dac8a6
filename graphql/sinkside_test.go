package graphql_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain/sink"
	"github.com/tenure-dev/tenure/graphql"
)

// sinkSide is a SinkReader: what was decided is read from the Bus, the rest is as the test says.
type sinkSide struct {
	bus *commands.Bus

	mu         sync.Mutex
	configured []graphql.SinkStatus
	deliveries map[string][]graphql.SinkDelivery // the oldest first
	broken     error                             // of the log of deliveries
}

// configure says which sinks there are.
func (s *sinkSide) configure(sinks ...graphql.SinkStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.configured = sinks
}

func (s *sinkSide) Sinks(ctx context.Context) ([]graphql.SinkStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []graphql.SinkStatus
	for _, c := range s.configured {
		state, revision, err := s.state(ctx, c.Name)
		if err != nil {
			return nil, err
		}
		c.Phase, c.Revision = string(sink.Lifecycle.Phase(state)), revision
		c.ParkedCount, c.OpenRedeliveries = int64(state.Parked.Len()), int64(len(state.Open))
		all = append(all, c)
	}
	return all, nil
}

func (s *sinkSide) Sink(ctx context.Context, name string) (found graphql.SinkStatus, ok bool, err error) {
	all, err := s.Sinks(ctx)
	for _, c := range all {
		if c.Name == name {
			return c, true, err
		}
	}
	return found, false, err
}

func (s *sinkSide) Parked(ctx context.Context, name string, after sink.Place, limit int) ([]sink.Parked, error) {
	state, _, err := s.state(ctx, name)
	return graphql.PageOfParked(state, after, limit), err
}

func (s *sinkSide) state(ctx context.Context, name string) (sink.State, int64, error) {
	state, revision, err := s.bus.State(ctx, sink.Aggregate.Stream(name))
	if err != nil {
		return sink.State{}, revision, err
	}
	return state.(sink.State), revision, nil
}

func (s *sinkSide) Deliveries(_ context.Context, name string, before int64, limit int) (page []graphql.SinkDelivery, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.deliveries[name]
	for i := len(kept) - 1; i >= 0 && len(page) < limit; i-- {
		if before == 0 || kept[i].ID < before {
			page = append(page, kept[i])
		}
	}
	return page, s.broken
}

// delivers keeps deliveries of a sink, under ids from 1.
func (s *sinkSide) delivers(name string, deliveries ...graphql.SinkDelivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deliveries == nil {
		s.deliveries = map[string][]graphql.SinkDelivery{}
	}
	for _, d := range deliveries {
		d.ID = int64(len(s.deliveries[name])) + 1
		s.deliveries[name] = append(s.deliveries[name], d)
	}
}

// parks sets an event aside as the sinks' runtime would.
func (r *rig) parks(name, stream string, revision int64) {
	r.t.Helper()
	r.execute(sink.Park{Sink: name, Place: sink.Place{Stream: stream, Revision: revision}, EventID: stream + ":" + itoa(int(revision)), Attempts: 12, Code: "status-500"})
}

// asked are the redeliveries that the log holds.
func (r *rig) asked() (all []sink.RedeliveryRequested) {
	r.t.Helper()
	for _, e := range r.log.All() {
		if e.Type != "sink.redelivery.requested" {
			continue
		}
		fact, err := sinkFacts.DecodeRecorded(e)
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, fact.(sink.RedeliveryRequested))
	}
	return all
}

// stream and revision of a place as a variable holds them.
func place(stream string, revision int) map[string]any {
	return map[string]any{"stream": stream, "revision": revision}
}

func withSinks(t *testing.T, names ...string) *rig {
	r := newRig(t)
	var all []graphql.SinkStatus
	for _, name := range names {
		all = append(all, graphql.SinkStatus{Name: name, Target: "webhook"})
	}
	r.sinks.configure(all...)
	return r
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
