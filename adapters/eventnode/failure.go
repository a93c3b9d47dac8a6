package eventnode

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// failure is a refusal with the status, the text and the trailers that the client knows it by.
type failure struct {
	code    codes.Code
	text    string
	trailer metadata.MD
}

func (f *failure) Error() string { return f.text }

// answer turns what a handler returns into what gRPC sends.
func answer(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		if _, ours := errors.AsType[*failure](err); !ours {
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	err, trailer := statusOf(err)
	if trailer != nil {
		_ = grpc.SetTrailer(ctx, trailer) // fails only when the call is over
	}
	return err
}

// statusOf is an error as the wire has it. It is the one place where they meet.
func statusOf(err error) (error, metadata.MD) {
	if f, ok := errors.AsType[*failure](err); ok {
		return status.Error(f.code, f.text), f.trailer
	}
	if _, ok := status.FromError(err); ok {
		return err, nil
	}
	return status.Error(codes.Internal, err.Error()), nil
}

func invalid(format string, args ...any) error {
	return &failure{code: codes.InvalidArgument, text: fmt.Sprintf(format, args...)}
}

func streamDeleted(stream string) error {
	return &failure{codes.FailedPrecondition, "Event stream '" + stream + "' is deleted.",
		metadata.Pairs("exception", "stream-deleted", "stream-name", headerText(stream))}
}

func accessDenied() error {
	return &failure{codes.PermissionDenied, "Access Denied", metadata.Pairs("exception", "access-denied")}
}

func wrongDeleteVersion(stream string, expected, actual int64) error {
	return &failure{codes.FailedPrecondition,
		fmt.Sprintf("Delete failed due to WrongExpectedVersion. Stream: %s, Expected version: %d, Actual version: %d", stream, expected, actual),
		metadata.Pairs("exception", "wrong-expected-version", "stream-name", headerText(stream),
			"expected-version", strconv.FormatInt(expected, 10), "actual-version", strconv.FormatInt(actual, 10))}
}

func missingMetadata(key string) error {
	return &failure{codes.InvalidArgument, "Required Metadata Property '" + key + "' is missing",
		metadata.Pairs("exception", "missing-required-metadata-property", "required-metadata-properties", "type,content-type")}
}

func appendTooLarge() error {
	limit := strconv.Itoa(maxAppendSize)
	return &failure{codes.InvalidArgument, "Maximum Append Size of " + limit + " Exceeded.",
		metadata.Pairs("exception", "maximum-append-size-exceeded", "maximum-append-size", limit)}
}

// notReady makes the client look for another node, so it is for a node that is stopping or has failed, never for one
// that is merely busy.
func notReady() error { return &failure{code: codes.Unavailable, text: "Server Is Not Ready"} }

// headerText makes a stream's name fit for a trailer, where HTTP/2 carries printable ASCII only. The text of the error
// has the full name.
func headerText(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			b := make([]byte, 0, len(s))
			for _, r := range s {
				if r < ' ' || r > '~' {
					r = '?'
				}
				b = append(b, byte(r))
			}
			return string(b)
		}
	}
	return s
}
