package app

import (
	"context"
	"time"

	"github.com/tenure-dev/tenure/adapters/postgres"
	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/graphql/view"
	"github.com/tenure-dev/tenure/projections"
	"github.com/tenure-dev/tenure/projections/readmodels"
	"github.com/tenure-dev/tenure/sagas"
)

// reads is the read models in Postgres as GraphQL reads them.
type reads struct{ *postgres.Reader }

func (r reads) Read(ctx context.Context, f func(view.Snapshot) error) error {
	return r.Reader.Read(ctx, func(s *postgres.Snapshot) error {
		return f(view.Rows{Queries: readmodels.Queries{Snapshot: s}, Position: s.Position, Begun: s.Begun})
	})
}

// live is the live group as GraphQL's subscriptions and waits see it.
type live struct{ *projections.Group }

func (l live) Watch(ctx context.Context, topics ...projections.Topic) (view.Feed, error) {
	return l.Group.Watch(ctx, topics...)
}

// commander is the Bus as the saga runner uses it.
type commander struct{ *commands.Bus }

func (c commander) Execute(ctx context.Context, ask sagas.Ask) (sagas.Outcome, error) {
	out, err := c.Bus.Execute(ctx, commands.Call{Command: ask.Command, Actor: ask.Actor, CommandID: ask.CommandID,
		Correlation: ask.Correlation, Causation: ask.Causation, Traceparent: ask.Traceparent, Answers: &ask.Answers})
	if err != nil {
		return sagas.Outcome{}, err
	}
	events := make([]sagas.Event, len(out.Events))
	for i, e := range out.Events {
		events[i] = sagas.Event{Meta: e.Meta, Event: e.Payload}
	}
	return sagas.Outcome{Stream: out.Stream, Revision: out.Revision, Events: events, Quiet: out.Quiet}, nil
}

// openSagas is the table of open sagas, as of a position that the live group has reached.
type openSagas struct {
	reader *postgres.Reader
	group  *projections.Group
}

// openBound is how long a runner that starts waits for the table; past it the runner tries again.
const openBound = 30 * time.Second

func (o openSagas) Open(ctx context.Context, atLeast uint64) (rows []sagas.OpenSaga, at uint64, err error) {
	if err := o.group.WaitFor(ctx, atLeast, openBound); err != nil {
		return nil, 0, err
	}
	err = o.reader.Read(ctx, func(s *postgres.Snapshot) error {
		found, err := readmodels.Queries{Snapshot: s}.OpenSagas(ctx)
		for _, r := range found {
			rows = append(rows, sagas.OpenSaga{Name: r.Name, Saga: r.Saga, Version: r.Version, Org: r.Org, Tenant: r.Tenant,
				Hears: r.Hears, StartEvent: r.StartEvent, Started: uint64(r.Started)})
		}
		at = s.Position.Commit
		return err
	})
	return rows, at, err
}
