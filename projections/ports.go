package projections

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/tenure-dev/tenure/domain"
)

// Source is the log as one subscription: every event after a position, in log order, without end.
type Source interface {
	// Subscribe delivers what stands after the commit position, or from the log's start. It ends with an error or with ctx.
	Subscribe(ctx context.Context, after uint64, fromStart bool) iter.Seq2[domain.Delivery, error]
}

// Streams reads one stream, for healing and for watching where the group does not run. A stream that is not there is empty.
type Streams interface {
	ReadStream(ctx context.Context, stream string, from int64) iter.Seq2[domain.Recorded, error]
}

// Clock is the only time that this package knows.
type Clock interface {
	Now() time.Time
	After(d time.Duration) <-chan time.Time
}

// Store keeps a group's rows, checkpoint, lease and parked keys. Every write names a lease, and one that is no longer
// held changes nothing and is ErrFenced. Any other error may leave the outcome unknown.
type Store interface {
	// Lease gives the group's lease as it stands; the zero lease, but for its group, if there was never one.
	Lease(ctx context.Context, group string) (Lease, error)
	// Acquire takes the lease if it still is as it was seen, and raises its epoch. Otherwise it is ErrFenced.
	Acquire(ctx context.Context, seen Lease, owner string) (Lease, error)
	// Renew raises the lease's beat.
	Renew(ctx context.Context, l Lease) (Lease, error)
	// Release gives the lease up, so that another need not wait for it to expire.
	Release(ctx context.Context, l Lease) error

	// Prepare makes every table that no generation serves in its version, empty, and names those: they are built and then
	// served before the group goes on. What an earlier build left is removed.
	Prepare(ctx context.Context, l Lease, tables []*Table) (unbuilt []*Table, err error)
	// Fill writes rows into a table that is being built, and gives those that it refuses.
	Fill(ctx context.Context, l Lease, t *Table, rows []Upsert) (refused []Parked, err error)
	// Serve makes the built tables the serving ones, with those keys parked, provided that the checkpoint still is at at.
	Serve(ctx context.Context, l Lease, built []*Table, parked []Parked, at Mark) error

	// Mark gives the group's checkpoint and its parked keys.
	Mark(ctx context.Context, l Lease) (Mark, []Parked, error)
	// Load gives the rows with those keys, of those that exist.
	Load(ctx context.Context, wanted []Wanted) ([]Loaded, error)
	// Below gives the keys of the rows that have that key, or that key and a slash before theirs.
	Below(ctx context.Context, t *Table, key string) ([]string, error)
	// Commit writes everything or nothing. Rows that the store refuses, whoever writes them, are parked instead, in the
	// same transaction, and returned.
	Commit(ctx context.Context, c Commit) (refused []Parked, err error)

	// Follow gives the checkpoint as it stands and then whenever it has moved or the lease was released, from every process.
	Follow(ctx context.Context, group string) iter.Seq2[Notice, error]
}

// ErrFenced says that the lease is another's, or that the checkpoint is not where the writer left it.
var ErrFenced = errors.New("the lease or the checkpoint has moved on")

// Lease is the right to write a group's rows.
type Lease struct {
	Group string
	Owner string // empty when nobody's
	Epoch int64  // raised whenever it is taken: the fencing token
	Beat  int64  // raised whenever it is renewed
}

// Mark is a checkpoint: how far the group has come in which log.
type Mark struct {
	Commit int64 // the commit position of the last event in the rows; Nowhere before the first
	Log    domain.Epoch
}

// Nowhere is the checkpoint before any event.
const Nowhere int64 = -1

// Wanted is what to load of one table.
type Wanted struct {
	Table *Table
	Keys  []string
}

// Loaded is a row of Wanted number Want.
type Loaded struct {
	Want   int
	Fields [][]byte // canonical forms, nil for NULL; the receiver's to keep
}

// Commit is one transaction of a group.
type Commit struct {
	Lease   Lease
	From    int64 // the checkpoint as the group left it
	To      Mark
	Changes []Changes
	Park    []Parked
	Unpark  []Parked // by projection, version and key
}

// Changes are what a transaction does to one table. No key stands twice.
type Changes struct {
	Table   *Table
	Upserts []Upsert
	Deletes []string
}

// Upsert is a row to write and where its first change in this transaction stands, which is where it would be parked.
type Upsert struct {
	Row   Encoded
	First Parked // without an error
}

// Notice is what Follow tells.
type Notice struct {
	Commit int64 // the checkpoint
	Free   bool  // the lease was released
}
