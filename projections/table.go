package projections

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"unsafe"

	"github.com/tenure-dev/tenure/domain"
)

// Table is a projection with its row's type erased, as the group and the stores hold it. It never changes and is safe for
// concurrent use.
type Table struct {
	Name    string
	Version int
	Columns []Column   // the first is the key
	Indexes [][]string // lists of columns

	row       reflect.Type
	streamKey func(domain.Meta) string
	handlers  map[reflect.Type][]handler // empty, not absent, for an ignored event
	after     func(r unsafe.Pointer, m *domain.Meta)

	blank   func() unsafe.Pointer
	shallow func(r unsafe.Pointer) unsafe.Pointer
	box     func(r unsafe.Pointer) any
	clones  []int // columns that a copy must unshare
	settles []int // columns whose value is brought to what they can hold after a fold
}

// handler is Handler with the row's type erased.
type handler struct {
	does deed
	key  func(event any) string
	keys func(event any, m *domain.Meta) []string
	fold func(r unsafe.Pointer, event any, m *domain.Meta)
}

var identifier = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

func newTable(name string, version int, row reflect.Type) *Table {
	t := &Table{Name: name, Version: version, row: row, handlers: map[reflect.Type][]handler{}}
	wrong := func(format string, args ...any) { panic("projection " + name + ": " + fmt.Sprintf(format, args...)) }
	if !identifier.MatchString(name) || version < 1 {
		wrong("a name is 1 to 40 of a-z, 0-9 and underscore, and a version at least 1")
	}
	if row.Kind() != reflect.Struct || row.NumField() == 0 || row.Field(0).Type.Kind() != reflect.String {
		wrong("the row must be a struct whose first field is its key, a string")
	}
	seen := map[string]bool{}
	for f := range row.Fields() {
		c, err := columnOf(f)
		if err != nil {
			wrong("%v", err)
		}
		if !identifier.MatchString(c.Name) || seen[c.Name] || !f.IsExported() {
			wrong("field %s makes no column of its own", f.Name)
		}
		seen[c.Name] = true
		if c.clone != nil {
			t.clones = append(t.clones, len(t.Columns))
		}
		if c.settle != nil {
			t.settles = append(t.settles, len(t.Columns))
		}
		t.Columns = append(t.Columns, c)
	}
	if t.Columns[0].Null {
		wrong("a key is never null")
	}
	return t
}

func (t *Table) index(all [][]string) {
	for _, columns := range all {
		for _, name := range columns {
			if !slices.ContainsFunc(t.Columns, func(c Column) bool { return c.Name == name }) {
				panic("projection " + t.Name + ": no column to index is called " + name)
			}
		}
	}
	t.Indexes = all
}

func (t *Table) handle(event reflect.Type, h handler) {
	before, known := t.handlers[event]
	if known && (h.does == ignores || len(before) == 0) {
		panic(fmt.Sprintf("projection %s: %s is ignored and handled", t.Name, event))
	}
	if h.does == ignores {
		t.handlers[event] = nil
		return
	}
	t.handlers[event] = append(before, h)
}

// Handles tells whether events of that Go type change rows.
func (t *Table) Handles(event reflect.Type) bool { return len(t.handlers[event]) > 0 }

// StreamKey is the key of the own row of the stream in which m stands.
func (t *Table) StreamKey(m domain.Meta) string { return t.streamKey(m) }

// touch is one handler's business with one row.
type touch struct {
	handler *handler
	key     string
}

// touched appends what an event does to which rows. A key function that panics is an error.
func (t *Table) touched(all []touch, event any, m *domain.Meta) (_ []touch, err error) {
	handlers := t.handlers[reflect.TypeOf(event)]
	if len(handlers) == 0 {
		return all, nil
	}
	defer recovered(&err)
	own := t.streamKey(*m)
	for i := range handlers {
		switch h := &handlers[i]; {
		case h.key != nil:
			if k := h.key(event); k != "" {
				all = append(all, touch{h, own + "/" + k})
			}
		case h.keys != nil:
			for _, k := range h.keys(event, m) {
				all = append(all, touch{h, own + "/" + k})
			}
		case own != "":
			all = append(all, touch{h, own})
		}
	}
	return all, nil
}

