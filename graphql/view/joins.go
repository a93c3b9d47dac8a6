package view

import (
	"context"
	"maps"
	"slices"
)

// joins are the rows that one reading has, of every kind, and those that it may be asked for next: whatever the rows that it
// has refer to. The first field that asks for one of a kind gets all of that kind that may be asked for in one query. So a list
// costs as many queries as it has kinds of objects, however long it is, and nobody waits for others to ask.
type joins struct {
	orgs    table[OrgRow]
	tiers   table[TierRow]
	tenants table[TenantRow]
	planes  table[PlaneRow]
	sagas   table[SagaRow]
	steps   table[[]StepRow]
}

func newJoins() *joins {
	j := &joins{}
	j.orgs = table[OrgRow]{fetch: Snapshot.Orgs, key: func(o OrgRow) string { return o.ID },
		refer: func(o OrgRow) { j.orgs.want(o.Parent) }}
	j.tiers = table[TierRow]{fetch: Snapshot.Tiers, key: func(t TierRow) string { return t.Key }}
	j.tenants = table[TenantRow]{fetch: Snapshot.Tenants, key: func(t TenantRow) string { return t.ID },
		refer: func(t TenantRow) {
			j.orgs.want(t.Org)
			j.planes.want(t.Plane)
			j.tiers.want(t.TierKey)
			j.sagas.want(t.Saga)
		}}
	j.planes = table[PlaneRow]{fetch: Snapshot.Planes, key: func(p PlaneRow) string { return p.ID }}
	j.sagas = table[SagaRow]{fetch: Snapshot.Sagas, key: func(s SagaRow) string { return s.ID },
		refer: func(s SagaRow) {
			j.steps.want(s.ID)
			j.tenants.want(s.Tenant)
			j.orgs.want(s.Org)
		}}
	j.steps = table[[]StepRow]{fetch: stepsBySaga, key: func(steps []StepRow) string { return steps[0].Saga }}
	return j
}

// table is the rows of one kind.
type table[Row any] struct {
	fetch func(s Snapshot, ctx context.Context, keys []string) ([]Row, error)
	key   func(Row) string
	refer func(Row) // says what else may be asked for; nil for nothing

	rows   map[string]*Row // nil for what is not there
	wanted map[string]bool // may be asked for
	alone  bool            // a query for several has failed: one row that is parked fails them all
}

// want says that keys may be asked for. An empty one refers to nothing.
func (t *table[Row]) want(keys ...string) {
	for _, k := range keys {
		if _, known := t.rows[k]; k == "" || known {
			continue
		}
		if t.wanted == nil {
			t.wanted = map[string]bool{}
		}
		t.wanted[k] = true
	}
}

// add takes rows, however they were found.
func (t *table[Row]) add(rows []Row) {
	if t.rows == nil {
		t.rows = map[string]*Row{}
	}
	for i := range rows {
		k := t.key(rows[i])
		t.rows[k] = &rows[i]
		delete(t.wanted, k)
		if t.refer != nil {
			t.refer(rows[i])
		}
	}
}

// get gives one row, nil if it is not there.
func (t *table[Row]) get(ctx context.Context, s Snapshot, key string) (*Row, error) {
	if row, known := t.rows[key]; known {
		return row, nil
	}
	t.want(key)
	if !t.alone {
		if err := t.load(ctx, s, slices.Sorted(maps.Keys(t.wanted))); err == nil {
			return t.rows[key], nil
		}
		t.alone = true
	}
	err := t.load(ctx, s, []string{key})
	return t.rows[key], err
}

func (t *table[Row]) load(ctx context.Context, s Snapshot, keys []string) error {
	found, err := t.fetch(s, ctx, keys)
	if err != nil {
		return err
	}
	t.add(found)
	for _, k := range keys {
		if _, there := t.rows[k]; !there {
			t.rows[k] = nil
			delete(t.wanted, k)
		}
	}
	return nil
}

// stepsBySaga gives each saga's steps in the order in which they began.
func stepsBySaga(s Snapshot, ctx context.Context, sagas []string) (groups [][]StepRow, err error) {
	all, err := s.Steps(ctx, sagas)
	at := map[string]int{}
	for _, step := range all {
		i, known := at[step.Saga]
		if !known {
			i = len(groups)
			at[step.Saga], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], step)
	}
	for _, steps := range groups {
		inOrder(steps)
	}
	return groups, err
}

// load looks one row up and shows it; nil for an empty key and for what is not there.
func load[Row, T any](ctx context.Context, of func(*joins) *table[Row], key string, show func(Row) *T) (*T, error) {
	if key == "" {
		return nil, nil
	}
	r, err := Of(ctx).reading(ctx)
	if err != nil {
		return nil, err
	}
	var row *Row
	err = r.query(func(s Snapshot) (err error) {
		row, err = of(r.joins).get(ctx, s, key)
		return err
	})
	if row == nil || err != nil {
		return nil, err
	}
	return show(*row), nil
}

// list is a list of the schema: its name, the parts of its rows' place in it, and how they are kept and shown.
type list[Row, T any] struct {
	name  string
	parts int
	place func(Row) []string
	of    func(*joins) *table[Row]
	show  func(Row) *T
}

// page reads a page: one row more than asked for, to see whether more follow.
func (l list[Row, T]) page(ctx context.Context, p Page, rows func(s Snapshot, after []string, limit int) ([]Row, error)) (*Connection[T], error) {
	after, err := p.read(l.name, l.parts)
	if err != nil {
		return nil, err
	}
	r, err := Of(ctx).reading(ctx)
	if err != nil {
		return nil, err
	}
	var found []Row
	more := false
	err = r.query(func(s Snapshot) (err error) {
		found, err = rows(s, after, int(p.First)+1)
		if more = int64(len(found)) > p.First; more {
			found = found[:p.First]
		}
		l.of(r.joins).add(found)
		return err
	})
	if err != nil {
		return nil, err
	}
	return l.connect(p, found, more), nil
}

// outside reads a page of what is not in the snapshot.
func (l list[Row, T]) outside(p Page, rows func(after []string, limit int) ([]Row, error)) (*Connection[T], error) {
	after, err := p.read(l.name, l.parts)
	if err != nil {
		return nil, err
	}
	found, err := rows(after, int(p.First)+1)
	if err != nil {
		return nil, err
	}
	more := int64(len(found)) > p.First
	if more {
		found = found[:p.First]
	}
	return l.connect(p, found, more), nil
}

func (l list[Row, T]) connect(p Page, rows []Row, more bool) *Connection[T] {
	c := &Connection[T]{PageInfo: &PageInfo{HasNextPage: more, HasPreviousPage: p.After != nil}, Edges: make([]*Edge[T], len(rows))}
	for i, r := range rows {
		c.Edges[i] = &Edge[T]{l.show(r), cursor{l.name, l.place(r)}.String()}
	}
	if n := len(c.Edges); n > 0 {
		c.PageInfo.StartCursor, c.PageInfo.EndCursor = &c.Edges[0].Cursor, &c.Edges[n-1].Cursor
	}
	return c
}
