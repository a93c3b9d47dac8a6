package projections

import (
	"unsafe"
)

// folder folds batches into one table of the live group. A batch works on drafts, which replace the cached rows only when
// the batch is committed. After a batch that failed, everything is forgotten.
type folder struct {
	table  *Table
	cache  *cache
	parked map[string]bool

	touches []batchTouch
	drafts  map[string]*draft
	order   []*draft // in the order of first touch
	newly   []Parked
	arena   []byte // of the batch's encoded rows
}

type batchTouch struct {
	touch
	event int
	own   string
	err   error // the event or its keys cannot be read: the stream parks
}

type draft struct {
	key    string
	before unsafe.Pointer // as cached; nil if there was none
	row    unsafe.Pointer // nil if there is none
	first  int            // the first event of the batch that touched it
}

func newFolder(t *Table, cached int) *folder {
	return &folder{table: t, cache: newCache(cached), parked: map[string]bool{}, drafts: map[string]*draft{}}
}

// forget empties the cache and takes the parked keys from the store: what is in memory may no longer be what the store has.
func (f *folder) forget(parked []Parked) {
	f.cache = newCache(f.cache.limit)
	f.abandon()
	clear(f.parked)
	for _, p := range parked {
		if p.Projection == f.table.Name && p.Version == f.table.Version {
			f.parked[p.Key] = true
		}
	}
}

func (f *folder) abandon() {
	clear(f.drafts)
	f.touches, f.order, f.newly = f.touches[:0], f.order[:0], f.newly[:0]
}

// plan finds which rows the batch touches and gives the keys to load: those that are not cached and may exist. fresh are
// the streams whose first event is in the batch; they have no rows yet.
func (f *folder) plan(batch []item, fresh map[string]bool) (missing []string) {
	f.abandon()
	var all []touch
	var seen map[string]bool
	for i := range batch {
		e := &batch[i]
		if e.bad != nil {
			if f.table.Handles(e.kind) {
				f.touches = append(f.touches, batchTouch{event: i, own: f.table.ownKey(e.meta), err: e.bad})
			}
			continue
		}
		if e.event == nil {
			continue
		}
		var err error
		if all, err = f.table.touched(all[:0], e.event, &e.meta); err != nil {
			f.touches = append(f.touches, batchTouch{event: i, own: f.table.ownKey(e.meta), err: err})
			continue
		}
		if len(all) == 0 {
			continue
		}
		own := f.table.ownKey(e.meta)
		for _, t := range all {
			f.touches = append(f.touches, batchTouch{touch: t, event: i, own: own})
			if fresh[e.meta.Stream] || f.parked[t.key] || f.parked[own] || f.cache.has(t.key) || seen[t.key] {
				continue
			}
			if seen == nil {
				seen = map[string]bool{}
			}
			seen[t.key] = true
			missing = append(missing, t.key)
		}
	}
	return missing
}

// loaded takes a row from the store.
func (f *folder) loaded(fields [][]byte) error {
	row, err := f.table.decode(fields)
	if err == nil {
		f.cache.put(*(*string)(row), row)
	}
	return err
}

// fold folds the planned batch, and collects what is watched: nil if nothing is.
func (f *folder) fold(batch []item, watched *collector) {
	for i := range f.touches {
		t := &f.touches[i]
		m := &batch[t.event].meta
		if f.parked[t.own] || t.err == nil && f.parked[t.key] {
			continue
		}
		if t.err != nil {
			f.park(f.table.park(t.own, m, t.err))
			continue
		}
		d := f.drafts[t.key]
		if d == nil {
			d = &draft{key: t.key, first: t.event}
			d.before, _ = f.cache.get(t.key)
			d.row = d.before
			f.drafts[t.key] = d
			f.order = append(f.order, d)
		}
		row, err := f.table.apply(t.handler, t.key, d.row, batch[t.event].event, m)
		if err != nil {
			f.park(f.table.park(t.key, m, err))
			continue
		}
		if row == nil && d.row == nil {
			continue
		}
		if watched != nil {
			watched.saw(f.table, t.own, t.key, d.row, row, m)
		}
		d.row = row
	}
}

func (f *folder) park(p Parked) {
	f.parked[p.Key] = true
	f.newly = append(f.newly, p)
}

// changes gives what the batch changed. A row without a canonical form is parked and stays as it was.
func (f *folder) changes(batch []item) Changes {
	c := Changes{Table: f.table}
	f.arena = nil
	for _, d := range f.order {
		m := &batch[d.first].meta
		switch {
		case d.row != nil && d.row != d.before:
			at := len(f.arena)
			b, err := f.table.encode(f.arena, d.row)
			if err != nil {
				f.park(f.table.park(d.key, m, err))
				d.row = d.before
				continue
			}
			f.arena = b
			c.Upserts = append(c.Upserts, Upsert{Row: Encoded(b[at:len(b):len(b)]),
				First: Parked{Projection: f.table.Name, Version: f.table.Version, Key: d.key, Stream: m.Stream, Revision: m.Revision, Commit: m.Commit}})
		case d.row == nil && d.before != nil:
			c.Deletes = append(c.Deletes, d.key)
		}
	}
	return c
}

// committed lets the drafts replace the cached rows.
func (f *folder) committed() {
	for _, d := range f.order {
		if d.row == nil {
			f.cache.drop(d.key)
		} else {
			f.cache.put(d.key, d.row)
		}
	}
	f.cache.trim()
	f.abandon()
}

// refused parks what the store would not take.
func (f *folder) refused(p Parked) {
	f.parked[p.Key] = true
	if d := f.drafts[p.Key]; d != nil {
		d.row = d.before
	}
}
