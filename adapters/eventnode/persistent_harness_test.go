package eventnode

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	ps "github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// choice changes a create request: a group "g" on the stream "s" from its start, with the client's defaults.
type choice func(*ps.CreateReq_Options)

func with(change func(*ps.CreateReq_Settings)) choice {
	return func(o *ps.CreateReq_Options) { change(o.Settings) }
}

func startingAt(revision uint64) choice {
	return func(o *ps.CreateReq_Options) {
		o.GetStream().RevisionOption = &ps.CreateReq_StreamOptions_Revision{Revision: revision}
	}
}

func startingAtPosition(position uint64) choice {
	return func(o *ps.CreateReq_Options) {
		o.GetAll().AllOption = &ps.CreateReq_AllOptions_Position{Position: &ps.CreateReq_Position{CommitPosition: position, PreparePosition: position}}
	}
}

func startingAtEnd(o *ps.CreateReq_Options) {
	if o.GetStream() != nil {
		o.GetStream().RevisionOption = &ps.CreateReq_StreamOptions_End{End: empty}
	} else {
		o.GetAll().AllOption = &ps.CreateReq_AllOptions_End{End: empty}
	}
}

func onAll(prefixes ...string) choice {
	return func(o *ps.CreateReq_Options) {
		all := &ps.CreateReq_AllOptions{AllOption: &ps.CreateReq_AllOptions_Start{Start: empty}, FilterOption: &ps.CreateReq_AllOptions_NoFilter{NoFilter: empty}}
		if len(prefixes) > 0 {
			all.FilterOption = &ps.CreateReq_AllOptions_Filter{Filter: &ps.CreateReq_AllOptions_FilterOptions{
				Filter:                       &ps.CreateReq_AllOptions_FilterOptions_StreamIdentifier{StreamIdentifier: &ps.CreateReq_AllOptions_FilterOptions_Expression{Prefix: prefixes}},
				Window:                       &ps.CreateReq_AllOptions_FilterOptions_Max{Max: 32},
				CheckpointIntervalMultiplier: 1,
			}}
		}
		o.StreamOption = &ps.CreateReq_Options_All{All: all}
	}
}

func creation(choices ...choice) *ps.CreateReq {
	o := &ps.CreateReq_Options{GroupName: "g",
		StreamOption: &ps.CreateReq_Options_Stream{Stream: &ps.CreateReq_StreamOptions{StreamIdentifier: identifier("s"), RevisionOption: &ps.CreateReq_StreamOptions_Start{Start: empty}}},
		Settings: &ps.CreateReq_Settings{MaxRetryCount: 10, MinCheckpointCount: 10, MaxCheckpointCount: 1000, LiveBufferSize: 500, ReadBatchSize: 20, HistoryBufferSize: 500,
			ConsumerStrategy: strategyRoundRobin, MessageTimeout: &ps.CreateReq_Settings_MessageTimeoutMs{MessageTimeoutMs: 30_000}, CheckpointAfter: &ps.CreateReq_Settings_CheckpointAfterMs{CheckpointAfterMs: 2000}}}
	for _, choose := range choices {
		choose(o)
	}
	return &ps.CreateReq{Options: o}
}

func creating(choices ...choice) step {
	return func(r *rig) string {
		var trailer metadata.MD
		_, err := r.groups().Create(r.ctx, creation(choices...), grpc.Trailer(&trailer))
		return done(err, trailer)
	}
}

func done(err error, trailer metadata.MD) string {
	if err != nil {
		return refusal(err, trailer)
	}
	return "done"
}

func (r *rig) groups() ps.PersistentSubscriptionsClient {
	return ps.NewPersistentSubscriptionsClient(r.conn)
}

// reader is a consumer: what it has been sent, by name.
type reader struct {
	ps.PersistentSubscriptions_ReadClient
	cancel context.CancelFunc
	ids    map[string]*shared.UUID
}

// readers of a rig are kept by its test.
type readers map[string]*reader

