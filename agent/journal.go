package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tenure-dev/tenure/agent/protocol"
)

const (
	staleChange = protocol.StaleChange
	staleCauses = protocol.StaleCauses
)

// journal is the file of records and their fold. It can be deleted: the agent then gets a resync.
type journal struct {
	path    string
	planeID string

	queueMu sync.Mutex
	queue   []*entry // that wait for mu: whoever gets it writes them all with one sync

	mu        sync.Mutex
	file      *os.File // nil until the first resync
	state     journalState
	size      int64 // of the file, in bytes
	compacted int64 // size after the last compaction
}

// A journal is compacted at start, and when it has grown to both of these.
const (
	compactFrom   = 8 << 20 // bytes
	compactFactor = 4       // times its compacted size
)

// errOtherEpoch is a write on behalf of an epoch that is over: what it says no longer counts.
var errOtherEpoch = errors.New("the journal is of another epoch")

// openJournal reads and compacts dir's journal. One that is damaged or of another plane is set aside: losing a journal is
// safe, believing a wrong one is not.
func openJournal(dir, planeID string, log *slog.Logger) (*journal, error) {
	j := &journal{path: filepath.Join(dir, journalFile), planeID: planeID, state: newJournalState()}
	state, found, err := readJournal(j.path)
	if err == nil && found && state.PlaneID != planeID {
		err = fmt.Errorf("%w: it is of plane %s", errDamaged, state.PlaneID)
	}
	switch {
	case errors.Is(err, errDamaged):
		aside := fmt.Sprintf("%s.damaged-%s", j.path, time.Now().UTC().Format("20060102T150405.000000Z"))
		log.Error("the journal is set aside, a resync will replace it", "to", aside, "error", err)
		if err := os.Rename(j.path, aside); err != nil {
			return nil, failf(CodeInternal, err, "the damaged journal cannot be set aside")
		}
		return j, nil
	case err != nil:
		return nil, failf(CodeInternal, err, "the journal cannot be read")
	case !found:
		return j, nil
	}
	j.state = state
	return j, j.compactLocked()
}

// readJournal folds the file; it may be read while an agent writes it. Found is false when it has no whole record.
func readJournal(path string) (state journalState, found bool, err error) {
	state = newJournalState()
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return state, false, nil
	}
	if err != nil {
		return state, false, err
	}
	records, _, err := decodeRecords(content)
	for _, r := range records {
		state.apply(r)
	}
	return state, len(records) > 0, err
}

// entry is a record on its way into the file.
type entry struct {
	decide func() (*record, error) // what to write, if anything, as the state is then; called with mu held
	then   func()                  // called when that stands, still with mu held; may be nil
	over   bool                    // decided, and durable if there was anything; guarded by mu
	err    error
}

// commit writes what decide says and returns when it is durable. Those that wait meanwhile share the next sync. They are
// decided before any of them is applied, which is right as long as a tenant's lane begins one operation at a time.
func (j *journal) commit(decide func() (*record, error), then func()) error {
	own := &entry{decide: decide, then: then}
	j.queueMu.Lock()
	j.queue = append(j.queue, own)
	j.queueMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if own.over {
		return own.err
	}
	j.queueMu.Lock()
	batch := j.queue
	j.queue = nil
	j.queueMu.Unlock()
	var records []record
	var written []*entry
	for _, e := range batch {
		e.over = true
		r, err := e.decide()
		if e.err = err; err == nil && r != nil {
			records, written = append(records, *r), append(written, e)
		}
	}
	if len(records) > 0 {
		err := j.appendLocked(true, records...)
		for _, e := range written {
			e.err = err
		}
	}
	for _, e := range batch {
		if e.err == nil && e.then != nil {
			e.then()
		}
	}
	return own.err
}

// begin journals that op is about to be run, and says how its tenant stands: the level is that of the highest causes.
// With a stale code nothing was written and op must not run. An op that had begun before is not judged again.
func (j *journal) begin(epoch Epoch, op operation) (tenant tenantState, stale string, err error) {
	err = j.commit(func() (*record, error) {
		if j.state.Epoch != epoch {
			return nil, errOtherEpoch
		}
		if j.state.Open[op.ID].Begun != nil {
			return nil, nil
		}
		if stale = j.state.stale(op); stale != "" {
			return nil, nil
		}
		return &record{Begun: &op}, nil
	}, func() { tenant = j.state.Tenants[op.Tenant.TenantID] })
	return tenant, stale, err
}

