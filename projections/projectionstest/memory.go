package projectionstest

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/tenure-dev/tenure/projections"
)

// Memory is a projections.Store in memory. Like Postgres it refuses keys that are too long for an index.
type Memory struct {
	mu     sync.Mutex
	groups map[string]*group
	tables map[tableID]*memoryTable
	moved  chan struct{}
}

type group struct {
	lease  projections.Lease
	mark   projections.Mark
	parked []projections.Parked
	freed  int
}

type tableID struct {
	name    string
	version int
}

type memoryTable struct {
	serving bool
	rows    map[string]projections.Encoded
}

// NewMemory begins with nothing.
func NewMemory() *Memory {
	return &Memory{groups: map[string]*group{}, tables: map[tableID]*memoryTable{}, moved: make(chan struct{})}
}

var _ projections.Store = (*Memory)(nil)

func (s *Memory) group(name string) *group {
	if s.groups[name] == nil {
		s.groups[name] = &group{lease: projections.Lease{Group: name}, mark: projections.Mark{Commit: projections.Nowhere}}
	}
	return s.groups[name]
}

func (s *Memory) held(l projections.Lease) (*group, error) {
	g := s.group(l.Group)
	if g.lease.Epoch != l.Epoch {
		return nil, projections.ErrFenced
	}
	return g, nil
}

func (s *Memory) tell() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// Lease is as the port says.
func (s *Memory) Lease(_ context.Context, name string) (projections.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.group(name).lease, nil
}

// Acquire is as the port says.
func (s *Memory) Acquire(_ context.Context, seen projections.Lease, owner string) (projections.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.group(seen.Group)
	if g.lease != seen {
		return projections.Lease{}, projections.ErrFenced
	}
	g.lease = projections.Lease{Group: seen.Group, Owner: owner, Epoch: seen.Epoch + 1}
	return g.lease, nil
}

// Renew is as the port says.
func (s *Memory) Renew(_ context.Context, l projections.Lease) (projections.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.held(l)
	if err != nil || g.lease.Owner != l.Owner {
		return l, projections.ErrFenced
	}
	g.lease.Beat++
	return g.lease, nil
}

// Release is as the port says.
func (s *Memory) Release(_ context.Context, l projections.Lease) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.held(l)
	if err != nil || g.lease.Owner != l.Owner {
		return projections.ErrFenced
	}
	g.lease.Owner = ""
	g.freed++
	s.tell()
	return nil
}

// Prepare is as the port says.
func (s *Memory) Prepare(_ context.Context, l projections.Lease, tables []*projections.Table) (unbuilt []*projections.Table, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.held(l)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		id := tableID{t.Name, t.Version}
		if s.tables[id] != nil && s.tables[id].serving {
			continue
		}
		s.tables[id] = &memoryTable{rows: map[string]projections.Encoded{}}
		g.parked = slices.DeleteFunc(g.parked, func(p projections.Parked) bool { return tableID{p.Projection, p.Version} == id })
		unbuilt = append(unbuilt, t)
	}
	return unbuilt, nil
}

// Fill is as the port says.
func (s *Memory) Fill(_ context.Context, l projections.Lease, t *projections.Table, rows []projections.Upsert) ([]projections.Parked, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.held(l); err != nil {
		return nil, err
	}
	return s.upsert(t, rows), nil
}

func (s *Memory) upsert(t *projections.Table, rows []projections.Upsert) (refused []projections.Parked) {
	for _, u := range rows {
		if len(u.Row.Key()) > 2000 {
			u.First.Error = "refused"
			refused = append(refused, u.First)
			continue
		}
		s.tables[tableID{t.Name, t.Version}].rows[u.Row.Key()] = slices.Clone(u.Row)
	}
	return refused
}

// Serve is as the port says.
func (s *Memory) Serve(_ context.Context, l projections.Lease, built []*projections.Table, parked []projections.Parked, at projections.Mark) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.held(l)
	if err != nil || g.mark.Commit != at.Commit {
		return projections.ErrFenced
	}
	for _, t := range built {
		for id, table := range s.tables {
			if id.name == t.Name {
				table.serving = id.version == t.Version
			}
		}
	}
	s.park(g, parked)
	return nil
}

// Mark is as the port says.
func (s *Memory) Mark(_ context.Context, l projections.Lease) (projections.Mark, []projections.Parked, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.held(l)
	if err != nil {
		return projections.Mark{}, nil, err
	}
	return g.mark, slices.Clone(g.parked), nil
}

// Load is as the port says.
func (s *Memory) Load(_ context.Context, wanted []projections.Wanted) (loaded []projections.Loaded, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range wanted {
		for _, k := range w.Keys {
			if row, ok := s.tables[tableID{w.Table.Name, w.Table.Version}].rows[k]; ok {
				loaded = append(loaded, projections.Loaded{Want: i, Fields: row.Fields()})
			}
		}
	}
	return loaded, nil
}

// Below is as the port says.
func (s *Memory) Below(_ context.Context, t *projections.Table, key string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for _, k := range slices.Sorted(maps.Keys(s.tables[tableID{t.Name, t.Version}].rows)) {
		if k == key || strings.HasPrefix(k, key+"/") {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// Commit is as the port says.
func (s *Memory) Commit(_ context.Context, c projections.Commit) ([]projections.Parked, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.held(c.Lease)
	if err != nil || g.mark.Commit != c.From {
		return nil, projections.ErrFenced
	}
	g.mark = c.To
	var refused []projections.Parked
	for _, changes := range c.Changes {
		for _, k := range changes.Deletes {
			delete(s.tables[tableID{changes.Table.Name, changes.Table.Version}].rows, k)
		}
		refused = append(refused, s.upsert(changes.Table, changes.Upserts)...)
	}
	for _, u := range c.Unpark {
		g.parked = slices.DeleteFunc(g.parked, func(p projections.Parked) bool {
			return p.Projection == u.Projection && p.Version == u.Version && p.Key == u.Key
		})
	}
	s.park(g, c.Park)
	s.park(g, refused)
	s.tell()
	return refused, nil
}

func (s *Memory) park(g *group, all []projections.Parked) {
	for _, p := range all {
		same := func(q projections.Parked) bool {
			return p.Projection == q.Projection && p.Version == q.Version && p.Key == q.Key
		}
		if !slices.ContainsFunc(g.parked, same) {
			g.parked = append(g.parked, p)
		}
	}
}

// Follow is as the port says.
func (s *Memory) Follow(ctx context.Context, name string) iter.Seq2[projections.Notice, error] {
	return func(yield func(projections.Notice, error) bool) {
		freed := -1
		for {
			s.mu.Lock()
			g, moved := s.group(name), s.moved
			n := projections.Notice{Commit: g.mark.Commit, Free: freed >= 0 && g.freed != freed}
			freed = g.freed
			s.mu.Unlock()
			if !yield(n, nil) {
				return
			}
			select {
			case <-moved:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Snapshot gives a table's rows by key, in canonical form, and a group's checkpoint.
func (s *Memory) Snapshot(name string, t *projections.Table) (map[string]string, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]string{}
	if table := s.tables[tableID{t.Name, t.Version}]; table != nil && table.serving {
		for k, r := range table.rows {
			all[k] = string(r)
		}
	}
	return all, s.group(name).mark.Commit
}
