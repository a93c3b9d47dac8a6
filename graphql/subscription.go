package graphql

import (
	"context"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/graphql/view"
	"github.com/tenure-dev/tenure/projections"
)

// subscription resolves the fields of Subscription.
type subscription struct{ Config }

func (s subscription) TenantChanged(ctx context.Context, id string) (<-chan *view.Tenant, error) {
	if err := domain.CheckID("id", domain.TenantID, id); err != nil {
		return nil, err
	}
	return watch(ctx, s.Config, view.NewTenantWatch(id))
}

func (s subscription) SagaChanged(ctx context.Context, id string) (<-chan *view.Saga, error) {
	if err := domain.CheckID("id", domain.SagaID, id); err != nil {
		return nil, err
	}
	return watch(ctx, s.Config, view.NewSagaWatch(id))
}

// watched is an object that is followed through its changes.
type watched[T any] interface {
	Topics() []projections.Topic
	// Read takes the object as it stands in a snapshot; false if it is not there.
	Read(ctx context.Context, s view.Snapshot) (found bool, err error)
	// Apply takes one changed row.
	Apply(c projections.Change)
	// Show gives the object as it is now, and whether nothing can follow.
	Show() (object *T, last bool)
}

// watch gives an object as it is, and then as of after every event that changes it. It watches first and reads then, so that
// no change is lost between the two. What is not there yet, as a saga that has just been asked for, has view.Patience to
// appear.
func watch[T any](ctx context.Context, c Config, w watched[T]) (<-chan *T, error) {
	feed, err := c.Live.Watch(ctx, w.Topics()...)
	if err != nil {
		return nil, err
	}
	var at domain.Position
	found := false
	err = c.Reads.Read(ctx, func(s view.Snapshot) (err error) {
		at, _ = s.At()
		found, err = w.Read(ctx, s)
		return err
	})
	if err != nil {
		feed.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := stream[T]{w, feed, make(chan struct{}), make(chan *T)}
	go func() {
		defer cancel()
		defer close(s.out)
		s.run(ctx, at.Commit, found)
	}()
	if found {
		return s.out, nil
	}
	select {
	case <-s.there:
		return s.out, nil
	case <-c.After(view.Patience):
		cancel()
		return nil, domain.NotFound("id", "names nothing that exists")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// stream carries one watched object to one subscriber. The feed's bounded buffer is the only one: a subscriber that does not
// keep up is cut off when it is full.
type stream[T any] struct {
	watched[T]
	feed  view.Feed
	there chan struct{} // closed once there is an object
	out   chan *T
}

func (s stream[T]) run(ctx context.Context, after uint64, there bool) {
	if there && !s.send(ctx) {
		s.feed.Close()
		return
	}
	for c, err := range s.feed.Changes(ctx, after) {
		if err != nil {
			view.Of(ctx).Fail(err)
			if !there {
				close(s.there)
			}
			return
		}
		s.Apply(c)
		if !c.Last {
			continue
		}
		if !there {
			there = true
			close(s.there)
		}
		if !s.send(ctx) {
			return
		}
	}
}

// send hands the object on; false if nothing is to follow.
func (s stream[T]) send(ctx context.Context) bool {
	object, last := s.Show()
	select {
	case s.out <- object:
		return !last
	case <-ctx.Done():
		return false
	}
}
