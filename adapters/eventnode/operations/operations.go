// Package operations is the protocol's service for a node's upkeep: its messages, generated, and its two calls. The node
// serves it, and the command line calls it.
package operations

import (
	"context"

	"google.golang.org/grpc"
)

const (
	StartScavengeMethod = "/event_store.client.operations.Operations/StartScavenge"
	StopScavengeMethod  = "/event_store.client.operations.Operations/StopScavenge"
)

// Server is what a node does.
type Server interface {
	// StartScavenge begins to remove what nobody can read any more, unless that is under way already, and answers at once.
	StartScavenge(context.Context, *StartScavengeReq) (*ScavengeResp, error)
	// StopScavenge ends a scavenge early. What it has removed stays removed.
	StopScavenge(context.Context, *StopScavengeReq) (*ScavengeResp, error)
}

// Register has a server answer the calls.
func Register(r grpc.ServiceRegistrar, s Server) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: "event_store.client.operations.Operations",
		HandlerType: (*Server)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: "StartScavenge", Handler: handler(StartScavengeMethod, Server.StartScavenge)},
			{MethodName: "StopScavenge", Handler: handler(StopScavengeMethod, Server.StopScavenge)},
		},
		Metadata: "operations.proto",
	}, s)
}

func handler[T any](name string, call func(Server, context.Context, *T) (*ScavengeResp, error)) grpc.MethodHandler {
	return func(s any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		req := new(T)
		if err := decode(req); err != nil {
			return nil, err
		}
		handle := func(ctx context.Context, req any) (any, error) { return call(s.(Server), ctx, req.(*T)) }
		if intercept == nil {
			return handle(ctx, req)
		}
		return intercept(ctx, req, &grpc.UnaryServerInfo{Server: s, FullMethod: name}, handle)
	}
}

// StartScavenge calls a node.
func StartScavenge(ctx context.Context, conn grpc.ClientConnInterface, req *StartScavengeReq) (*ScavengeResp, error) {
	resp := &ScavengeResp{}
	return resp, conn.Invoke(ctx, StartScavengeMethod, req, resp)
}

// StopScavenge calls a node.
func StopScavenge(ctx context.Context, conn grpc.ClientConnInterface, req *StopScavengeReq) (*ScavengeResp, error) {
	resp := &ScavengeResp{}
	return resp, conn.Invoke(ctx, StopScavengeMethod, req, resp)
}
