package app

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenure-dev/tenure/adapters/bus/broker"
	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/adapters/bus/sinks"
	"github.com/tenure-dev/tenure/adapters/bus/webhook"
	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/adapters/keystore"
	"github.com/tenure-dev/tenure/adapters/postgres"
	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
)

// webhookKind is the kind of target that is no broker's.
const webhookKind = "webhook"

// Settings is what the targets and brokers of a configuration need beside it.
type Settings struct {
	Version string // of the program: webhooks are told
	Logger  *slog.Logger
}

// ParseSinks reads the section sinks of the configuration and builds the targets, which nobody has to answer yet. A refusal is
// domain.CodeInvalid and names the key by its full path. What it gives must be handed to Start, or be closed.
func ParseSinks(section *settings.Section, s Settings) ([]sinks.Sink, error) {
	var types []string
	for _, e := range Registry().Entries() {
		types = append(types, e.Name)
	}
	configs, err := sinks.Parse(section, types, append([]string{webhookKind}, broker.SinkKinds()...))
	if err != nil {
		return nil, err
	}
	var all []sinks.Sink
	for _, c := range configs {
		publisher, err := s.publisher(c.Target)
		if err != nil {
			return nil, errors.Join(err, closeSinks(all))
		}
		all = append(all, sinks.Sink{Config: c, Publisher: publisher})
	}
	return all, nil
}

func (s Settings) publisher(t sinks.Target) (message.Publisher, error) {
	if t.Kind == webhookKind {
		return webhook.Open(t.Settings, clock{}.Now, s.Version)
	}
	return broker.OpenSink(t.Kind, t.Settings, s.Logger)
}

func closeSinks(all []sinks.Sink) error {
	var errs []error
	for _, s := range all {
		errs = append(errs, s.Publisher.Close())
	}
	return errors.Join(errs...)
}

// sinkLock is the advisory lock of whoever runs the sinks.
const sinkLock = 0x74656e75_73696e6b // "tenusink"

// startSinks runs the sinks of the configuration, if there are any.
func (s *System) startSinks(all []sinks.Sink, keys *keystore.Store, db *postgres.Database, metrics *prometheus.Registry, logger *slog.Logger) (err error) {
	if len(all) == 0 {
		return nil
	}
	all = slices.Clone(all)
	for i := range all {
		if all[i].Key, err = keys.Secret("sink-"+all[i].Name, 32); err != nil {
			return err
		}
	}
	s.deliveries = &postgres.Deliveries{DB: db}
	s.sinks, err = sinks.New(sinks.Options{Sinks: all, Log: appendOnly{s.Log}, Commands: sinkCommander{s.Bus}, Opener: keys,
		Lease: postgres.Lock{DB: db, Key: sinkLock, After: clock{}.After}, Clock: clock{}, Jitter: rand.N[time.Duration], Epoch: s.Epoch,
		Deliveries: recorder{s.deliveries}, Metrics: metrics, Logger: logger.With("part", "sinks")})
	if err != nil {
		return err
	}
	s.goes("sinks", s.retried("sinks", s.sinks.Run))
	return nil
}

// appendOnly is the log for those who need of an append only whether it was done.
type appendOnly struct{ *eventstore.Log }

func (l appendOnly) Append(ctx context.Context, stream string, expected int64, events []domain.Proposed) error {
	_, err := l.Log.Append(ctx, stream, expected, events)
	return err
}

// sinkCommander is the Bus as the sinks use it.
type sinkCommander struct{ *commands.Bus }

func (c sinkCommander) Execute(ctx context.Context, command domain.Command, id string) (int64, error) {
	out, err := c.Bus.Execute(ctx, commands.Call{Command: command, CommandID: id, Actor: "sinks"})
	return out.Revision, err
}

// recorder keeps attempts in Postgres.
type recorder struct{ *postgres.Deliveries }

func (r recorder) Record(ctx context.Context, batch []sinks.Delivery) error {
	rows := make([]postgres.Delivery, len(batch))
	for i, d := range batch {
		rows[i] = postgres.Delivery{Sink: d.Sink, EventID: d.EventID, Type: d.Type, Stream: d.Stream, Revision: d.Revision, Attempt: d.Attempt,
			Started: d.Started, Took: d.Took, Outcome: d.Outcome, Code: d.Code, Status: d.Status}
	}
	return r.Deliveries.Record(ctx, rows)
}
