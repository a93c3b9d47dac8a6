package eventstore

import (
	"context"
	"testing"
	"time"

	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tenure-dev/tenure/domain"
)

var drops = []error{status.Error(codes.Aborted, "Consumer too slow"), status.Error(codes.Unavailable, "shutting down"), nil}

// A node has half of the log when a follower begins. It gives the rest by subscriptions that it drops, each in another way, and that
// now and then repeat what came before or give what was not asked for.
func TestFollowingEventsOfAnyFormGoesOnThroughEveryDrop(t *testing.T) {
	const last, half = 200, 100
	var begins []uint64
	f := &fake{}
	streams := []string{"x-1", "topic-a", "poison-h", "bus-reader.$all"} // the bus's own too
	f.read = func(_ int, r *api.ReadReq, s api.Streams_ReadServer) error {
		after := r.Options.GetAll().GetPosition().GetCommitPosition()
		if r.Options.GetSubscription() == nil {
			for i := after/10*10 + 10; i <= half*10 && r.Options.GetAll() != nil && r.Options.GetReadDirection() == api.ReadReq_Options_Forwards; i += 10 {
				_ = s.Send(event(streams[i/10%4], i/10, i))
				_ = s.Send(event("$system", 1, i+1))
			}
			return nil
		}
		confirm(s)
		begins = append(begins, after)
		for i := after/10*10 + 10; i <= last*10; i += 10 {
			if err := s.Send(event(streams[i/10%4], i/10, i)); err != nil {
				return err
			}
			if i%70 == 0 {
				_ = s.Send(event(streams[i/10%4], i/10, i)) // again
				_ = s.Send(event("$system", 1, i+1))
			}
			if i%110 == 0 {
				return drops[i/110%3]
			}
		}
		_ = s.Send(&api.ReadResp{Content: &api.ReadResp_Checkpoint_{Checkpoint: &api.ReadResp_Checkpoint{CommitPosition: last*10 + 5, PreparePosition: last*10 + 5}}})
		return status.Error(codes.Unavailable, "shutting down")
	}
	l := opened(t, f, 5*time.Second)
	next := uint64(10)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for r, err := range l.FollowRaw(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Position != next || r.Stream != streams[next/10%4] {
			t.Fatalf("%s at %d where %d belongs", r.Stream, r.Position, next)
		}
		if next += 10; next > last*10 {
			break
		}
	}
	if len(begins) < 5 || begins[0] != half*10+1 {
		t.Errorf("subscriptions began behind %v: the first half is read by pages", begins)
	}
}

func TestFollowingAStreamGoesOnThroughEveryDrop(t *testing.T) {
	const last = 100
	var begins []uint64
	f := &fake{}
	f.read = func(_ int, r *api.ReadReq, s api.Streams_ReadServer) error {
		if r.Options.GetSubscription() == nil {
			return nil
		}
		confirm(s)
		from := uint64(0) // a stream's subscription begins behind its revision
		if _, start := r.Options.GetStream().GetRevisionOption().(*api.ReadReq_Options_StreamOptions_Start); !start {
			from = r.Options.GetStream().GetRevision() + 1
		}
		begins = append(begins, from)
		for i := from; i <= last; i++ {
			if err := s.Send(event("topic-a", i, 1000+i)); err != nil {
				return err
			}
			if i%7 == 3 {
				_ = s.Send(event("topic-a", i, 1000+i)) // again
			}
			if i%11 == 5 {
				return drops[i/11%3]
			}
		}
		return status.Error(codes.FailedPrecondition, "Event stream 'topic-a' is deleted.")
	}
	l := opened(t, f, 5*time.Second)
	next, ended := int64(4), false
	for r, err := range l.FollowStream(t.Context(), "topic-a", 3) {
		switch {
		case err != nil:
			if ended = true; domain.CodeOf(err) != domain.CodeNotFound {
				t.Error(err)
			}
		case r.Revision != next:
			t.Fatalf("%d came where %d belongs", r.Revision, next)
		default:
			next++
		}
	}
	if next != last+1 || !ended || len(begins) < 5 || begins[0] != 4 {
		t.Errorf("up to %d, ended %v, begins %v", next, ended, begins)
	}
	for r, err := range l.FollowStream(t.Context(), "topic-a", domain.NoStream) {
		if err != nil || r.Revision != 0 {
			t.Errorf("%d came first: %v", r.Revision, err)
		}
		break
	}
}

