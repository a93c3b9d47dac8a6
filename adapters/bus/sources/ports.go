// Package sources takes callers' commands from other systems as CloudEvents, gives them to the Bus with the same checks,
// idempotency and errors as the API, and publishes what became of them. adapters/app builds it from configuration; it sees
// a broker only as a watermill Subscriber and Publisher.
package sources

import (
	"context"
	"time"

	"github.com/tenure-dev/tenure/commands"
)

// Commander is the write side's door: a commands.Bus.
type Commander interface {
	Execute(ctx context.Context, call commands.Call) (commands.Outcome, error)
}

// Clock is the time, so that tests can advance it.
type Clock interface {
	Now() time.Time
	After(d time.Duration) <-chan time.Time
}