// connecting reads group g of a stream, or of $all, and returns the confirmation or how it was refused.
func (rs readers) connecting(name, stream string, size int32) step {
	return func(r *rig) string {
		ctx, cancel := context.WithCancel(r.ctx)
		r.t.Cleanup(cancel)
		st, err := r.groups().Read(ctx)
		if err != nil {
			return err.Error()
		}
		o := &ps.ReadReq_Options{GroupName: "g", BufferSize: size, UuidOption: &ps.ReadReq_Options_UUIDOption{Content: &ps.ReadReq_Options_UUIDOption_Structured{Structured: empty}}}
		o.StreamOption = &ps.ReadReq_Options_StreamIdentifier{StreamIdentifier: identifier(stream)}
		if stream == allStream {
			o.StreamOption = &ps.ReadReq_Options_All{All: empty}
		}
		if err := st.Send(&ps.ReadReq{Content: &ps.ReadReq_Options_{Options: o}}); err != nil {
			return err.Error()
		}
		rs[name] = &reader{st, cancel, map[string]*shared.UUID{}}
		return rs.getting(name, 1)(r)
	}
}

// getting waits for n messages, or the end. A retry shows as ~n.
func (rs readers) getting(name string, n int) step {
	return func(*rig) string {
		var words []string
		c := rs[name]
		for range n {
			m, err := c.Recv()
			if err != nil {
				words = append(words, refusal(err, c.Trailer()))
				break
			}
			if m.GetSubscriptionConfirmation() != nil {
				words = append(words, m.GetSubscriptionConfirmation().SubscriptionId)
				continue
			}
			e := m.GetEvent()
			word, original := "?", e.Event
			if e.Event != nil {
				if word = string(e.Event.Data); word == "" {
					word = e.Event.Metadata["type"]
				}
			}
			if e.Link != nil {
				word, original = "->"+word, e.Link
			}
			c.ids[word] = original.Id
			if _, counted := e.Count.(*ps.ReadResp_ReadEvent_RetryCount); !counted {
				word += "!"
			}
			if e.GetRetryCount() > 0 {
				word += fmt.Sprint("~", e.GetRetryCount())
			}
			words = append(words, word)
		}
		return strings.Join(words, " ")
	}
}

func (rs readers) acking(name string, events ...string) step {
	return func(*rig) string {
		c, ack := rs[name], &ps.ReadReq_Ack{}
		for _, e := range events {
			ack.Ids = append(ack.Ids, c.ids[e])
		}
		return done(c.Send(&ps.ReadReq{Content: &ps.ReadReq_Ack_{Ack: ack}}), nil)
	}
}

func (rs readers) nacking(name string, action ps.ReadReq_Nack_Action, events ...string) step {
	return func(*rig) string {
		c, nack := rs[name], &ps.ReadReq_Nack{Action: action, Reason: "why"}
		for _, e := range events {
			nack.Ids = append(nack.Ids, c.ids[e])
		}
		return done(c.Send(&ps.ReadReq{Content: &ps.ReadReq_Nack_{Nack: nack}}), nil)
	}
}

func (rs readers) leaving(name string) step {
	return func(*rig) string { rs[name].cancel(); return "" }
}

// after moves the clock and lets the groups have their tick.
func after(d time.Duration) step {
	return func(r *rig) string {
		r.clock.advance(d)
		r.node.persistent.tick()
		return ""
	}
}

func infoOf(stream, group string) *ps.GetInfoReq {
	o := &ps.GetInfoReq_Options{GroupName: group, StreamOption: &ps.GetInfoReq_Options_StreamIdentifier{StreamIdentifier: identifier(stream)}}
	if stream == allStream {
		o.StreamOption = &ps.GetInfoReq_Options_All{All: empty}
	}
	return &ps.GetInfoReq{Options: o}
}

// until waits for group g to be in a state, in the words below, for as long as the test has.
func until(stream, want string) step {
	return func(r *rig) string {
		for {
			resp, err := r.groups().GetInfo(r.ctx, infoOf(stream, "g"))
			if err != nil {
				return refusal(err, nil)
			}
			i := resp.SubscriptionInfo
			got := fmt.Sprintf("%s: %d flying, %d buffered, %d to retry, %d parked", i.Status, i.TotalInFlightMessages, i.ReadBufferCount, i.RetryBufferCount, i.ParkedMessageCount)
			if got == want || r.ctx.Err() != nil {
				return got
			}
			runtime.Gosched()
		}
	}
}

