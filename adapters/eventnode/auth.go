package eventnode

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// permission is what a call needs of its user, where the node has users.
type permission int

const (
	refuse           permission = iota // nobody may
	anybody                            // everybody may, without credentials, too
	byStream                           // the handler asks, as it depends on the stream: readStream, writeStream or deleteStream
	readStream                         // read a stream or $all, also as a subscription or for a persistent one
	writeStream                        // append to a stream
	deleteStream                       // delete or tombstone a stream
	anyUser                            // every user may
	managePersistent                   // create, change, delete, replay and restart them
	operate                            // have the node do its upkeep
)

const operationsService = "/event_store.client.operations.Operations/"

// needs says what each method needs. A method that is not here is refused to everybody, so none is open by oversight.
var needs = map[string]permission{
	serverfeatures.ServerFeatures_GetSupportedMethods_FullMethodName: anybody,
	gossip.Gossip_Read_FullMethodName:                                anybody,

	api.Streams_Read_FullMethodName:        byStream,
	api.Streams_Append_FullMethodName:      byStream,
	api.Streams_Delete_FullMethodName:      byStream,
	api.Streams_Tombstone_FullMethodName:   byStream,
	api.Streams_BatchAppend_FullMethodName: byStream,

	persistent.PersistentSubscriptions_Read_FullMethodName:             anyUser, // and the handler asks for readStream
	persistent.PersistentSubscriptions_GetInfo_FullMethodName:          anyUser,
	persistent.PersistentSubscriptions_List_FullMethodName:             anyUser,
	persistent.PersistentSubscriptions_Create_FullMethodName:           managePersistent,
	persistent.PersistentSubscriptions_Update_FullMethodName:           managePersistent,
	persistent.PersistentSubscriptions_Delete_FullMethodName:           managePersistent,
	persistent.PersistentSubscriptions_ReplayParked_FullMethodName:     managePersistent,
	persistent.PersistentSubscriptions_RestartSubsystem_FullMethodName: managePersistent,

	operationsService + "StartScavenge":                  operate,
	operationsService + "StopScavenge":                   operate,
	operationsService + "Shutdown":                       operate,
	operationsService + "MergeIndexes":                   operate,
	operationsService + "ResignNode":                     operate,
	operationsService + "SetNodePriority":                operate,
	operationsService + "RestartPersistentSubscriptions": operate,
}

// userKey is where a call's context has its *User.
type userKey struct{}

// admit finds out who calls a method, and whether they may. The handler's context knows the user. Without users everybody
// may do everything, and credentials are not looked at. The error is a status.
func (n *Node) admit(ctx context.Context, method string) (context.Context, error) {
	need := needs[method]
	if n.options.Users == nil || need == anybody {
		return ctx, nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	if given := md.Get("authorization"); len(given) > 0 {
		user, err := n.authenticate(ctx, given)
		if err != nil {
			return ctx, answer(ctx, err)
		}
		ctx = context.WithValue(ctx, userKey{}, user)
	}
	if need == byStream {
		return ctx, nil
	}
	return ctx, answer(ctx, n.allow(ctx, need, ""))
}

// authenticate takes one pair of HTTP's basic credentials.
func (n *Node) authenticate(ctx context.Context, given []string) (*User, error) {
	kind, value, _ := strings.Cut(given[0], " ")
	pair, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
	name, password, ok := strings.Cut(string(pair), ":")
	if len(given) > 1 || !strings.EqualFold(kind, "basic") || err != nil || !ok {
		return nil, unauthenticated()
	}
	return n.options.Users.verify(ctx, n.stop, name, password)
}

func unauthenticated() error {
	return &failure{code: codes.Unauthenticated, text: "The credentials are wrong."}
}

// allow says whether the user of a context may do something, to a stream where it is about one. It follows the access
// lists that a real server has by default: users' streams are for every user, system streams and $all for administrators,
// and the metadata of a stream is for those whom the stream is for. Access lists in metadata are not looked at. The
// error is a failure: PERMISSION_DENIED.
func (n *Node) allow(ctx context.Context, what permission, stream string) error {
	if n.options.Users == nil {
		return nil
	}
	user, _ := ctx.Value(userKey{}).(*User)
	if user == nil || !user.may(what, stream) {
		return accessDenied()
	}
	return nil
}

func (u *User) may(what permission, stream string) bool {
	admin := slices.Contains(u.Roles, RoleAdmins)
	switch what {
	case readStream, writeStream:
		return admin || !isSystem(stream)
	case deleteStream:
		return !isMetastream(stream) && (admin || !isSystem(stream))
	case anyUser:
		return true
	case managePersistent, operate:
		return admin || slices.Contains(u.Roles, RoleOps)
	}
	return false
}

// isSystem says whether a stream, or the one that its metadata is of, belongs to the server.
func isSystem(stream string) bool {
	return strings.HasPrefix(strings.TrimPrefix(stream, metastreamPrefix), "$")
}
