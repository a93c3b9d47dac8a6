package graphql

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
	"github.com/tenure-dev/tenure/graphql/generated"
	"github.com/tenure-dev/tenure/graphql/view"
)

func (m mutation) PauseSink(ctx context.Context, in generated.PauseSinkInput) (*view.SinkPayload, error) {
	p, _, err := m.sink(ctx, sink.Pause{Sink: in.Sink, Reason: domain.Clear(text(in.Reason))}, form{in.IdempotencyKey, in.ExpectedRevision, "sink"})
	return &p, err
}

func (m mutation) ResumeSink(ctx context.Context, in generated.ResumeSinkInput) (*view.SinkPayload, error) {
	p, _, err := m.sink(ctx, sink.Resume{Sink: in.Sink, Reason: domain.Clear(text(in.Reason))}, form{in.IdempotencyKey, in.ExpectedRevision, "sink"})
	return &p, err
}

func (m mutation) RedeliverSink(ctx context.Context, in generated.RedeliverSinkInput) (*view.RedeliveryPayload, error) {
	c, err := redeliveryOf(in)
	if err != nil {
		mend, err := userErrors(err, "sink")
		return &view.RedeliveryPayload{SinkPayload: view.SinkPayload{Answer: view.Answer{UserErrors: mend}}}, err
	}
	p, o, err := m.sink(ctx, c, form{in.IdempotencyKey, in.ExpectedRevision, "sink"})
	answer := &view.RedeliveryPayload{SinkPayload: p}
	for _, e := range o.Events {
		if asked, ok := e.Payload.(sink.RedeliveryRequested); ok {
			answer.RedeliveryID = &asked.ID
		}
	}
	return answer, err
}

// redeliveryOf makes the command of what is asked for, and refuses what is malformed by the input's own fields.
func redeliveryOf(in generated.RedeliverSinkInput) (sink.RequestRedelivery, error) {
	c := sink.RequestRedelivery{Sink: in.Sink}
	var given []string
	if in.AllParked != nil && *in.AllParked {
		given, c.Scope = append(given, "allParked"), sink.ScopeParked
	}
	if in.Range != nil {
		given, c.Scope, c.From, c.To = append(given, "range"), sink.ScopeRange, in.Range.From, in.Range.To
	}
	if in.Event != nil {
		given, c.Scope, c.From = append(given, "event"), sink.ScopeEvent, in.Event
	}
	switch len(given) {
	case 0:
		return c, domain.Invalid("event", "must be given, or range, or allParked")
	case 1:
		return c, inputFields(c.Scope, c.Check())
	default:
		return c, domain.Invalid(given[0], "must be left out where %s is given", given[1])
	}
}

// inputFields names the fields of the input for those of the command.
func inputFields(scope string, err error) error {
	var e *domain.Error
	if !errors.As(err, &e) {
		return err
	}
	renamed := *e
	place := strings.HasPrefix(e.Field, "from") || strings.HasPrefix(e.Field, "to")
	switch {
	case place && scope == sink.ScopeEvent:
		renamed.Field = "event" + strings.TrimPrefix(e.Field, "from")
	case place && scope == sink.ScopeRange:
		renamed.Field = "range." + e.Field
	}
	return &renamed
}

// sink gives a command for a sink that is configured to the Bus.
func (m mutation) sink(ctx context.Context, c domain.Command, f form) (view.SinkPayload, commands.Outcome, error) {
	p := view.SinkPayload{Name: c.Target(), Reader: m.Sinks}
	err := m.configured(ctx, p.Name)
	var o commands.Outcome
	if err == nil {
		o, p.Answer, err = m.do(ctx, c, f)
	} else {
		p.UserErrors, err = userErrors(err, f.target)
	}
	return p, o, err
}

// configured refuses the name of a sink that is none. The Bus would not: a sink's stream begins with what is first decided.
func (m mutation) configured(ctx context.Context, name string) error {
	if err := domain.CheckSlug("sink", name); err != nil {
		return err
	}
	_, ok, err := m.Sinks.Sink(ctx, name)
	switch {
	case err != nil:
		return err
	case !ok:
		return domain.NotFound("sink", "names no sink that is configured")
	}
	return nil
}

// PageOfParked is what SinkReader.Parked gives of a sink in that state.
func PageOfParked(s sink.State, after sink.Place, limit int) []sink.Parked {
	order := func(a, b sink.Place) int {
		return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Revision, b.Revision))
	}
	var behind []sink.Parked
	for _, e := range s.Parked.All() {
		if after == (sink.Place{}) || order(e.Place, after) > 0 {
			behind = append(behind, e)
		}
	}
	slices.SortFunc(behind, func(a, b sink.Parked) int { return order(a.Place, b.Place) })
	return behind[:min(limit, len(behind))]
}

// noSinks is a SinkReader where no sinks are configured.
type noSinks struct{}

func (noSinks) Sinks(context.Context) ([]SinkStatus, error) { return nil, nil }

func (noSinks) Sink(context.Context, string) (SinkStatus, bool, error) {
	return SinkStatus{}, false, nil
}

func (noSinks) Parked(context.Context, string, sink.Place, int) ([]sink.Parked, error) {
	return nil, nil
}

func (noSinks) Deliveries(context.Context, string, int64, int) ([]SinkDelivery, error) {
	return nil, nil
}
