package eventnode

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	ps "github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tenure-dev/tenure/adapters/eventnode/nodetest"
)

// secureRig is a node with TLS and the users admin, ops and plain, whose passwords are their names and "-password".
type secureRig struct {
	*rig
	users *Users
	dir   string
}

func newSecureRig(t *testing.T) *secureRig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	s := &secureRig{rig: &rig{t: t, ctx: ctx, clock: newClock()}, dir: t.TempDir()}
	cert, key, trust := nodetest.SelfSigned(t, s.dir, 1)
	config, err := ServerTLS(cert, key, s.clock.now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.users = newUsers(t, s.dir, s.clock)
	s.node, err = Open(Options{Dir: filepath.Join(s.dir, "log"), Addr: "127.0.0.1:0", Now: s.clock.now, TLS: config, Users: s.users})
	if err != nil {
		t.Fatal(err)
	}
	s.served = make(chan error, 1)
	go func() { s.served <- s.node.Serve() }()
	s.conn, err = grpc.NewClient(s.node.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: trust})))
	if err != nil {
		t.Fatal(err)
	}
	s.api = api.NewStreamsClient(s.conn)
	t.Cleanup(func() {
		s.down()
		cancel()
	})
	return s
}

func newUsers(t testing.TB, dir string, c *clock) *Users {
	t.Helper()
	users, err := OpenUsers(dir, c.now, nil)
	if err != nil {
		t.Fatal(err)
	}
	users.cost = argonCost{passes: 1, memory: 8} // a wrong password costs a hash, and tests try many
	for name, roles := range map[string][]string{"admin": {RoleAdmins}, "ops": {RoleOps}, "plain": nil} {
		if err := users.Add(name, name+"-password", roles...); err != nil {
			t.Fatal(err)
		}
	}
	return users
}