// checkpointed waits for the checkpoint of the group on s to be a revision.
func checkpointed(want string) step {
	return func(r *rig) string {
		for {
			resp, err := r.groups().GetInfo(r.ctx, infoOf("s", "g"))
			if err != nil || resp.SubscriptionInfo.LastCheckpointedEventPosition == want {
				return reading(ofStream("$persistentsubscription-s::g-checkpoint"))(r)
			}
			runtime.Gosched()
		}
	}
}

// known waits for the last event that the group on s has heard of to be a revision.
func known(want string) step {
	return func(r *rig) string {
		for {
			resp, err := r.groups().GetInfo(r.ctx, infoOf("s", "g"))
			if err != nil {
				return refusal(err, nil)
			}
			if got := resp.SubscriptionInfo.LastKnownEventPosition; got == want || r.ctx.Err() != nil {
				return got
			}
			runtime.Gosched()
		}
	}
}

func replaying(o *ps.ReplayParkedReq_Options) step {
	return func(r *rig) string {
		o.GroupName, o.StreamOption = "g", &ps.ReplayParkedReq_Options_StreamIdentifier{StreamIdentifier: identifier("s")}
		var trailer metadata.MD
		_, err := r.groups().ReplayParked(r.ctx, &ps.ReplayParkedReq{Options: o}, grpc.Trailer(&trailer))
		return done(err, trailer)
	}
}

func everything() *ps.ReplayParkedReq_Options {
	return &ps.ReplayParkedReq_Options{StopAtOption: &ps.ReplayParkedReq_Options_NoLimit{NoLimit: empty}}
}

func upTo(n int64) *ps.ReplayParkedReq_Options {
	return &ps.ReplayParkedReq_Options{StopAtOption: &ps.ReplayParkedReq_Options_StopAt{StopAt: n}}
}

func updating(change func(*ps.UpdateReq_Settings)) step {
	return func(r *rig) string {
		s := &ps.UpdateReq_Settings{MaxRetryCount: 10, MinCheckpointCount: 10, MaxCheckpointCount: 1000, ReadBatchSize: 20, HistoryBufferSize: 500, NamedConsumerStrategy: ps.UpdateReq_RoundRobin}
		change(s)
		var trailer metadata.MD
		_, err := r.groups().Update(r.ctx, &ps.UpdateReq{Options: &ps.UpdateReq_Options{GroupName: "g", Settings: s,
			StreamOption: &ps.UpdateReq_Options_Stream{Stream: &ps.UpdateReq_StreamOptions{StreamIdentifier: identifier("s"), RevisionOption: &ps.UpdateReq_StreamOptions_Start{Start: empty}}}}}, grpc.Trailer(&trailer))
		return done(err, trailer)
	}
}

func deletingGroup(r *rig) string {
	var trailer metadata.MD
	_, err := r.groups().Delete(r.ctx, &ps.DeleteReq{Options: &ps.DeleteReq_Options{GroupName: "g", StreamOption: &ps.DeleteReq_Options_StreamIdentifier{StreamIdentifier: identifier("s")}}}, grpc.Trailer(&trailer))
	return done(err, trailer)
}

func restartingGroups(r *rig) string {
	_, err := r.groups().RestartSubsystem(r.ctx, empty)
	return done(err, nil)
}

func listing(stream string) step {
	return func(r *rig) string {
		o := &ps.ListReq_Options{ListOption: &ps.ListReq_Options_ListAllSubscriptions{ListAllSubscriptions: empty}}
		if stream != "" {
			o.ListOption = &ps.ListReq_Options_ListForStream{ListForStream: &ps.ListReq_StreamOption{StreamOption: &ps.ListReq_StreamOption_Stream{Stream: identifier(stream)}}}
		}
		var trailer metadata.MD
		list, err := r.groups().List(r.ctx, &ps.ListReq{Options: o}, grpc.Trailer(&trailer))
		if err != nil {
			return refusal(err, trailer)
		}
		words := []string{"list"}
		for _, i := range list.Subscriptions {
			words = append(words, i.EventSource+"::"+i.GroupName)
		}
		return strings.Join(words, " ")
	}
}

var abc = given(appending("s", expectAny, "a", "b", "c"))

const (
	park  = ps.ReadReq_Nack_Park
	retry = ps.ReadReq_Nack_Retry
)