// end journals how an operation ended.
func (j *journal) end(epoch Epoch, o outcome) error {
	return j.commit(func() (*record, error) {
		if j.state.Epoch != epoch {
			return nil, errOtherEpoch
		}
		return &record{Outcome: &o}, nil
	}, nil)
}

// recorded drops what the log holds. It is not synced: lost, the outcomes are only sent once more.
func (j *journal) recorded(ids []string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var known []string
	for _, id := range ids {
		if o, ok := j.state.Open[id]; ok && o.Outcome != nil {
			known = append(known, id)
		}
	}
	if len(known) == 0 {
		return nil
	}
	return j.appendLocked(false, record{Recorded: known})
}

// resync makes the journal that of epoch, with these tenants. In the same epoch what was begun or ended stays, and so
// do the highest numbers; in another, nothing counts any more.
func (j *journal) resync(epoch Epoch, asOf int64, firstSession bool, tenants []desired) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	next := newJournalState()
	next.PlaneID, next.Epoch, next.Cursor, next.Doubtful = j.planeID, epoch, asOf, asOf
	if firstSession {
		next.Doubtful = -1
	}
	same := j.state.Epoch == epoch
	if same {
		next.Doubtful, next.Cursor = j.state.Doubtful, max(asOf, j.state.Cursor)
		next.Open = j.state.Open
		for _, o := range next.Open {
			if o.Begun != nil {
				next.Tenants[o.Begun.Tenant.TenantID] = j.state.Tenants[o.Begun.Tenant.TenantID]
			}
		}
	}
	for _, t := range tenants {
		state := tenantState{desired: t, Settled: true}
		if old := j.state.Tenants[t.TenantID]; same {
			state.Change = max(state.Change, old.Change)
			if old.Causes > state.Causes {
				state.Causes, state.Suspended = old.Causes, old.Suspended
			}
		}
		next.Tenants[t.TenantID] = state
	}
	j.state = next
	return j.compactLocked()
}

// outcomeOf is the outcome of an operation that has ended and is not recorded.
func (j *journal) outcomeOf(id string) (o outcome, ended bool) {
	j.look(func(s *journalState) {
		if found := s.Open[id].Outcome; found != nil {
			o, ended = *found, true
		}
	})
	return o, ended
}

// mayHaveBegun says whether this journal began op, or an earlier one may have.
func (j *journal) mayHaveBegun(op operation) (may bool) {
	j.look(func(s *journalState) { may = op.Revision <= s.Doubtful || s.Open[op.ID].Begun != nil })
	return may
}

// look calls f with the state, which f must neither change nor keep.
func (j *journal) look(f func(s *journalState)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(&j.state)
}

func (j *journal) appendLocked(sync bool, records ...record) error {
	text, err := encodeRecords(records...)
	if err == nil {
		_, err = j.file.Write(text)
	}
	if err == nil && sync {
		err = j.file.Sync()
	}
	if err != nil {
		return failf(CodeInternal, err, "the journal cannot be written")
	}
	j.size += int64(len(text))
	for _, r := range records {
		j.state.apply(r)
	}
	if j.size > compactFrom && j.size > compactFactor*j.compacted {
		return j.compactLocked()
	}
	return nil
}

// compactLocked replaces the file by one that folds to the same state.
func (j *journal) compactLocked() error {
	text, err := encodeRecords(j.state.records()...)
	if err == nil {
		err = replaceFile(j.path, text)
	}
	var file *os.File
	if err == nil {
		file, err = os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0o600)
	}
	if err != nil {
		return failf(CodeInternal, err, "the journal cannot be written")
	}
	if j.file != nil {
		_ = j.file.Close()
	}
	j.file, j.size, j.compacted = file, int64(len(text)), int64(len(text))
	return nil
}

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file != nil {
		_ = j.file.Close()
		j.file = nil
	}
}
