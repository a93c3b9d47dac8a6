package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

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

// Settings is what reading a configuration needs of the outside.
type Settings struct {
	Env     func(name string) (value string, set bool)
	Version string // of the program: webhooks are told
	Logger  *slog.Logger
}

// ParseSinks reads the mapping below sinks in the configuration and builds the targets, which nobody has to answer yet. A
// refusal is domain.CodeInvalid and names the key by its whole path. What it gives must be handed to Start, or be closed.
func ParseSinks(n *yaml.Node, s Settings) ([]sinks.Sink, error) {
	var types []string
	for _, e := range Registry().Entries() {
		types = append(types, e.Name)
	}
	configs, err := sinks.Parse(n, types, append([]string{webhookKind}, broker.SinkKinds()...), settings.Secrets{Env: s.Env, File: os.ReadFile})
	if err != nil {
		return nil, err
	}
	var all []sinks.Sink
	for _, c := range configs {
		publisher, err := s.publisher(c.Target)
		if err != nil {
			return nil, errors.Join(below(c.Target.Path, err), closeSinks(all))
		}
		all = append(all, sinks.Sink{Config: c, Publisher: publisher})
	}
	return all, nil
}

func (s Settings) publisher(t sinks.Target) (message.Publisher, error) {
	if t.Kind == webhookKind {
		config, err := webhook.Parse(t.Node, s.Env)
		if err != nil {
			return nil, err
		}
		return webhook.New(config, clock{}.Now, s.Version)
	}
	target, err := broker.DecodeSink(t.Kind, t.Node)
	if err != nil {
		return nil, err
	}
	return target.Publisher(s.ports())
}

func (s Settings) ports() broker.Ports {
	return broker.Ports{Lookup: broker.Lookup{Env: s.Env, File: os.ReadFile}, Logger: s.Logger}
}

// below gives a refusal of a part's key the whole path.
func below(path string, err error) error {
	e, ok := errors.AsType[*domain.Error](err)
	if !ok {
		return fmt.Errorf("%s: %w", path, err)
	}
	moved := *e
	if moved.Field = path; e.Field != "" {
		moved.Field = path + "." + e.Field
	}
	return &moved
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
