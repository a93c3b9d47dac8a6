package eventnode

import "github.com/google/uuid"

// facts are what the decision about an append needs to know of its stream.
type facts struct {
	current     int64 // last revision, -1 for a stream without events
	tombstoned  bool  // a metastream's stream counts, too
	softDeleted bool
	hasMetadata bool // the metastream has events; looked at only when current is -1
}

// history answers which events a stream has. Both look at the log, so they are durable.
type history interface {
	// idAt is the id of the event at a revision from 0 to current; nil, which no event has, if it has been scavenged.
	idAt(revision int64) (uuid.UUID, error)
	// firstPlace is the revision at which an id was used for the first time, if that was in this stream.
	firstPlace(id uuid.UUID) (revision int64, found bool, err error)
}

type decision int

const (
	accept        decision = iota
	acceptDeleted          // accept, and bring the soft-deleted stream back
	alreadyDone            // all of it is in the log: answer as if it had been written now
	wrongVersion
	refuseDeleted
)

// verdict is a decision and, if all is there already, the revision of the last event.
type verdict struct {
	decision decision
	revision int64
}

// decide is the rulebook of appends. It is evaluated by the committer alone, on the streams as they are after everything
// accepted before.
func decide(f facts, expected int64, ids []uuid.UUID, h history) (verdict, error) {
	ok := verdict{decision: accept}
	if f.softDeleted {
		ok.decision = acceptDeleted
	}
	switch {
	case f.tombstoned:
		return verdict{decision: refuseDeleted}, nil
	case expected == expectStreamExists && f.softDeleted:
		return verdict{decision: refuseDeleted}, nil
	case expected == expectStreamExists && f.current < 0 && !f.hasMetadata:
		return verdict{decision: wrongVersion}, nil
	case expected == expectAny || expected == expectStreamExists:
		return decideByID(ok, ids, h)
	case expected > f.current:
		return verdict{decision: wrongVersion}, nil
	case expected == f.current:
		return ok, nil // even with ids that are there already
	}
	return decideByRevision(ok, f, expected, ids, h)
}

// decideByID: known are ids whose first use was in this stream. The first id of the call says whether the call is a
// repetition; one that is a repetition must be one in full.
func decideByID(ok verdict, ids []uuid.UUID, h history) (verdict, error) {
	last := int64(-1)
	for i, id := range ids {
		revision, found, err := h.firstPlace(id)
		switch {
		case err != nil:
			return verdict{}, err
		case !found && i == 0:
			return ok, nil
		case !found:
			return verdict{decision: wrongVersion}, nil
		}
		last = revision
	}
	if len(ids) == 0 {
		return ok, nil
	}
	return verdict{alreadyDone, last}, nil
}

// decideByRevision: the expected revision lies below the last one, so the call is either a repetition of what follows
// that revision, or it comes too late.
func decideByRevision(ok verdict, f facts, expected int64, ids []uuid.UUID, h history) (verdict, error) {
	for i, id := range ids {
		revision := expected + 1 + int64(i)
		if revision <= f.current {
			stored, err := h.idAt(revision)
			if err != nil {
				return verdict{}, err
			}
			if stored == id {
				continue
			}
		}
		if i == 0 && expected == expectNoStream && f.softDeleted {
			return ok, nil // the stream begins anew
		}
		return verdict{decision: wrongVersion}, nil
	}
	if len(ids) == 0 {
		return verdict{decision: wrongVersion}, nil
	}
	return verdict{alreadyDone, expected + int64(len(ids))}, nil
}
