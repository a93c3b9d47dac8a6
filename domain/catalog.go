package domain

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
)

// Upcast lifts a payload from one schema revision to the next. It is pure and never edited once released.
type Upcast func(json.RawMessage) (json.RawMessage, error)

// Entry is one row of a catalog: the stable wire name of a message, its Go type, and one upcast per older revision.
type Entry struct {
	Name     string
	Revision int // current schema revision, from 1
	Type     reflect.Type
	upcasts  []Upcast // upcasts[i] lifts revision i+1 to i+2
	decode   func([]byte) (any, error)
}

// Fact declares a message: its wire name is a literal for ever, and upcasts come in the order of the revisions that they lift.
func Fact[M any](name string, upcasts ...Upcast) Entry {
	return Entry{Name: name, Revision: len(upcasts) + 1, Type: reflect.TypeFor[M](), upcasts: upcasts,
		decode: func(b []byte) (any, error) {
			var m M
			err := json.Unmarshal(b, &m)
			return m, err
		}}
}

// Catalog is a wire contract: the messages of one aggregate or of one saga.
type Catalog []Entry

// Registry finds entries by wire name and by Go type; it is made once from literal catalogs and never changes.
type Registry struct {
	byName map[string]*Entry
	byType map[reflect.Type]*Entry
}

// NewRegistry joins catalogs. It panics if a name or a type stands twice: that is a mistake in the program.
func NewRegistry(catalogs ...Catalog) *Registry {
	r := &Registry{map[string]*Entry{}, map[reflect.Type]*Entry{}}
	for _, c := range catalogs {
		for _, e := range c {
			if r.byName[e.Name] != nil || r.byType[e.Type] != nil {
				panic(fmt.Sprintf("catalog: %s (%s) is declared twice", e.Name, e.Type))
			}
			r.byName[e.Name], r.byType[e.Type] = &e, &e
		}
	}
	return r
}

// Entries gives every entry, in no order.
func (r *Registry) Entries() []Entry {
	var all []Entry
	for _, e := range r.byName {
		all = append(all, *e)
	}
	return all
}

// Named finds the entry of a wire name.
func (r *Registry) Named(name string) (Entry, bool) {
	e := r.byName[name]
	if e == nil {
		return Entry{}, false
	}
	return *e, true
}

// NameOf gives the wire name of a message's Go type, or "".
func (r *Registry) NameOf(message any) string {
	if e := r.byType[reflect.TypeOf(message)]; e != nil {
		return e.Name
	}
	return ""
}

// ErrNewer is wrapped by the error of decoding what only a newer release knows: an unknown name or a newer revision.
var ErrNewer = errors.New("written by a newer release")

// Decode lifts a payload to the current revision and decodes it. What only a newer release knows is CodeUnavailable and
// ErrNewer; a payload that does not decode is CodeInternal.
func (r *Registry) Decode(name string, rev int, data []byte) (any, error) {
	e := r.byName[name]
	if e == nil {
		return nil, &Error{Code: CodeUnavailable, Message: fmt.Sprintf("%s is unknown to this release", name), Cause: ErrNewer}
	}
	if rev < 1 || rev > e.Revision {
		return nil, &Error{Code: CodeUnavailable, Message: fmt.Sprintf("%s has revision %d, this release knows %d", name, rev, e.Revision), Cause: ErrNewer}
	}
	for _, up := range e.upcasts[rev-1:] {
		lifted, err := up(data)
		if err != nil {
			return nil, &Error{Code: CodeInternal, Message: name + " cannot be lifted", Cause: err}
		}
		data = lifted
	}
	m, err := e.decode(data)
	if err != nil {
		return nil, &Error{Code: CodeInternal, Message: name + " cannot be decoded", Cause: err}
	}
	return m, nil
}

// DecodeRecorded decodes an event of the log.
func (r *Registry) DecodeRecorded(e Recorded) (any, error) { return r.Decode(e.Type, e.Rev, e.Data) }

// Encode gives a message's wire name, current revision and JSON payload.
func (r *Registry) Encode(message any) (name string, rev int, data []byte, err error) {
	e := r.byType[reflect.TypeOf(message)]
	if e == nil {
		return "", 0, nil, fmt.Errorf("%T is in no catalog", message)
	}
	data, err = json.Marshal(message)
	return e.Name, e.Revision, data, err
}