func TestFollowersOfAnyFormEndWithTheirContextAndTheirConsumer(t *testing.T) {
	f := &fake{}
	f.read = func(_ int, r *api.ReadReq, s api.Streams_ReadServer) error {
		if r.Options.GetSubscription() == nil {
			return nil
		}
		confirm(s)
		_ = s.Send(event("x-1", 0, 10))
		<-s.Context().Done()
		return nil
	}
	l := opened(t, f, 5*time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for _, err := range l.FollowRaw(ctx, 0) {
		if err != nil {
			t.Error(err)
		}
		n++
		cancel()
	}
	for range l.FollowStream(t.Context(), "x-1", domain.NoStream) {
		n++
		break
	}
	for r, err := range l.FollowStream(ctx, "x-1", domain.NoStream) {
		t.Error(r, err)
	}
	eventually(t, "the node's subscriptions are let go", func() bool { open, _, _, _ := f.counts(); return n == 2 && open == 0 })
}

func TestFollowingRawFromAPositionOfAnotherLogIsAnError(t *testing.T) {
	f := &fake{}
	f.read = func(_ int, r *api.ReadReq, s api.Streams_ReadServer) error {
		if r.Options.GetAll().GetPosition() == nil {
			return nil
		}
		if r.Options.GetSubscription() != nil {
			confirm(s)
		}
		return status.Error(codes.InvalidArgument, "Trying to read from an invalid position.")
	}
	l := opened(t, f, 5*time.Second)
	var got []domain.Code
	for _, err := range l.FollowRaw(t.Context(), 7) {
		got = append(got, domain.CodeOf(err))
	}
	if len(got) != 1 || got[0] != domain.CodeInvalid {
		t.Error(got)
	}
}

func TestOneEventIsReadByItsRevision(t *testing.T) {
	f := &fake{}
	f.read = func(_ int, r *api.ReadReq, s api.Streams_ReadServer) error { // revisions 5 to 9 are left of the stream
		o := r.Options.GetStream()
		if o == nil || string(o.StreamIdentifier.StreamName) != "topic-a" {
			if o != nil {
				return s.Send(&api.ReadResp{Content: &api.ReadResp_StreamNotFound_{StreamNotFound: &api.ReadResp_StreamNotFound{StreamIdentifier: o.StreamIdentifier}}})
			}
			return nil
		}
		at := uint64(9)
		if _, end := o.RevisionOption.(*api.ReadReq_Options_StreamOptions_End); !end {
			at = min(at, o.GetRevision())
		}
		if at < 5 {
			return nil
		}
		return s.Send(event("topic-a", at, 100+at))
	}
	l := opened(t, f, 5*time.Second)
	for _, c := range []struct {
		stream   string
		revision int64
		want     int64 // NoStream for none
	}{{"topic-a", 7, 7}, {"topic-a", End, 9}, {"topic-a", 4, domain.NoStream}, {"topic-a", 10, domain.NoStream}, {"topic-b", End, domain.NoStream}, {"topic-b", 0, domain.NoStream}} {
		r, found, err := l.RawEvent(t.Context(), c.stream, c.revision)
		if err != nil || found != (c.want != domain.NoStream) || found && (r.Revision != c.want || r.Stream != c.stream) {
			t.Errorf("%+v: %+v, %v, %v", c, r, found, err)
		}
	}
}
