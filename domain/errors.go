package domain

import (
	"errors"
	"fmt"
	"strings"
)

// Code is the kind of an error, the same word in Go, GraphQL, gRPC and on the command line.
type Code string

// The codes; the comments name the fields of Error that go with each.
const (
	CodeInvalid           Code = "invalid"                // Field
	CodeNotFound          Code = "not_found"              // Field
	CodeNotAllowed        Code = "not_allowed"            // Phase, Allowed
	CodeConflict          Code = "conflict"               // Expected, Actual
	CodeAlreadyExists     Code = "already_exists"         // Field
	CodeKeyReused         Code = "idempotency_key_reused" // Field
	CodeQuotaExceeded     Code = "quota_exceeded"         //
	CodeCapacityExhausted Code = "capacity_exhausted"     //
	CodeForbidden         Code = "forbidden"              //
	CodeUnauthenticated   Code = "unauthenticated"        //
	CodeLagging           Code = "projection_lagging"     //
	CodeUnavailable       Code = "unavailable"            //
	CodeStale             Code = "stale"                  //
	CodeTooLarge          Code = "too_large"              //
	CodeInternal          Code = "internal"               // an id to find in the log
)

// Error is a coded error. Message is for a person, starts in lower case, and holds neither internals nor personal data.
type Error struct {
	Code    Code
	Field   string // the input field at fault, lowerCamel, dots between levels
	Message string
	Phase   string   // not_allowed: the phase in which the command came
	Allowed []string // not_allowed: the phases in which it is heard
	// Expected and Actual are a conflict's revisions; NoStream where there is none.
	Expected, Actual int64
	Cause            error // for the log alone
}

func (e *Error) Error() string {
	text := e.Message
	if e.Field != "" {
		text = e.Field + " " + text
	}
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Public is the text that a caller may see: without the cause.
func (e *Error) Public() string {
	if e.Field != "" {
		return e.Field + " " + e.Message
	}
	return e.Message
}

// CodeOf finds the code in an error's chain; internal for an uncoded one and empty for nil.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	default:
		return CodeInternal
	}
}

// Invalid says what is wrong with an input field: Invalid("slug", "must not be empty").
func Invalid(field, problem string, args ...any) *Error {
	return &Error{Code: CodeInvalid, Field: field, Message: fmt.Sprintf(problem, args...)}
}

// NotFound says that what a field names does not exist.
func NotFound(field, problem string, args ...any) *Error {
	return &Error{Code: CodeNotFound, Field: field, Message: fmt.Sprintf(problem, args...)}
}

// NotAllowed says that a command met a phase in which the rulebook has no row for it.
func NotAllowed(command, phase string, allowed ...string) *Error {
	if phase == "" {
		phase = "absent"
	}
	in := strings.Join(allowed, ", ")
	if in == "" {
		in = "none"
	}
	return &Error{Code: CodeNotAllowed, Phase: phase, Allowed: allowed,
		Message: fmt.Sprintf("%s is not allowed while %s (allowed: %s)", command, phase, in)}
}

// Conflict says that a stream is not at the revision that the caller expected.
func Conflict(expected, actual int64) *Error {
	return &Error{Code: CodeConflict, Field: "expectedRevision", Expected: expected, Actual: actual,
		Message: fmt.Sprintf("is %d, but the object is at revision %d", expected, actual)}
}

// Unavailable says that the outcome is unknown and the same call may be made again.
func Unavailable(message string, cause error) *Error {
	return &Error{Code: CodeUnavailable, Message: message, Cause: cause}
}
