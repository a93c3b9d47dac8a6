package app

import (
	"context"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/tenure-dev/tenure/adapters/bus"
	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/domain"
)

// MessageLog is the log as the message bus uses it.
type MessageLog struct{ *eventstore.Log }

var (
	_ bus.Log    = MessageLog{}
	_ bus.Groups = MessageLog{}
)

// Append implements bus.Log.
func (l MessageLog) Append(ctx context.Context, expected int64, e bus.Event) error {
	id, err := uuid.Parse(e.ID)
	if err != nil {
		return domain.Invalid("id", "is no UUID")
	}
	return l.AppendRaw(ctx, e.Stream, expected, []eventstore.Raw{{ID: id, Type: e.Type, JSON: e.JSON, Data: e.Data, Metadata: e.Metadata}})
}

// At implements bus.Log.
func (l MessageLog) At(ctx context.Context, stream string, revision int64) (bus.Event, bool, error) {
	r, found, err := l.RawEvent(ctx, stream, max(revision, 0))
	return busEvent(r), found && revision >= 0, err
}

// Last implements bus.Log.
func (l MessageLog) Last(ctx context.Context, stream string) (bus.Event, bool, error) {
	r, found, err := l.RawEvent(ctx, stream, eventstore.End)
	return busEvent(r), found, err
}

// Follow implements bus.Log.
func (l MessageLog) Follow(ctx context.Context, after uint64) iter.Seq2[bus.Event, error] {
	return busEvents(l.FollowRaw(ctx, after))
}

// FollowStream implements bus.Log.
func (l MessageLog) FollowStream(ctx context.Context, stream string, after int64) iter.Seq2[bus.Event, error] {
	return busEvents(l.Log.FollowStream(ctx, stream, after))
}

// Epoch implements bus.Log.
func (l MessageLog) Epoch(ctx context.Context) (domain.Epoch, error) { return l.LastEpoch(ctx) }

// EnsureGroup implements bus.Groups.
func (l MessageLog) EnsureGroup(ctx context.Context, stream, group string, s bus.GroupSettings) error {
	return l.Log.EnsureGroup(ctx, stream, group, eventstore.GroupSettings(s))
}

// Consume implements bus.Groups.
func (l MessageLog) Consume(ctx context.Context, stream, group string, buffer int) iter.Seq2[bus.Consumed, error] {
	return func(yield func(bus.Consumed, error) bool) {
		for c, err := range l.Log.Consume(ctx, stream, group, buffer) {
			if !yield(bus.Consumed{Event: busEvent(c.Raw), Retries: c.Retries, Ack: c.Ack,
				Retry: func(reason string) error { return c.Nack(eventstore.Retry, reason) }}, err) {
				return
			}
		}
	}
}

func busEvents(from iter.Seq2[eventstore.Raw, error]) iter.Seq2[bus.Event, error] {
	return func(yield func(bus.Event, error) bool) {
		for r, err := range from {
			if !yield(busEvent(r), err) {
				return
			}
		}
	}
}

func busEvent(r eventstore.Raw) bus.Event {
	return bus.Event{Stream: r.Stream, Revision: r.Revision, Position: r.Position, ID: r.ID.String(), Type: r.Type, JSON: r.JSON,
		Created: time.Unix(0, r.Created*100), Data: r.Data, Metadata: r.Metadata}
}
