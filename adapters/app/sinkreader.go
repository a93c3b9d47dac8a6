package app

import (
	"context"

	"github.com/tenure-dev/tenure/adapters/bus/sinks"
	"github.com/tenure-dev/tenure/adapters/postgres"
	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain/sink"
	"github.com/tenure-dev/tenure/graphql"
	"github.com/tenure-dev/tenure/graphql/view"
)

// sinkReader is the sinks of the configuration as GraphQL reads them: what was decided from the log, how they stand from the
// runner, and what they have tried from Postgres.
type sinkReader struct {
	bus        *commands.Bus
	runner     *sinks.Runner
	deliveries *postgres.Deliveries
}

// sinkReader is what GraphQL is given; nil where no sink is configured.
func (s *System) sinkReader() view.SinkReader {
	if s.sinks == nil {
		return nil
	}
	return sinkReader{s.Bus, s.sinks, s.deliveries}
}

func (r sinkReader) Sinks(ctx context.Context) ([]view.SinkStatus, error) {
	all := make([]view.SinkStatus, 0, len(r.runner.Sinks))
	for _, c := range r.runner.Sinks {
		s, err := r.status(ctx, c.Config)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func (r sinkReader) Sink(ctx context.Context, name string) (s view.SinkStatus, ok bool, err error) {
	for _, c := range r.runner.Sinks {
		if c.Name == name {
			s, err = r.status(ctx, c.Config)
			return s, err == nil, err
		}
	}
	return s, false, nil
}

func (r sinkReader) status(ctx context.Context, c sinks.Config) (view.SinkStatus, error) {
	state, revision, err := r.state(ctx, c.Name)
	if err != nil {
		return view.SinkStatus{}, err
	}
	now, _ := r.runner.Status(c.Name)
	s := view.SinkStatus{Name: c.Name, Target: c.Target.Kind, Phase: string(sink.Lifecycle.Phase(state)), ParkedCount: int64(state.Parked.Len()),
		OpenRedeliveries: int64(len(state.Open)), Revision: revision, Running: now.Running, Lag: now.Lag, Behind: now.Behind,
		InFlight: int64(now.InFlight), Held: int64(now.Held), LastSuccess: now.LastSuccess, LastFailure: now.LastFailure, FailingSince: now.FailingSince}
	if now.Oldest != nil {
		s.Oldest = &view.SinkEvent{Place: *now.Oldest, EventID: now.OldestEventID}
	}
	return s, nil
}

func (r sinkReader) state(ctx context.Context, name string) (sink.State, int64, error) {
	state, revision, err := r.bus.State(ctx, sink.Aggregate.Stream(name))
	if err != nil {
		return sink.State{}, 0, err
	}
	return state.(sink.State), revision, nil
}

func (r sinkReader) Parked(ctx context.Context, name string, after sink.Place, limit int) ([]sink.Parked, error) {
	state, _, err := r.state(ctx, name)
	if err != nil {
		return nil, err
	}
	return graphql.PageOfParked(state, after, limit), nil
}

func (r sinkReader) Deliveries(ctx context.Context, name string, before int64, limit int) ([]view.SinkDelivery, error) {
	rows, err := r.deliveries.Recent(ctx, name, before, limit)
	all := make([]view.SinkDelivery, len(rows))
	for i, d := range rows {
		all[i] = view.SinkDelivery{ID: d.ID, EventID: d.EventID, Type: d.Type, Stream: d.Stream, Revision: d.Revision, Attempt: int64(d.Attempt),
			StartedAt: d.Started, Took: d.Took, Outcome: d.Outcome, Code: d.Code, Status: int64(d.Status)}
	}
	return all, err
}
