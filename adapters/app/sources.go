package app

import (
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tenure-dev/tenure/adapters/bus/broker"
	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/adapters/bus/sources"
)

// ParseSources reads the section sources of the configuration and builds what it leads to; no broker has to answer yet. A
// refusal is domain.CodeInvalid and names the key by its full path. What it gives must be handed to Start, or be closed.
func ParseSources(section *settings.Section, s Settings) ([]sources.Source, error) {
	configs, err := sources.Parse(section, broker.SourceKinds())
	if err != nil {
		return nil, err
	}
	var all []sources.Source
	for _, c := range configs {
		subscriber, answers, err := broker.OpenSource(c.Kind, c.Settings, s.Logger)
		if err != nil {
			return nil, errors.Join(err, closeSources(all))
		}
		all = append(all, sources.Source{Config: c, Subscriber: subscriber, Publisher: answers})
	}
	return all, nil
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
