package app

import (
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/adapters/bus/broker"
	"github.com/tenure-dev/tenure/adapters/bus/sources"
)

// ParseSources reads the mapping below sources in the configuration and builds what it leads to; no broker has to answer yet. A
// refusal is domain.CodeInvalid and names the key by its whole path. What it gives must be handed to Start, or be closed.
func ParseSources(n *yaml.Node, s Settings) ([]sources.Source, error) {
	configs, err := sources.Parse(n, broker.SourceKinds())
	if err != nil {
		return nil, err
	}
	var all []sources.Source
	for _, c := range configs {
		source, err := s.source(c)
		if err != nil {
			return nil, errors.Join(below("sources."+c.Name+"."+c.Kind, err), closeSources(all))
		}
		all = append(all, source)
	}
	return all, nil
}

func (s Settings) source(c sources.Config) (sources.Source, error) {
	from, err := broker.DecodeSource(c.Kind, c.Node)
	if err != nil {
		return sources.Source{}, err
	}
	subscriber, err := from.Subscriber(s.ports())
	if err != nil {
		return sources.Source{}, err
	}
	answers, err := from.Answers(s.ports())
	if err != nil {
		return sources.Source{}, errors.Join(err, subscriber.Close())
	}
	return sources.Source{Config: c, Subscriber: subscriber, Publisher: answers}, nil
}

func closeSources(all []sources.Source) error {
	var errs []error
	for _, s := range all {
		errs = append(errs, s.Subscriber.Close(), s.Publisher.Close())
	}
	return errors.Join(errs...)
}

// startSources takes commands from the brokers of the configuration, if there are any.
func (s *System) startSources(all []sources.Source, metrics *prometheus.Registry, logger *slog.Logger) error {
	if len(all) == 0 {
		return nil
	}
	r, err := sources.New(sources.Options{Sources: all, Commands: s.Bus, Clock: clock{}, Epoch: s.Epoch, Metrics: metrics, Logger: logger.With("part", "sources")})
	if err != nil {
		return err
	}
	s.goes("sources", r.Run)
	return nil
}