func basic(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

// callers are the columns of the tables: no credentials, wrong ones, a user without roles, one with each.
var callers = []string{"", basic("plain", "wrong-password"), basic("plain", "plain-password"), basic("ops", "ops-password"), basic("admin", "admin-password")}

// permitted is what a call says of permissions: yes if it got past them.
func permitted(err error, trailer metadata.MD) string {
	switch refusal(err, trailer) {
	case "Unauthenticated":
		return "who?"
	case "PermissionDenied access-denied":
		return "no"
	case "PermissionDenied":
		return "no, and no trailer"
	}
	return "yes"
}

// as is a context with a caller's credentials.
func as(ctx context.Context, credentials string) context.Context {
	if credentials == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", credentials)
}

// Methods without a stream are let through, or not, before their handler has a say. A table that is as long as the node's
// own makes whoever adds a method say who may call it.
func TestWhoMayCallAMethod(t *testing.T) {
	t.Parallel()
	const (
		streams, groups, operations = "/event_store.client.streams.Streams/", "/event_store.client.persistent_subscriptions.PersistentSubscriptions/",
			"/event_store.client.operations.Operations/"
		everybody, handlerAsks, users, upkeep = "yes yes yes yes yes", "yes who? yes yes yes", "no who? yes yes yes", "no who? no yes yes"
	)
	rows := map[string]string{
		"/event_store.client.server_features.ServerFeatures/GetSupportedMethods": everybody,
		"/event_store.client.gossip.Gossip/Read":                                 everybody,
		streams + "Read":                                                         handlerAsks, streams + "Append": handlerAsks, streams + "Delete": handlerAsks, streams + "Tombstone": handlerAsks,
		streams + "BatchAppend": handlerAsks,
		groups + "Read":         users, groups + "GetInfo": users, groups + "List": users,
		groups + "Create": upkeep, groups + "Update": upkeep, groups + "Delete": upkeep, groups + "ReplayParked": upkeep, groups + "RestartSubsystem": upkeep,
		operations + "StartScavenge": upkeep, operations + "StopScavenge": upkeep, operations + "Shutdown": upkeep, operations + "MergeIndexes": upkeep,
		operations + "ResignNode": upkeep, operations + "SetNodePriority": upkeep, operations + "RestartPersistentSubscriptions": upkeep,
	}
	s := newSecureRig(t)
	asked := func(n *Node, method, credentials string) string {
		md := metadata.MD{}
		if credentials != "" {
			md.Set("authorization", credentials)
		}
		_, err := n.admit(metadata.NewIncomingContext(s.ctx, md), method)
		if status.Code(err) == codes.PermissionDenied {
			return "no"
		}
		return permitted(err, nil)
	}
	all := func(n *Node, method string) string {
		var words []string
		for _, c := range callers {
			words = append(words, asked(n, method, c))
		}
		return strings.Join(words, " ")
	}
	insecure := newRig(t)
	for method, want := range rows {
		if got := all(s.node, method); got != want {
			t.Errorf("%s:\n got  %s\n want %s", method, got, want)
		}
		if got := all(insecure.node, method); got != everybody {
			t.Errorf("%s of an insecure node: %s", method, got)
		}
	}
	for _, method := range s.node.server.Methods() {
		if rows[method] == "" {
			t.Errorf("nobody has said who may call %s", method)
		}
	}
	if got := all(s.node, "/other.Service/Method"); got != "no who? no no no" {
		t.Errorf("a method that nobody has heard of: %s", got)
	}
}

// streamCall is one way of doing something to a stream, with what came of it.
type streamCall func(r *rig, ctx context.Context, stream string) (error, metadata.MD)

// streamCalls are all ways; those that write expect a revision at which no stream is, so nothing is written.
var streamCalls = map[string]streamCall{
	"read":      readAs(func(*api.ReadReq_Options) {}),
	"subscribe": readAs(subscribed),
	"append": func(r *rig, ctx context.Context, stream string) (error, metadata.MD) {
		st, err := r.api.Append(ctx)
		if err != nil {
			return err, nil
		}
		_ = st.Send(appendOptions(stream, 77))
		_, err = st.CloseAndRecv()
		return err, st.Trailer()
	},
	"batch": func(r *rig, ctx context.Context, stream string) (error, metadata.MD) {
		st, err := r.api.BatchAppend(ctx)
		if err != nil {
			return err, nil
		}
		_ = st.Send(whole("a", stream, 77))
		resp, err := st.Recv()
		if code := codes.Code(resp.GetError().GetCode()); err == nil && code == codes.PermissionDenied {
			return status.Error(code, resp.GetError().GetMessage()), metadata.Pairs("exception", "access-denied")
		}
		return err, st.Trailer()
	},
	"delete": func(r *rig, ctx context.Context, stream string) (error, metadata.MD) {
		var trailer metadata.MD
		_, err := r.api.Delete(ctx, &api.DeleteReq{Options: &api.DeleteReq_Options{StreamIdentifier: identifier(stream),
			ExpectedStreamRevision: &api.DeleteReq_Options_Revision{Revision: 77}}}, grpc.Trailer(&trailer))
		return err, trailer
	},
	"tombstone": func(r *rig, ctx context.Context, stream string) (error, metadata.MD) {
		var trailer metadata.MD
		_, err := r.api.Tombstone(ctx, &api.TombstoneReq{Options: &api.TombstoneReq_Options{StreamIdentifier: identifier(stream),
			ExpectedStreamRevision: &api.TombstoneReq_Options_Revision{Revision: 77}}}, grpc.Trailer(&trailer))
		return err, trailer
	},
}

func subscribed(o *api.ReadReq_Options) {
	o.CountOption = &api.ReadReq_Options_Subscription{Subscription: &api.ReadReq_Options_SubscriptionOptions{}}
}

func readAs(how option) streamCall {
	return func(r *rig, ctx context.Context, stream string) (error, metadata.MD) {
		of := ofStream(stream)
		if stream == allStream {
			of = ofAll
		}
		st, err := r.api.Read(ctx, readOptions(of, how))
		if err != nil {
			return err, nil
		}
		_, err = st.Recv()
		return err, st.Trailer()
	}
}

// The calls of a stream, by what it is; each with no credentials, wrong ones, and as plain, ops and admin.
func TestWhoMayDoWhatToAStream(t *testing.T) {
	t.Parallel()
	const users, admins, none, anything = "no who? yes yes yes", "no who? no no yes", "no who? no no no", "yes yes yes yes yes"
	secure, insecure := newSecureRig(t).rig, newRig(t)
	for stream, want := range map[string]struct{ read, write, remove string }{
		"mine":      {users, users, users},
		"$$mine":    {users, users, none},
		"$system":   {admins, admins, admins},
		"$$$system": {admins, admins, none},
		"$users":    {admins, admins, admins},
		"$all":      {admins, none, none},
	} {
		wanted := map[string]string{"read": want.read, "subscribe": want.read, "append": want.write, "batch": want.write, "delete": want.remove, "tombstone": want.remove}
		for name, do := range streamCalls {
			all := func(r *rig) string {
				var words []string
				for _, c := range callers {
					ctx, cancel := context.WithTimeout(as(context.Background(), c), patience)
					words = append(words, permitted(do(r, ctx, stream)))
					cancel()
				}
				return strings.Join(words, " ")
			}
			if got := all(secure); got != wanted[name] {
				t.Errorf("%s %s:\n got  %s\n want %s", name, stream, got, wanted[name])
			}
			expected := anything
			if stream == allStream && !strings.Contains("read subscribe", name) {
				expected = "no no no no no"
			}
			if got := all(insecure); got != expected {
				t.Errorf("insecure, %s %s: %s", name, stream, got)
			}
		}
	}
}

func TestCredentialsThatAreNone(t *testing.T) {
	t.Parallel()
	s := newSecureRig(t)
	for name, given := range map[string]string{
		"another scheme":  "Bearer " + strings.TrimPrefix(callers[4], "Basic "),
		"no base64":       "Basic ???",
		"no colon":        "Basic " + base64.StdEncoding.EncodeToString([]byte("admin")),
		"nothing":         "Basic",
		"unknown user":    basic("somebody", "admin-password"),
		"empty password":  basic("admin", ""),
		"another's":       basic("admin", "ops-password"),
		"name's case":     basic("Admin", "admin-password"),
		"a longer one":    basic("admin", "admin-password "),
		"two of the kind": "",
	} {
		ctx := as(s.ctx, given)
		if given == "" {
			ctx = as(as(s.ctx, callers[3]), callers[4])
		}
		if got := permitted(streamCalls["append"](s.rig, ctx, "s")); got != "who?" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// Who is removed, or has another password, is refused from then on, on connections that are open already, whichever process
// has changed the file.
func TestChangedUsersAreRefusedWithinASecond(t *testing.T) {
	t.Parallel()
	s := newSecureRig(t)
	append := func(credentials string) string {
		return permitted(streamCalls["append"](s.rig, as(s.ctx, credentials), "s"))
	}
	other, err := OpenUsers(s.dir, s.clock.now, nil) // as another process would
	if err != nil {
		t.Fatal(err)
	}
	if got := append(callers[2]) + " " + append(callers[3]); got != "yes yes" {
		t.Fatal(got)
	}
	if err := errors.Join(other.Remove("plain"), other.SetPassword("ops", "another-password"), other.Add("new", "new-password")); err != nil {
		t.Fatal(err)
	}
	s.clock.advance(time.Second)
	for who, want := range map[string]string{callers[2]: "who?", callers[3]: "who?", basic("ops", "another-password"): "yes", basic("new", "new-password"): "yes"} {
		if got := append(who); got != want {
			t.Errorf("%s: %s, want %s", who, got, want)
		}
	}
}

func TestTLSAndUsersGoTogether(t *testing.T) {
	t.Parallel()
	c := newClock()
	users := newUsers(t, t.TempDir(), c)
	for name, o := range map[string]Options{"TLS alone": {TLS: &tls.Config{}}, "users alone": {Users: users}} {
		o.Dir, o.Addr, o.Now = t.TempDir(), "127.0.0.1:0", c.now
		node, err := Open(o)
		if err == nil {
			node.Close(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), "Options.TLS and Options.Users go together") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The official client over TLS: it is known by its password.
func TestOfficialClientOverTLS(t *testing.T) {
	t.Parallel()
	s := newSecureRig(t)
	connect := func(who string) *esdb.Client {
		return officialClient(t, fmt.Sprintf("esdb://%s@%s?tls=true&tlsCaFile=%s", who, s.node.Addr(), filepath.Join(s.dir, "cert.pem")))
	}
	append := func(c *esdb.Client) error {
		_, err := c.AppendToStream(s.ctx, "s", esdb.AppendToStreamOptions{}, esdb.EventData{EventID: uuid.New(), EventType: "T", Data: []byte("{}")})
		return err
	}
	plain, wrong := connect("plain:plain-password"), connect("plain:wrong-password")
	if err := append(plain); err != nil {
		t.Fatal(err)
	}
	var failure *esdb.Error
	if err := append(wrong); !errors.As(err, &failure) || failure.Code() != esdb.ErrorCodeUnauthenticated {
		t.Errorf("a wrong password: %v", err)
	}
	sub, err := plain.SubscribeToStream(s.ctx, "s", esdb.SubscribeToStreamOptions{From: esdb.Start{}})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for e := sub.Recv(); e.EventAppeared == nil; e = sub.Recv() {
		if e.SubscriptionDropped != nil {
			t.Fatal(e.SubscriptionDropped.Error)
		}
	}
	if _, err := plain.SubscribeToAll(s.ctx, esdb.SubscribeToAllOptions{}); !errors.As(err, &failure) || failure.Code() != esdb.ErrorCodeAccessDenied {
		t.Errorf("$all for a user without roles: %v", err)
	}
}

// Whoever asks how a group is hears who its consumers are: the users they have come as.
func TestGroupTellsWhoseItsConsumersAre(t *testing.T) {
	t.Parallel()
	s := newSecureRig(t)
	ctx, groups := as(s.ctx, callers[4]), s.groups()
	if _, err := groups.Create(ctx, creation()); err != nil {
		t.Fatal(err)
	}
	st, err := groups.Read(as(s.ctx, callers[2]))
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Send(&ps.ReadReq{Content: &ps.ReadReq_Options_{Options: &ps.ReadReq_Options{GroupName: "g", BufferSize: 1,
		StreamOption: &ps.ReadReq_Options_StreamIdentifier{StreamIdentifier: identifier("s")},
		UuidOption:   &ps.ReadReq_Options_UUIDOption{Content: &ps.ReadReq_Options_UUIDOption_Structured{Structured: empty}}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); err != nil {
		t.Fatal(err)
	}
	resp, err := groups.GetInfo(ctx, infoOf("s", "g"))
	if err != nil {
		t.Fatal(err)
	}
	if c := resp.SubscriptionInfo.Connections; len(c) != 1 || c[0].Username != "plain" {
		t.Errorf("%v", c)
	}
}
