package eventstore

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tenure-dev/tenure/domain"
)

// groups is a node's one group, on the stream x-1: it sends a consumer what has no answer yet, and drops it now and then.
type groups struct {
	persistent.UnimplementedPersistentSubscriptionsServer
	dropAfter int    // answers; 0 never drops
	done      func() // called when nothing waits any more

	mu       sync.Mutex
	created  []*persistent.CreateReq_Options
	consumed int // subscriptions
	buffer   int32
	waiting  []uint64 // commits without an answer
	acked    []uint64
	nacked   []*persistent.ReadReq_Nack
}

func (g *groups) Create(_ context.Context, r *persistent.CreateReq) (*persistent.CreateResp, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.created) > 0 {
		return nil, status.Error(codes.AlreadyExists, "exists")
	}
	g.created = append(g.created, r.Options)
	return &persistent.CreateResp{}, nil
}

func (g *groups) Read(s persistent.PersistentSubscriptions_ReadServer) error {
	r, err := s.Recv()
	if err != nil {
		return err
	}
	if r.GetOptions().GroupName != "mail" {
		return status.Error(codes.NotFound, "no such group")
	}
	g.mu.Lock()
	g.consumed++
	g.buffer = r.GetOptions().BufferSize
	waiting := slices.Clone(g.waiting)
	g.mu.Unlock()
	_ = s.Send(&persistent.ReadResp{Content: &persistent.ReadResp_SubscriptionConfirmation_{SubscriptionConfirmation: &persistent.ReadResp_SubscriptionConfirmation{SubscriptionId: "1"}}})
	for _, commit := range waiting {
		e := &persistent.ReadResp{}
		b, err := proto.Marshal(event("x-1", commit/10, commit))
		if err != nil {
			return err
		}
		if err := proto.Unmarshal(b, e); err != nil { // the two messages have the same fields for an event
			return err
		}
		if err := s.Send(e); err != nil {
			return err
		}
	}
	for n := 1; ; n++ {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		g.take(r)
		if g.dropAfter > 0 && n%g.dropAfter == 0 {
			return status.Error(codes.Canceled, "dropped")
		}
	}
}

func (g *groups) take(r *persistent.ReadReq) {
	g.mu.Lock()
	defer g.mu.Unlock()
	ids := r.GetAck().GetIds()
	if r.GetNack() != nil {
		ids = r.GetNack().Ids
		g.nacked = append(g.nacked, r.GetNack())
	}
	for _, id := range ids {
		g.waiting = slices.DeleteFunc(g.waiting, func(commit uint64) bool {
			if uuidOf(id.GetStructured().MostSignificantBits, id.GetStructured().LeastSignificantBits) != eventID(commit) {
				return false
			}
			if r.GetAck() != nil {
				g.acked = append(g.acked, commit)
			}
			return true
		})
	}
	if g.done != nil && len(g.waiting) == 0 {
		g.done()
	}
}

func eventID(commit uint64) string {
	return event("x-1", 0, commit).GetEvent().Event.Id.GetString_()
}

func uuidOf(most, least int64) string {
	var id uuid.UUID
	for i := range 8 {
		id[i], id[8+i] = byte(most>>(56-8*i)), byte(least>>(56-8*i))
	}
	return id.String()
}

func TestAGroupIsCreatedOnceAndNeverOnTheWholeLog(t *testing.T) {
	g := &groups{}
	l := opened(t, &fake{groups: g}, 5*time.Second)
	for range 2 {
		if err := l.EnsureGroup(t.Context(), "x-1", "mail", GroupSettings{FromStart: true, MaxRetries: 3, AckTimeout: time.Second}); err != nil {
			t.Error(err)
		}
	}
	if s := g.created[0].Settings; s.MaxRetryCount != 3 || s.GetMessageTimeoutMs() != 1000 || g.created[0].GetStream().GetStart() == nil {
		t.Errorf("%+v", g.created[0])
	}
	for name, call := range map[string]func() error{
		"stream": func() error { return l.EnsureGroup(t.Context(), "$all", "mail", GroupSettings{}) },
		"group":  func() error { return l.EnsureGroup(t.Context(), "x-1", "", GroupSettings{}) },
		"buffer": func() (err error) {
			for _, err = range l.Consume(t.Context(), "x-1", "mail", 0) {
			}
			return err
		},
	} {
		e, ok := call().(*domain.Error)
		if !ok || e.Code != domain.CodeInvalid || e.Field != name {
			t.Errorf("%s: %v", name, e)
		}
	}
	for _, err := range l.Consume(t.Context(), "x-1", "other", 1) {
		if domain.CodeOf(err) != domain.CodeNotFound {
			t.Error(err)
		}
	}
	if len(g.created) != 1 || g.consumed != 0 {
		t.Errorf("%d created, %d consumed", len(g.created), g.consumed)
	}
}

func TestAConsumerAnswersFromManyGoroutinesThroughEveryDrop(t *testing.T) {
	g := &groups{dropAfter: 7}
	for i := range 100 {
		g.waiting = append(g.waiting, uint64(i+1)*10)
	}
	l := opened(t, &fake{groups: g}, 5*time.Second)
	l.feeds.pauses = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g.done = cancel
	var answers sync.WaitGroup
	for e, err := range l.Consume(ctx, "x-1", "mail", 25) {
		if err != nil {
			t.Fatal(err)
		}
		answers.Go(func() {
			answer := e.Ack
			if e.Event.Commit == 500 {
				answer = func() error { return e.Nack(Park, "poison") }
			}
			if err := answer(); err != nil && domain.CodeOf(err) != domain.CodeUnavailable {
				t.Error(err)
			}
		})
	}
	answers.Wait()
	if len(g.acked) != 99 || len(g.nacked) != 1 || g.nacked[0].Action != persistent.ReadReq_Nack_Park || g.nacked[0].Reason != "poison" || g.buffer != 25 {
		t.Errorf("acked %d, nacked %v, buffer %d", len(g.acked), g.nacked, g.buffer)
	}
	if l.Stats().Resubscribed < 10 {
		t.Errorf("%+v", l.Stats())
	}
}

func (g *groups) left() []uint64 { g.mu.Lock(); defer g.mu.Unlock(); return slices.Clone(g.waiting) }

func TestAnAnswerAfterTheEndFails(t *testing.T) {
	g := &groups{waiting: []uint64{10}}
	l := opened(t, &fake{groups: g}, 5*time.Second)
	var late Consumed
	for e, err := range l.Consume(t.Context(), "x-1", "mail", 1) {
		if err != nil || e.Event.Stream != "x-1" || e.Event.EventID != eventID(10) {
			t.Errorf("%+v, %v", e, err)
		}
		late = e
		break
	}
	if err := late.Ack(); domain.CodeOf(err) != domain.CodeUnavailable || len(g.left()) != 1 {
		t.Error(err)
	}
	if len(l.feeds.now.slots) != 0 {
		t.Error("the slot is kept")
	}
}
