package agent

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"
)

// A journal is lines of `<CRC-32C of the JSON, 8 hex digits> <JSON>`, each one record with one field set.
type record struct {
	Reset    *resetRecord `json:"reset,omitempty"`
	Tenant   *tenantState `json:"tenant,omitempty"`
	Begun    *operation   `json:"begun,omitempty"`
	Outcome  *outcome     `json:"outcome,omitempty"`
	Recorded []string     `json:"recorded,omitempty"` // operation ids
}

// resetRecord is the first of every journal: what follows is the journal of one epoch of one plane.
type resetRecord struct {
	PlaneID string `json:"planeId"`
	Epoch   Epoch  `json:"epoch"`
	// Operations up to this revision may have been begun by a journal that was lost; -1: none can have been.
	Doubtful int64 `json:"doubtful"`
	Cursor   int64 `json:"cursor"` // the highest revision delivered; -1: none
}

// tenantState is what a journal knows of one tenant. Change and Causes are the highest that were begun, and Suspended is
// the level of those causes; the rest is as of the last resync or the last operation that is done.
type tenantState struct {
	desired
	Settled bool `json:"settled,omitempty"` // a resync or a done operation has spoken; not only begun ones
}

// openOperation was begun, or has an outcome, or both; it is open until the outcome is recorded.
type openOperation struct {
	Begun   *operation
	Outcome *outcome
}

func (o openOperation) revision() int64 {
	if o.Begun != nil {
		return o.Begun.Revision
	}
	return o.Outcome.Revision
}

// journalState is the fold of a journal's records.
type journalState struct {
	resetRecord
	Tenants map[string]tenantState
	Open    map[string]openOperation
}

func newJournalState() journalState {
	return journalState{
		resetRecord: resetRecord{Doubtful: -1, Cursor: -1},
		Tenants:     map[string]tenantState{}, Open: map[string]openOperation{},
	}
}

func (s *journalState) apply(r record) {
	switch {
	case r.Reset != nil:
		*s = newJournalState()
		s.resetRecord = *r.Reset
	case r.Tenant != nil:
		s.Tenants[r.Tenant.TenantID] = *r.Tenant
	case r.Begun != nil:
		s.applyBegun(*r.Begun)
	case r.Outcome != nil:
		s.applyOutcome(*r.Outcome)
	default:
		for _, id := range r.Recorded {
			delete(s.Open, id)
		}
	}
}

func (s *journalState) applyBegun(op operation) {
	open := s.Open[op.ID]
	open.Begun = &op
	s.Open[op.ID] = open
	s.Cursor = max(s.Cursor, op.Revision)

	t, known := s.Tenants[op.Tenant.TenantID]
	if !known {
		t.desired = op.Tenant
		t.Change, t.Causes, t.Gone = 0, 0, false
	}
	if op.Tenant.Causes >= t.Causes {
		t.Causes, t.Suspended = op.Tenant.Causes, op.Tenant.Suspended
	}
	if !op.Kind.level() {
		t.Change = max(t.Change, op.Tenant.Change)
	}
	s.Tenants[op.Tenant.TenantID] = t
}

func (s *journalState) applyOutcome(o outcome) {
	open := s.Open[o.OperationID]
	open.Outcome = &o
	s.Open[o.OperationID] = open
	s.Cursor = max(s.Cursor, o.Revision)
	if o.Result != done || open.Begun == nil {
		return
	}
	op := *open.Begun
	t := s.Tenants[op.Tenant.TenantID]
	switch op.Kind {
	case suspend, resume:
		return
	case deprovision:
		t.Gone = true
	case resize:
		t.Limits = op.Tenant.Limits
	case provision, rotateCredentials:
		t.Isolation, t.Limits, t.CredentialVersion = op.Tenant.Isolation, op.Tenant.Limits, op.Tenant.CredentialVersion
		t.Gone = false
	}
	t.Settled = true
	s.Tenants[op.Tenant.TenantID] = t
}

// stale is the code by which op is refused because of what has begun for its tenant, or empty.
func (s *journalState) stale(op operation) string {
	t := s.Tenants[op.Tenant.TenantID]
	switch {
	case op.Kind.level() && op.Tenant.Causes < t.Causes:
		return staleCauses
	case !op.Kind.level() && op.Tenant.Change < t.Change:
		return staleChange
	default:
		return ""
	}
}

// records writes the state down as the shortest journal that folds to it.
func (s *journalState) records() []record {
	reset := s.resetRecord
	all := []record{{Reset: &reset}}
	// Operations first: what they did to the tenants is overwritten by the tenants' own records.
	open := slices.SortedFunc(maps.Values(s.Open), func(a, b openOperation) int { return cmp.Compare(a.revision(), b.revision()) })
	for _, o := range open {
		if o.Begun != nil {
			all = append(all, record{Begun: o.Begun})
		}
		if o.Outcome != nil {
			all = append(all, record{Outcome: o.Outcome})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.Tenants)) {
		t := s.Tenants[id]
		all = append(all, record{Tenant: &t})
	}
	return all
}

// pendingOutcomes are those that the gateway has not recorded, in the order of the operations' revisions.
func (s *journalState) pendingOutcomes() []outcome {
	var all []outcome
	for _, o := range s.Open {
		if o.Outcome != nil {
			all = append(all, *o.Outcome)
		}
	}
	slices.SortFunc(all, func(a, b outcome) int { return cmp.Compare(a.Revision, b.Revision) })
	return all
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeRecords(records ...record) ([]byte, error) {
	var out bytes.Buffer
	for _, r := range records {
		text, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&out, "%08x %s\n", crc32.Checksum(text, castagnoli), text)
	}
	return out.Bytes(), nil
}

// errDamaged is a journal with a bad line that is followed by good ones, or whose first record is no reset.
var errDamaged = errors.New("the journal is damaged")

// decodeRecords reads a journal. Bad lines at the end alone are what a crash tore: whole is where they begin.
func decodeRecords(content []byte) (records []record, whole int64, err error) {
	bad := false
	for at := 0; at < len(content); {
		line, _, ended := bytes.Cut(content[at:], []byte("\n"))
		next := at + len(line) + 1
		r, ok := decodeLine(line)
		switch {
		case !ok || !ended:
			bad = true
		case bad:
			return nil, 0, fmt.Errorf("%w before byte %d", errDamaged, at)
		case (len(records) == 0) != (r.Reset != nil):
			return nil, 0, fmt.Errorf("%w: its reset is not its first record", errDamaged)
		default:
			records, whole = append(records, r), int64(next)
		}
		at = next
	}
	return records, whole, nil
}

func decodeLine(line []byte) (r record, ok bool) {
	sum, text, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(sum) != 8 {
		return r, false
	}
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || crc32.Checksum(text, castagnoli) != uint32(want) {
		return r, false
	}
	return r, json.Unmarshal(text, &r) == nil
}
