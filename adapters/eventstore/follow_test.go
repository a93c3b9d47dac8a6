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

func confirm(s api.Streams_ReadServer) {
	_ = s.Send(&api.ReadResp{Content: &api.ReadResp_Confirmation{Confirmation: &api.ReadResp_SubscriptionConfirmation{SubscriptionId: "1"}}})
}

// A node drops each subscription after a few messages, each time in another way; a few deliveries repeat what came before.
func TestASubscriptionGoesOnThroughEveryDrop(t *testing.T) {
	const last = 200
	var begins []uint64
	tries := 0
	f := &fake{}
	f.read = func(_ int, r *api.ReadReq, s api.Streams_ReadServer) error {
		if r.Options.GetSubscription() == nil {
			return nil
		}
		if tries++; len(begins)%7 == 3 && tries%2 == 0 {
			return status.Error(codes.Unavailable, "Server Is Not Ready") // before the confirmation
		}
		confirm(s)
		after := r.Options.GetAll().GetPosition().GetCommitPosition()
		begins = append(begins, after)
		for i := after/10*10 + 10; i <= last*10; i += 10 {
			if err := s.Send(event("x-1", i/10, i)); err != nil {
				return err
			}
			if i%70 == 0 {
				_ = s.Send(event("x-1", i/10, i)) // again
				_ = s.Send(event("$system", 1, i+1))
			}
			if i%110 == 0 {
				return []error{status.Error(codes.Aborted, "Consumer too slow"), status.Error(codes.Unavailable, "shutting down"), nil}[i/110%3]
			}
		}
		_ = s.Send(&api.ReadResp{Content: &api.ReadResp_Checkpoint_{Checkpoint: &api.ReadResp_Checkpoint{CommitPosition: last*10 + 5, PreparePosition: last*10 + 5}}})
		_ = s.Send(&api.ReadResp{Content: &api.ReadResp_CaughtUp_{CaughtUp: &api.ReadResp_CaughtUp{}}})
		<-s.Context().Done()
		return nil
	}
	l := opened(t, f, 5*time.Second)
	next, at := uint64(10), uint64(0)
	for d, err := range l.Follow(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if d.Commit < at || d.Commit == at && d.Kind != domain.CaughtUp {
			t.Fatalf("%+v behind %d", d, at)
		}
		at = d.Commit
		switch d.Kind {
		case domain.DeliveredEvent:
			if d.Commit != next || d.Event.Commit != next || d.Event.Stream != "x-1" {
				t.Fatalf("%+v where %d belongs", d, next)
			}
			next += 10
		case domain.CaughtUp:
			if next != last*10+10 || at != last*10+5 {
				t.Fatalf("caught up at %d", at)
			}
			return
		}
	}
	t.Error("ended")
}

func TestASubscriptionEndsWithItsContextAndItsConsumer(t *testing.T) {
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
	for _, err := range l.Follow(ctx, 0) {
		if err != nil {
			t.Error(err)
		}
		n++
		cancel()
	}
	for range l.Follow(t.Context(), 0) {
		n++
		break
	}
	for d, err := range l.Subscribe(ctx, 10, false) {
		t.Error(d, err)
	}
	eventually(t, "the node's subscriptions are let go", func() bool { open, _, _, _ := f.counts(); return n == 2 && open == 0 })
}

func TestAPositionOfAnotherLogIsAnError(t *testing.T) {
	f := &fake{}
	f.read = func(_ int, r *api.ReadReq, s api.Streams_ReadServer) error {
		if r.Options.GetSubscription() == nil {
			return nil
		}
		confirm(s)
		return status.Error(codes.InvalidArgument, "Trying to read from an invalid position.")
	}
	l := opened(t, f, 5*time.Second)
	var got error
	for _, err := range l.Follow(t.Context(), 7) {
		got = err
	}
	if domain.CodeOf(got) != domain.CodeInvalid {
		t.Error(got)
	}
}

func TestASubscriptionThatIsNeverConfirmedBeginsAgain(t *testing.T) {
	f := &fake{}
	subscriptions := 0
	f.read = func(_ int, r *api.ReadReq, s api.Streams_ReadServer) error {
		if r.Options.GetSubscription() == nil {
			return nil
		}
		if subscriptions++; subscriptions == 1 {
			<-s.Context().Done()
			return nil
		}
		confirm(s)
		_ = s.Send(event("x-1", 0, 10))
		<-s.Context().Done()
		return nil
	}
	l := opened(t, f, 200*time.Millisecond)
	for d, err := range l.Follow(t.Context(), 0) {
		if err != nil || d.Commit != 10 {
			t.Errorf("%+v, %v", d, err)
		}
		break
	}
	eventually(t, "both are let go", func() bool { open, _, _, _ := f.counts(); return open == 0 })
}

func TestForeignMetadataIsDecodedByNoCatalog(t *testing.T) {
	foreign := event("x-1", 0, 10)
	foreign.GetEvent().Event.CustomMetadata = []byte("<xml/>")
	f := &fake{}
	f.read = func(_ int, r *api.ReadReq, s api.Streams_ReadServer) error {
		if r.Options.GetStream() == nil {
			return nil
		}
		return s.Send(foreign)
	}
	l := opened(t, f, 5*time.Second)
	type done struct{}
	for e, err := range l.Read(t.Context(), "x-1", 0) {
		if err != nil || e.Type != "x.done" || e.Stream != "x-1" {
			t.Errorf("%+v, %v", e, err)
		}
		if _, err := domain.NewRegistry(domain.Catalog{domain.Fact[done]("x.done")}).DecodeRecorded(e); domain.CodeOf(err) != domain.CodeUnavailable {
			t.Error(err)
		}
	}
}
