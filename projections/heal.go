package projections

import (
	"context"
	"errors"
	"slices"

	"github.com/tenure-dev/tenure/domain"
)

// heal asks the owner to fold a parked key again.
type heal struct {
	projection, key string
	answer          chan error
}

// Heal folds the stream of a parked key from its start to the group's checkpoint and writes its rows in one of the group's
// transactions. A fold that fails again is the error, and the key stays parked. It is CodeNotFound for a key that is not
// parked, and CodeUnavailable in a process that does not own the group.
func (g *Group) Heal(ctx context.Context, projection, key string) error {
	if !g.Status().Owner {
		return domain.Unavailable("the read side is kept by another process, or is starting", nil)
	}
	h := heal{projection, key, make(chan error, 1)}
	select {
	case g.heals <- h:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-h.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// heal answers who asked. After a broken transaction nothing that is in memory can be trusted.
func (o *owner) heal(ctx context.Context, h heal) (answer, broken error) {
	n := slices.IndexFunc(o.parked, func(p Parked) bool { return p.Projection == h.projection && p.Key == h.key })
	f := slices.IndexFunc(o.folders, func(f *folder) bool { return f.table.Name == h.projection })
	if n < 0 || f < 0 {
		return domain.NotFound("key", "is not parked"), nil
	}
	table, parked := o.folders[f].table, o.parked[n]
	s, err := table.FoldStream(ctx, o.opts.Streams, o.opts.Registry, parked.Stream, uint64(o.at))
	if err != nil {
		return err, nil
	}
	changes := Changes{Table: table}
	for _, u := range s.upserts() {
		if below(h.key, u.First.Key) {
			u.First.Revision, u.First.Commit = parked.Revision, parked.Commit
			changes.Upserts = append(changes.Upserts, u)
		}
	}
	for _, p := range s.Parked() {
		if below(h.key, p.Key) || below(p.Key, h.key) {
			return &domain.Error{Code: domain.CodeInternal, Message: "the fold fails again", Cause: errors.New(p.Error)}, nil
		}
	}
	stored, err := o.opts.Store.Below(ctx, table, h.key)
	if err != nil {
		return err, nil
	}
	changes.Deletes = slices.DeleteFunc(stored, func(k string) bool { _, kept := s.rows[k]; return kept })
	refused, err := o.opts.Store.Commit(ctx, Commit{Lease: o.lease, From: o.at, To: Mark{o.at, o.opts.Log},
		Changes: []Changes{changes}, Unpark: []Parked{parked}})
	if err == nil {
		err = o.resume(ctx)
	}
	if err != nil {
		return domain.Unavailable("the outcome is unknown", err), err
	}
	if len(refused) > 0 {
		return &domain.Error{Code: domain.CodeInternal, Message: "the row is refused again", Cause: errors.New(refused[0].Error)}, nil
	}
	o.log.Info("a row is healed", "projection", h.projection, "key", h.key)
	return nil, nil
}
