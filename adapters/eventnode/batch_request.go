package eventnode

import (
	"context"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
)

// part is one message of BatchAppend: the beginning of a batch, or a further part of one.
type part struct {
	id          uuid.UUID
	nameless    bool // it has no correlation id, or a bad one
	correlation *shared.UUID
	options     *api.BatchAppendReq_Options // nil in a further part
	events      []proposedEvent
	ids         []uuid.UUID
	size        int // of the events, in bytes as the limit counts them
	final       bool
	wrong       error // the first thing wrong with the events
	cost        int   // bytes of memory, about
}

const (
	partCost  = 4 << 10 // at least; it bounds how many batches there are
	eventCost = 128     // besides the bytes of an event
)

func readPart(req *api.BatchAppendReq) *part {
	p := &part{correlation: req.GetCorrelationId(), options: req.GetOptions(), final: req.GetIsFinal()}
	p.cost = partCost + len(p.correlation.GetString_()) + len(p.options.GetStreamIdentifier().GetStreamName())
	p.id = readUUID(p.correlation)
	p.nameless = p.id == uuid.Nil && !isZero(p.correlation)
	if p.nameless {
		p.wrong = invalid("A correlation id must be a UUID.")
		return p
	}
	var w write
	for _, proposed := range req.GetProposedMessages() {
		p.cost += eventCost + len(proposed.GetData()) + len(proposed.GetCustomMetadata())
		if p.wrong == nil {
			p.wrong = w.propose(proposed)
		}
	}
	p.events, p.ids, p.size = w.events, w.ids, w.size
	return p
}

// isZero says whether somebody has taken the trouble to say zero, which may name a batch.
func isZero(u *shared.UUID) bool {
	switch v := u.GetValue().(type) {
	case *shared.UUID_Structured_:
		return v.Structured.GetMostSignificantBits() == 0 && v.Structured.GetLeastSignificantBits() == 0
	case *shared.UUID_String_:
		id, err := uuid.Parse(v.String_)
		return err == nil && id == uuid.Nil
	}
	return false
}

// propose adds an event.
func (w *write) propose(proposed *api.BatchAppendReq_ProposedMessage) error {
	var typ, content *string
	if value, ok := proposed.GetMetadata()["type"]; ok {
		typ = &value
	}
	if value, ok := proposed.GetMetadata()["content-type"]; ok {
		content = &value
	}
	return w.add(proposedEvent{id: readUUID(proposed.GetId()), data: proposed.GetData(), metadata: proposed.GetCustomMetadata()}, typ, content)
}

// take adds a part's events to a batch.
func (b *batch) take(p *part) error {
	if p.wrong != nil {
		return p.wrong
	}
	if b.size += p.size; b.size > maxAppendSize {
		return appendTooLarge()
	}
	b.events, b.ids = append(b.events, p.events...), append(b.ids, p.ids...)
	return nil
}

// begin reads the options of a batch, and returns how long it may take to become complete.
func (n *Node) begin(ctx context.Context, w *write, o *api.BatchAppendReq_Options) (limit time.Duration, err error) {
	if limit, err = n.batchLimit(o); err != nil {
		return 0, err
	}
	if err = w.to(o.GetStreamIdentifier().GetStreamName()); err != nil {
		return 0, err
	}
	if err = n.allow(ctx, writeStream, w.stream); err != nil {
		return 0, err
	}
	if limit <= 0 {
		return 0, tooLate()
	}
	switch expected := o.GetExpectedStreamPosition().(type) {
	case *api.BatchAppendReq_Options_Any:
		w.expected = expectAny
	case *api.BatchAppendReq_Options_NoStream:
		w.expected = expectNoStream
	case *api.BatchAppendReq_Options_StreamExists:
		w.expected = expectStreamExists
	case *api.BatchAppendReq_Options_StreamPosition:
		w.expected, err = expectedRevision(expected.StreamPosition)
	default:
		err = invalid("'None' is not a valid EventStore.Client.Streams.BatchAppendReq+Types+Options+ExpectedStreamPositionOneofCase")
	}
	return limit, err
}

// batchLimit is the time that is left for a batch: up to its deadline, which clients of before version 21.10.1 give as a
// time of day and later ones as a duration, but never longer than batchTimeout.
func (n *Node) batchLimit(o *api.BatchAppendReq_Options) (time.Duration, error) {
	limit := n.options.batchTimeout
	switch deadline := o.GetDeadlineOption().(type) {
	case *api.BatchAppendReq_Options_Deadline:
		if err := deadline.Deadline.CheckValid(); err != nil {
			return 0, invalid("The deadline is no duration: %v", err)
		}
		limit = min(limit, deadline.Deadline.AsDuration())
	case *api.BatchAppendReq_Options_Deadline_21_10_0:
		if err := deadline.Deadline_21_10_0.CheckValid(); err != nil {
			return 0, invalid("The deadline is no time: %v", err)
		}
		limit = min(limit, deadline.Deadline_21_10_0.AsTime().Sub(n.now()))
	}
	return limit, nil
}

// tooLate is for a batch whose time is over. Nothing of it has been written.
func tooLate() error {
	return &failure{code: codes.DeadlineExceeded, text: "The batch has not become complete in time."}
}
