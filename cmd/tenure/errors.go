package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tenure-dev/tenure/adapters/app"
	"github.com/tenure-dev/tenure/agent"
	"github.com/tenure-dev/tenure/domain"
)

// The exit codes; see rootHelp.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitUnavailable
	exitNotFound
	exitRefused
)

// failure is an error as the command line reports it.
type failure struct {
	exit    int
	code    domain.Code
	message string
}

func (f *failure) Error() string { return f.message }

// usage is a mistake in the command line or in the configuration.
func usage(format string, args ...any) error {
	return &failure{exitUsage, domain.CodeInvalid, fmt.Sprintf(format, args...)}
}

// taken is a port or a directory that somebody else has; the message names the flag.
func taken(format string, args ...any) error {
	return &failure{exitUsage, domain.CodeConflict, fmt.Sprintf(format, args...)}
}

// coded is an error with one of the house's codes.
func coded(code domain.Code, format string, args ...any) error {
	return &failure{exitOf(code), code, fmt.Sprintf(format, args...)}
}

func exitOf(code domain.Code) int {
	switch code {
	case domain.CodeInternal:
		return exitFailed
	case domain.CodeUnavailable, domain.CodeLagging:
		return exitUnavailable
	case domain.CodeNotFound:
		return exitNotFound
	default:
		return exitRefused
	}
}

// asFailure gives any error its code and its exit code.
func asFailure(err error) *failure {
	var (
		ours    *failure
		kernels *domain.Error
		agents  *agent.Error
	)
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.Is(err, app.ErrTaken):
		return &failure{exitUsage, domain.CodeConflict, err.Error()}
	case errors.As(err, &kernels):
		return &failure{exitOf(kernels.Code), kernels.Code, kernels.Error()}
	case errors.As(err, &agents):
		code := domain.Code(agents.Code)
		return &failure{exitOf(code), code, agents.Error()}
	case errors.Is(err, context.Canceled):
		return &failure{exitUnavailable, domain.CodeUnavailable, "interrupted"}
	default:
		return &failure{exitFailed, domain.CodeInternal, err.Error()}
	}
}

// report writes an error as one line and gives the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	f := asFailure(err)
	fmt.Fprintf(w, "tenure: %s: %s\n", f.code, oneLine(f.message))
	return f.exit
}

func oneLine(text string) string { return printable(strings.Join(strings.Fields(text), " ")) }