// apply gives the row as of after the event: a fresh one, or nil if it is gone. The row that came in stays as it was, so
// every row that was ever given out is a value.
func (t *Table) apply(h *handler, key string, row unsafe.Pointer, event any, m *domain.Meta) (_ unsafe.Pointer, err error) {
	defer recovered(&err)
	if h.does == removes || h.does == touches && row == nil {
		return nil, nil
	}
	if row == nil {
		row = t.blank()
	} else {
		row = t.clone(row)
	}
	*(*string)(row) = key
	if h.fold != nil {
		h.fold(row, event, m)
		*(*string)(row) = key
	}
	if t.after != nil {
		t.after(row, m)
	}
	for _, i := range t.settles {
		t.Columns[i].settle(unsafe.Add(row, t.Columns[i].offset))
	}
	return row, nil
}

func (t *Table) clone(row unsafe.Pointer) unsafe.Pointer {
	row = t.shallow(row)
	for _, i := range t.clones {
		t.Columns[i].clone(unsafe.Add(row, t.Columns[i].offset))
	}
	return row
}

// encode appends the row's canonical form. A value that has none, such as text that was never sealed, is an error.
func (t *Table) encode(b []byte, row unsafe.Pointer) (_ []byte, err error) {
	defer recovered(&err)
	for i := range t.Columns {
		c := &t.Columns[i]
		field := unsafe.Add(row, c.offset)
		if c.Null && c.zero(field) {
			b = be32(b, null)
			continue
		}
		at := len(b)
		b = c.put(be32(b, 0), field)
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	return b, nil
}

// decode makes a row from its columns' canonical forms, nil being NULL.
func (t *Table) decode(fields [][]byte) (unsafe.Pointer, error) {
	if len(fields) != len(t.Columns) {
		return nil, fmt.Errorf("a row of %s has %d columns, not %d", t.Name, len(t.Columns), len(fields))
	}
	row := t.blank()
	for i := range t.Columns {
		if fields[i] == nil {
			continue
		}
		if err := t.Columns[i].get(unsafe.Add(row, t.Columns[i].offset), fields[i]); err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t.Name, t.Columns[i].Name, err)
		}
	}
	return row, nil
}

// Decode gives the row, of the projection's Row type, that its columns' canonical forms say.
func (t *Table) Decode(fields [][]byte) (any, error) {
	row, err := t.decode(fields)
	if err != nil {
		return nil, err
	}
	return t.box(row), nil
}

// Encode gives the canonical form of a row, which must be of the projection's Row type.
func (t *Table) Encode(row any) (Encoded, error) {
	v := reflect.ValueOf(row)
	if v.Type() != t.row {
		return nil, fmt.Errorf("%s holds rows of %s, not %s", t.Name, t.row, v.Type())
	}
	p := reflect.New(t.row)
	p.Elem().Set(v)
	return t.encode(nil, p.UnsafePointer())
}

// Encoded is a row in canonical form: for each column its length in four bytes, big-endian, -1 for NULL, and its value as
// Postgres sends it in binary. Two rows are equal exactly if these bytes are, in Postgres and out of it.
type Encoded []byte

const null = ^uint32(0)

// Next cuts off the first column: its value, nil for NULL, and the rest.
func (e Encoded) Next() (field []byte, rest Encoded) {
	size := binary.BigEndian.Uint32(e)
	if size == null {
		return nil, e[4:]
	}
	return e[4 : 4+size : 4+size], e[4+size:]
}

// Fields splits the row.
func (e Encoded) Fields() [][]byte {
	var all [][]byte
	for len(e) > 0 {
		var f []byte
		f, e = e.Next()
		all = append(all, f)
	}
	return all
}

// Key is the first column.
func (e Encoded) Key() string { f, _ := e.Next(); return string(f) }

// recovered turns a panic into an error.
func recovered(err *error) {
	if r := recover(); r != nil {
		if cause, ok := r.(error); ok {
			*err = fmt.Errorf("panic: %w", cause)
		} else {
			*err = fmt.Errorf("panic: %v", r)
		}
	}
}
