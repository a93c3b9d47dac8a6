package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tenure-dev/tenure/domain"
)

// build folds new tables from the log's start up to the group's checkpoint and then has them served, all at once. The
// group stands still meanwhile: no reader ever sees a table that is not whole at the checkpoint. A crash begins it again.
//
// The rows of the new tables are held in memory, some 300 bytes each.
func (o *owner) build(ctx context.Context, tables []*Table, at Mark) error {
	o.note(func(s *Status) { s.Building = true })
	at.Log = o.opts.Log
	states, err := o.replay(ctx, tables, at.Commit)
	if err != nil {
		return err
	}
	var parked []Parked
	for i, t := range tables {
		for chunk := range slices.Chunk(states[i].upserts(), o.opts.Batch) {
			if err := o.renew(ctx); err != nil {
				return err
			}
			refused, err := o.opts.Store.Fill(ctx, o.lease, t, chunk)
			if err != nil {
				return fmt.Errorf("building %s version %d: %w", t.Name, t.Version, err)
			}
			parked = append(parked, refused...)
		}
		parked = append(parked, states[i].Parked()...)
	}
	return o.opts.Store.Serve(ctx, o.lease, tables, parked, at)
}

// replay folds the log's events up to a commit position, that one included.
func (o *owner) replay(ctx context.Context, tables []*Table, upTo int64) ([]*State, error) {
	states := make([]*State, len(tables))
	for i, t := range tables {
		states[i] = t.NewState()
	}
	if upTo == Nowhere {
		return states, nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for d, err := range o.opts.Source.Subscribe(ctx, 0, true) {
		if err != nil {
			return nil, err
		}
		i := o.decode(d)
		switch {
		case i.stop != nil:
			return nil, i.stop
		case i.caughtUp || i.commit > upTo:
			return states, nil
		case i.bad != nil:
			for n, t := range tables {
				if t.Handles(i.kind) {
					states[n].Fail(i.meta, i.bad)
				}
			}
		case i.event != nil:
			for n := range tables {
				states[n].Apply(i.event, i.meta)
			}
		}
		if i.commit == upTo {
			return states, nil
		}
		if err := o.renew(ctx); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, errors.New("the subscription ended")
}

// FoldStream folds the events of one stream up to a commit position, that one included: the rows of that stream as of then.
func (t *Table) FoldStream(ctx context.Context, from Streams, r *domain.Registry, stream string, upTo uint64) (*State, error) {
	s := t.NewState()
	for e, err := range from.ReadStream(ctx, stream, 0) {
		if err != nil {
			return nil, err
		}
		if e.Commit > upTo {
			break
		}
		entry, known := r.Named(e.Type)
		if known && !t.Handles(entry.Type) {
			continue
		}
		event, err := r.DecodeRecorded(e)
		switch {
		case errors.Is(err, domain.ErrNewer):
			return nil, err
		case err != nil:
			s.Fail(e.Meta, err)
		default:
			s.Apply(event, e.Meta)
		}
	}
	return s, nil
}
