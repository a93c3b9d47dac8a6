package eventnode

import (
	"context"
	"encoding/binary"
	"net"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
)

// streamsService is the Streams service.
type streamsService struct {
	api.UnimplementedStreamsServer
	node *Node
}

// gossipService tells of the one member there is.
type gossipService struct {
	gossip.UnimplementedGossipServer
	node *Node
}

func (s *gossipService) Read(context.Context, *shared.Empty) (*gossip.ClusterInfo, error) {
	n := s.node
	host, port := n.advertised()
	return &gossip.ClusterInfo{Members: []*gossip.MemberInfo{{
		InstanceId: &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
			MostSignificantBits:  int64(binary.BigEndian.Uint64(n.instance[:8])),
			LeastSignificantBits: int64(binary.BigEndian.Uint64(n.instance[8:])),
		}}},
		TimeStamp:    ticks(n.now()),
		State:        gossip.MemberInfo_Leader,
		IsAlive:      true,
		HttpEndPoint: &gossip.EndPoint{Address: host, Port: uint32(port)},
	}}}, nil
}

// advertised is where clients reach the node. A client that sees another name than it has dialled dials anew.
func (n *Node) advertised() (host string, port int) {
	host = "127.0.0.1"
	if addr, ok := n.listener.Addr().(*net.TCPAddr); ok {
		port = addr.Port
		if !addr.IP.IsUnspecified() {
			host = addr.IP.String()
		}
	}
	if n.options.AdvertiseHost != "" {
		host = n.options.AdvertiseHost
	}
	return host, port
}

// featuresService tells the client what it may call.
type featuresService struct {
	serverfeatures.UnimplementedServerFeaturesServer
}

// serverVersion is the server whose behaviour ours follows. The client understands digits only.
const serverVersion = "24.10.4"

func (s *featuresService) GetSupportedMethods(context.Context, *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	const streams, members, features = "event_store.client.streams.streams", "event_store.client.gossip.gossip", "event_store.client.server_features.serverfeatures"
	const groups = "event_store.client.persistent_subscriptions.persistentsubscriptions"
	both := []string{"stream", "all"}
	return &serverfeatures.SupportedMethods{
		EventStoreServerVersion: serverVersion,
		Methods: []*serverfeatures.SupportedMethod{
			{ServiceName: streams, MethodName: "read", Features: []string{"position", "events"}},
			{ServiceName: streams, MethodName: "append"},
			{ServiceName: streams, MethodName: "batchappend", Features: []string{"deadline_duration"}},
			{ServiceName: streams, MethodName: "delete"},
			{ServiceName: streams, MethodName: "tombstone"},
			{ServiceName: groups, MethodName: "create", Features: both},
			{ServiceName: groups, MethodName: "update", Features: both},
			{ServiceName: groups, MethodName: "delete", Features: both},
			{ServiceName: groups, MethodName: "read", Features: both},
			{ServiceName: groups, MethodName: "getinfo", Features: both},
			{ServiceName: groups, MethodName: "replayparked", Features: both},
			{ServiceName: groups, MethodName: "list", Features: both},
			{ServiceName: groups, MethodName: "restartsubsystem", Features: both},
			{ServiceName: members, MethodName: "read"},
			{ServiceName: features, MethodName: "getsupportedmethods"},
		},
	}, nil
}
