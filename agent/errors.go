package agent

import "fmt"

// The codes of Error: the house's words, see each constant.
const (
	CodeInvalid         = "invalid"         // the configuration or the join token is wrong
	CodeConflict        = "conflict"        // another agent holds the directory, or it belongs to another plane
	CodeNotFound        = "not_found"       // no such tenant, or nothing saved
	CodeUnauthenticated = "unauthenticated" // the gateway does not know this agent, or is not the one that the token names
	CodeStale           = "stale"           // another agent has taken over, or the gateway's log is older than one seen before
	CodeUnavailable     = "unavailable"     // the gateway cannot serve this agent, or the plane is away
	CodeInternal        = "internal"        // the directory cannot be read or written
)

// Error is a failure that dialling again cannot mend. Message is one line for a person.
type Error struct {
	Code    string
	Message string
	Err     error // may be nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return fmt.Sprintf("%s: %v", e.Message, e.Err)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

func failf(code string, cause error, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Err: cause}
}
