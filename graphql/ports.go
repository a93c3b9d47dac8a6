package graphql

import (
	"context"

	"github.com/tenure-dev/tenure/commands"
	"github.com/tenure-dev/tenure/graphql/view"
)

// Commander is the write side's door: a commands.Bus.
type Commander interface {
	Execute(ctx context.Context, call commands.Call) (commands.Outcome, error)
}

// Sagas finds the stream of a saga, of which callers know the id alone.
type Sagas interface {
	// FindSaga gives the id behind the category, <name>.<sag_…>, of the saga with that id, or false.
	FindSaga(ctx context.Context, sagaID string) (id string, ok bool, err error)
}

// Tokens draws the secrets with which agents join.
type Tokens interface {
	// NewJoinToken gives a token for an agent of that data plane, and the hash of its secret for the log.
	NewJoinToken(planeID string) (token, hash string, err error)
}

// The ports of the read side are those of package view.
type (
	Reads  = view.Reads
	Live   = view.Live
	Sealer = view.Sealer

	SinkReader   = view.SinkReader
	SinkStatus   = view.SinkStatus
	SinkEvent    = view.SinkEvent
	SinkDelivery = view.SinkDelivery
)
