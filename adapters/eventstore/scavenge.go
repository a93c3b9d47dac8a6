package eventstore

import (
	"context"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
)

// AwaitScavenge waits for the end of a scavenge, which the event store writes to a stream of its own, and returns that event's
// data: JSON, with result, error, timeTaken and spaceSaved. The error is a gRPC status.
func AwaitScavenge(ctx context.Context, conn grpc.ClientConnInterface, id string) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	none := &shared.Empty{}
	events, err := api.NewStreamsClient(conn).Read(ctx, &api.ReadReq{Options: &api.ReadReq_Options{
		StreamOption: &api.ReadReq_Options_Stream{Stream: &api.ReadReq_Options_StreamOptions{
			StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte("$scavenges-" + id)},
			RevisionOption:   &api.ReadReq_Options_StreamOptions_Start{Start: none}}},
		CountOption:  &api.ReadReq_Options_Subscription{Subscription: &api.ReadReq_Options_SubscriptionOptions{}},
		FilterOption: &api.ReadReq_Options_NoFilter{NoFilter: none},
		UuidOption:   &api.ReadReq_Options_UUIDOption{Content: &api.ReadReq_Options_UUIDOption_Structured{Structured: none}},
	}})
	if err != nil {
		return nil, err
	}
	for {
		message, err := events.Recv()
		if err != nil {
			return nil, err
		}
		if e := message.GetEvent().GetEvent(); e.GetMetadata()["type"] == "$scavengeCompleted" {
			return e.GetData(), nil
		}
	}
}
