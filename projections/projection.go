package projections

import (
	"reflect"
	"unsafe"

	"github.com/tenure-dev/tenure/domain"
)

// Projection is a fold from events to rows of one table. The first field of Row is the row's key and is set by the kernel.
//
// A row is fed by one stream alone: its key is that stream's id, or begins with it and a slash. So a row can always be
// made again by reading one stream.
type Projection[Row any] struct {
	Name    string // of the table, in snake case
	Version int    // from 1; raised with every change of Row or of a fold: a new table is built
	// Key gives the key of a stream's own row, where it is not what stands behind the first dash of the stream's name.
	Key func(m domain.Meta) string
	// After runs after every fold of On, OnKey, OnEach and Touch: the place for a revision or a time of change.
	After func(r *Row, m domain.Meta)
	On    []Handler[Row] // several for one event run in this order
	// Indexes are lists of columns by which rows are looked for, besides the key. Columns that never change cost least.
	Indexes [][]string
}

// Handler is what a projection does with one type of event.
type Handler[Row any] struct {
	event reflect.Type
	does  deed
	key   func(event any) string                   // below the stream; nil for the stream's own row
	keys  func(event any, m *domain.Meta) []string // several below the stream
	fold  func(r *Row, event any, m *domain.Meta)  // with folds
}

// deed is what a handler does with a row.
type deed uint8

const (
	folds   deed = iota // creates the row where there is none
	touches             // runs After on a row that exists
	removes
	ignores
)

// On folds E into the stream's own row, which begins as the zero row with its key set. f gets the event by value and must
// not keep or change its slices and maps, which all projections share; what it does to r's own slices stays with r.
func On[Row, E any](f func(r *Row, e E, m domain.Meta)) Handler[Row] {
	return Handler[Row]{event: reflect.TypeFor[E](), does: folds,
		fold: func(r *Row, e any, m *domain.Meta) { f(r, e.(E), *m) }}
}

// OnKey folds E into a row below the stream: its key is the stream's, a slash and what key gives. An empty key skips the event.
func OnKey[Row, E any](key func(e E) string, f func(r *Row, e E, m domain.Meta)) Handler[Row] {
	h := On(f)
	h.key = func(e any) string { return key(e.(E)) }
	return h
}

// OnEach folds E into several rows below the stream, one for each of keys, in that order.
func OnEach[Row, E any](keys func(e E, m domain.Meta) []string, f func(r *Row, e E, m domain.Meta)) Handler[Row] {
	h := On(f)
	h.keys = func(e any, m *domain.Meta) []string { return keys(e.(E), *m) }
	return h
}

// Gone removes the stream's own row when E comes.
func Gone[Row, E any]() Handler[Row] {
	return Handler[Row]{event: reflect.TypeFor[E](), does: removes}
}

// GoneKey removes a row below the stream when E comes. An empty key skips the event.
func GoneKey[Row, E any](key func(e E) string) Handler[Row] {
	return Handler[Row]{event: reflect.TypeFor[E](), does: removes, key: func(e any) string { return key(e.(E)) }}
}

// Touch runs After alone, on the stream's own row if there is one: for events that change nothing but the revision.
func Touch[Row, E any]() Handler[Row] {
	return Handler[Row]{event: reflect.TypeFor[E](), does: touches}
}

// Ignore says that E means nothing to this projection.
func Ignore[Row, E any]() Handler[Row] {
	return Handler[Row]{event: reflect.TypeFor[E](), does: ignores}
}

// Table erases the row's type. It panics if the declaration is a mistake: a name, a version or a field that no table can
// have, or an event that is both ignored and handled.
func (p Projection[Row]) Table() *Table {
	t := newTable(p.Name, p.Version, reflect.TypeFor[Row]())
	t.streamKey = p.Key
	if t.streamKey == nil {
		t.streamKey = domain.Meta.ID
	}
	t.blank = func() unsafe.Pointer { return unsafe.Pointer(new(Row)) }
	t.shallow = func(r unsafe.Pointer) unsafe.Pointer { c := *(*Row)(r); return unsafe.Pointer(&c) }
	t.box = func(r unsafe.Pointer) any { return *(*Row)(r) }
	if p.After != nil {
		t.after = func(r unsafe.Pointer, m *domain.Meta) { p.After((*Row)(r), *m) }
	}
	t.index(p.Indexes)
	for _, h := range p.On {
		e := handler{does: h.does, key: h.key, keys: h.keys}
		if f := h.fold; f != nil {
			e.fold = func(r unsafe.Pointer, event any, m *domain.Meta) { f((*Row)(r), event, m) }
		}
		t.handle(h.event, e)
	}
	return t
}
