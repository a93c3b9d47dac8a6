package eventstore

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tenure-dev/tenure/domain"
)

// unknownRevision is an actual revision that the event store did not name.
const unknownRevision int64 = -2

// coded gives what the client answered as a coded error. The client's own code stands somewhere in the chain, the gRPC
// status below it or alone (dropped subscriptions). What is no definite refusal is CodeUnavailable: its outcome is unknown.
func coded(err error) error {
	var ours *domain.Error
	var theirs *esdb.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ours):
		return err
	case errors.As(err, &theirs):
		switch theirs.Code() {
		case esdb.ErrorCodeWrongExpectedVersion:
			return conflict(err)
		case esdb.ErrorCodeStreamDeleted:
			return gone(err)
		}
	}
	switch s := status.Convert(grpcStatus(err)); s.Code() {
	case codes.FailedPrecondition:
		if strings.Contains(s.Message(), "WrongExpectedVersion") { // how deletes say it
			return conflict(err)
		}
		if strings.Contains(s.Message(), "is deleted") { // how dropped subscriptions say it
			return gone(err)
		}
	case codes.InvalidArgument:
		switch {
		case strings.Contains(s.Message(), "Maximum Append"):
			return &domain.Error{Code: domain.CodeTooLarge, Message: "more than the event store takes at once", Cause: err}
		case strings.Contains(s.Message(), "invalid position"):
			return &domain.Error{Code: domain.CodeInvalid, Field: "position", Message: "is no place in this log", Cause: err}
		}
		return refused(err)
	case codes.ResourceExhausted:
		return &domain.Error{Code: domain.CodeTooLarge, Message: "more than the event store takes at once", Cause: err}
	case codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		return refused(err)
	}
	return domain.Unavailable("the event store did not answer", err)
}

// grpcStatus finds the error below the client's own that carries a status.
func grpcStatus(err error) error {
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		return s.GRPCStatus().Err()
	}
	return nil
}

// login says that the event store knows us not, or not well enough; nil for every other error. It is for Open alone: later a
// caller of ours would take it for a word about himself.
func login(err error) *domain.Error {
	switch status.Code(grpcStatus(err)) {
	case codes.Unauthenticated:
		return &domain.Error{Code: domain.CodeUnauthenticated, Field: "eventstore", Message: "does not accept the user and password", Cause: err}
	case codes.PermissionDenied:
		return &domain.Error{Code: domain.CodeForbidden, Field: "eventstore", Message: "does not let this user read the log", Cause: err}
	}
	return nil
}

func refused(err error) error {
	return &domain.Error{Code: domain.CodeInternal, Message: "the event store refused", Cause: err}
}

func gone(err error) error {
	return &domain.Error{Code: domain.CodeNotFound, Message: "the stream is deleted for ever", Cause: err}
}

// conflict reads the actual revision out of the text, where alone it stands.
func conflict(err error) error {
	e := domain.Conflict(unknownRevision, unknownRevision)
	e.Cause = err
	for _, before := range []string{"but got '", "Actual version: "} {
		_, rest, found := strings.Cut(err.Error(), before)
		if !found {
			continue
		}
		number := strings.TrimRight(rest, "'. ")
		if number == "no_stream" {
			e.Actual = domain.NoStream
		} else if n, err := strconv.ParseInt(number, 10, 64); err == nil {
			e.Actual = n
		}
	}
	return e
}

func isNotFound(err error) bool {
	var e *esdb.Error
	return errors.As(err, &e) && e.Code() == esdb.ErrorCodeResourceNotFound
}

func malformed(format string, args ...any) error {
	return &domain.Error{Code: domain.CodeInternal, Message: "the event cannot be written", Cause: fmt.Errorf(format, args...)}
}
