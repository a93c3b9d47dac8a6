package projections

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"unsafe"

	"github.com/tenure-dev/tenure/domain"
)

// State is a projection folded in memory: what its table would hold. Rebuilds, healing and reads as of a position fold
// into one. It is not safe for concurrent use.
type State struct {
	table  *Table
	rows   map[string]held
	failed map[string]Parked
	touch  []touch
}

// held is a row and the stream that feeds it.
type held struct {
	row    unsafe.Pointer
	stream string
}

// NewState begins with no rows.
func (t *Table) NewState() *State {
	return &State{table: t, rows: map[string]held{}, failed: map[string]Parked{}}
}

// Apply folds one decoded event. Events come in the order of their stream; those of different streams may come in any.
// A fold that fails parks its key: the row stays as it was and folds nothing more.
func (s *State) Apply(event any, m domain.Meta) {
	var err error
	if s.touch, err = s.table.touched(s.touch[:0], event, &m); err != nil {
		s.Fail(m, err)
		return
	}
	own := s.table.ownKey(m)
	for _, t := range s.touch {
		if s.parked(own, t.key) {
			continue
		}
		row, err := s.table.apply(t.handler, t.key, s.rows[t.key].row, event, &m)
		switch {
		case err != nil:
			s.failed[t.key] = s.table.park(t.key, &m, err)
		case row == nil:
			delete(s.rows, t.key)
		default:
			s.rows[t.key] = held{row, m.Stream}
		}
	}
}

// Fail parks all rows of the stream in which m stands: an event of it cannot be read.
func (s *State) Fail(m domain.Meta, err error) {
	own := s.table.ownKey(m)
	if _, already := s.failed[own]; !already {
		s.failed[own] = s.table.park(own, &m, err)
	}
}

func (s *State) parked(own, key string) bool {
	_, row := s.failed[key]
	_, stream := s.failed[own]
	return row || stream
}

// Row gives one row as a value of the projection's Row type.
func (s *State) Row(key string) (any, bool) {
	r, ok := s.rows[key]
	if !ok {
		return nil, false
	}
	return s.table.box(r.row), true
}

// Len is the number of rows.
func (s *State) Len() int { return len(s.rows) }

// Rows gives every row by key, in the order of keys.
func (s *State) Rows() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, k := range slices.Sorted(maps.Keys(s.rows)) {
			if !yield(k, s.table.box(s.rows[k].row)) {
				return
			}
		}
	}
}

// Encoded gives every row in canonical form, in the order of keys. A row that has none is parked and left out.
func (s *State) Encoded() []Encoded {
	all := make([]Encoded, 0, len(s.rows))
	for _, u := range s.upserts() {
		all = append(all, u.Row)
	}
	return all
}

func (s *State) upserts() []Upsert {
	all := make([]Upsert, 0, len(s.rows))
	for _, k := range slices.Sorted(maps.Keys(s.rows)) {
		first := Parked{Projection: s.table.Name, Version: s.table.Version, Key: k, Stream: s.rows[k].stream}
		e, err := s.table.encode(nil, s.rows[k].row)
		if err != nil {
			first.Error = err.Error()
			s.failed[k] = first
			continue
		}
		all = append(all, Upsert{Row: e, First: first})
	}
	return all
}

// Parked gives the keys whose fold failed, in order.
func (s *State) Parked() []Parked {
	all := make([]Parked, 0, len(s.failed))
	for _, k := range slices.Sorted(maps.Keys(s.failed)) {
		all = append(all, s.failed[k])
	}
	return all
}

// below tells whether key is own or a row below it.
func below(own, key string) bool {
	rest, found := strings.CutPrefix(key, own)
	return found && (rest == "" || rest[0] == '/')
}

// ownKey is the stream's own key even where the projection's key function fails.
func (t *Table) ownKey(m domain.Meta) (key string) {
	defer func() {
		if recover() != nil {
			key = m.ID()
		}
	}()
	return t.streamKey(m)
}

// Parked is a key that folds nothing more until it is healed: its fold failed, or the store refused its row.
type Parked struct {
	Projection string
	Version    int
	Key        string // a row's, or a stream's own with all rows below it
	Stream     string // that feeds it
	Revision   int64  // of the first event that is not in the row
	Commit     uint64 // of that event
	Error      string // for operators
}

func (t *Table) park(key string, m *domain.Meta, err error) Parked {
	return Parked{Projection: t.Name, Version: t.Version, Key: key, Stream: m.Stream, Revision: m.Revision, Commit: m.Commit, Error: err.Error()}
}
