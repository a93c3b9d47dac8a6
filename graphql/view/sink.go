package view

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
)

// Sink is a sink's status as the schema shows it.
type Sink struct {
	SinkStatus
	reader SinkReader
}

// ID is the name.
func (s *Sink) ID() string { return s.Name }

// LagEvents is null while another process sends, as is the rest of what the sender alone knows.
func (s *Sink) LagEvents() *int64 { return known(s, int64(s.Lag)) }

// LagSeconds is the age of the oldest unresolved event.
func (s *Sink) LagSeconds() *float64 { return known(s, s.Behind.Seconds()) }

// HeldStreams counts the streams whose failing events are kept from holding up the others.
func (s *Sink) HeldStreams() *int64 { return known(s, s.SinkStatus.Held) }

// InFlight counts the events that are being delivered.
func (s *Sink) InFlight() *int64 { return known(s, s.SinkStatus.InFlight) }

// LastSuccess is null if there was none.
func (s *Sink) LastSuccess() *time.Time { return known(s, s.SinkStatus.LastSuccess) }

// LastFailureCode is null if nothing failed.
func (s *Sink) LastFailureCode() *string {
	if !s.Running {
		return nil
	}
	return orNull(s.LastFailure)
}

// FailingSince is null if the last delivery succeeded.
func (s *Sink) FailingSince() *time.Time { return known(s, s.SinkStatus.FailingSince) }

// Oldest is the oldest unresolved event.
func (s *Sink) Oldest() *SinkEvent {
	if !s.Running {
		return nil
	}
	return s.SinkStatus.Oldest
}

func known[T any](s *Sink, value T) *T {
	if !s.Running {
		return nil
	}
	return &value
}

// Parked gives a page of the parked events.
func (s *Sink) Parked(ctx context.Context, first int64, after *string) (*ParkedEventConnection, error) {
	parked := list[sink.Parked, sink.Parked]{name: "parked of " + s.Name, parts: 2, place: func(e sink.Parked) []string {
		return []string{e.Stream, strconv.FormatInt(e.Revision, 10)}
	}, show: func(e sink.Parked) *sink.Parked { return &e }}
	return parked.outside(Page{first, after}, func(behind []string, limit int) ([]sink.Parked, error) {
		place := sink.Place{Stream: behind[0]}
		if place.Stream != "" {
			revision, err := strconv.ParseInt(behind[1], 10, 64)
			if err != nil {
				return nil, badCursor()
			}
			place.Revision = revision
		}
		return s.reader.Parked(ctx, s.Name, place, limit)
	})
}

// Deliveries gives a page of the log of deliveries, the newest first.
func (s *Sink) Deliveries(ctx context.Context, first int64, after *string) (*SinkDeliveryConnection, error) {
	deliveries := list[SinkDelivery, Delivery]{name: "deliveries of " + s.Name, parts: 1, place: func(d SinkDelivery) []string {
		return []string{strconv.FormatInt(d.ID, 10)}
	}, show: func(d SinkDelivery) *Delivery { return &Delivery{d} }}
	return deliveries.outside(Page{first, after}, func(behind []string, limit int) ([]SinkDelivery, error) {
		var before int64
		if behind[0] != "" {
			var err error
			if before, err = strconv.ParseInt(behind[0], 10, 64); err != nil || before < 1 {
				return nil, badCursor()
			}
		}
		return s.reader.Deliveries(ctx, s.Name, before, limit)
	})
}

// Delivery is one attempt to deliver an event, as the schema shows it.
type Delivery struct{ SinkDelivery }

// TookMs is how long it took, in milliseconds.
func (d *Delivery) TookMs() int64 { return d.Took.Milliseconds() }

// Status is null where no status of HTTP was answered.
func (d *Delivery) Status() *int64 {
	if d.SinkDelivery.Status == 0 {
		return nil
	}
	return &d.SinkDelivery.Status
}

// Code is null if the event was delivered.
func (d *Delivery) Code() *string { return orNull(d.SinkDelivery.Code) }

// SinkByName gives one sink, or nil.
func SinkByName(ctx context.Context, r SinkReader, name string) (*Sink, error) {
	if err := domain.CheckSlug("name", name); err != nil {
		return nil, err
	}
	status, ok, err := r.Sink(ctx, name)
	if err != nil || !ok {
		return nil, err
	}
	return &Sink{status, r}, nil
}

// Sinks gives a page of the sinks that are configured.
func Sinks(ctx context.Context, r SinkReader, p Page) (*SinkConnection, error) {
	sinks := list[SinkStatus, Sink]{name: "sinks", parts: 1, place: func(s SinkStatus) []string { return []string{s.Name} },
		show: func(s SinkStatus) *Sink { return &Sink{s, r} }}
	return sinks.outside(p, func(behind []string, limit int) ([]SinkStatus, error) {
		all, err := r.Sinks(ctx)
		if err != nil {
			return nil, err
		}
		all = slices.SortedFunc(slices.Values(all), func(a, b SinkStatus) int { return strings.Compare(a.Name, b.Name) })
		at, found := slices.BinarySearchFunc(all, behind[0], func(s SinkStatus, name string) int { return cmp.Compare(s.Name, name) })
		if found {
			at++
		}
		return all[at:min(at+limit, len(all))], nil
	})
}

// SinkPayload answers a mutation of a sink.
type SinkPayload struct {
	Answer
	Name   string
	Reader SinkReader
}

// Sink is the sink as of the mutation or later.
func (p *SinkPayload) Sink(ctx context.Context) (*Sink, error) {
	if p.refused() {
		return nil, nil
	}
	return SinkByName(ctx, p.Reader, p.Name)
}

// RedeliveryPayload answers redeliverSink.
type RedeliveryPayload struct {
	SinkPayload
	RedeliveryID *string // nil if nothing was asked for that is not open already
}
