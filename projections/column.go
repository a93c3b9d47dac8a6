package projections

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/tenure-dev/tenure/domain"
)

// Kind is what a column holds.
type Kind uint8

// The kinds of column. Each gives back exactly what was put in; there are no floats and no maps.
const (
	Text  Kind = iota // string; domain.Sealed and fields tagged json hold their JSON
	Int               // int64
	Bool              //
	Time              // to the µs
	Texts             // []string
)

// Column is one field of a row.
//
// A field is tagged `db:"name,option"`. Without a name it is the field's own in snake case. The option null makes the zero
// value NULL; json keeps a struct or slice as its JSON text. A zero domain.Sealed is always NULL.
type Column struct {
	Name string
	Kind Kind
	Null bool // the zero value is NULL

	offset uintptr
	put    func(b []byte, field unsafe.Pointer) []byte // appends the value without its length
	zero   func(field unsafe.Pointer) bool             // with Null
	get    func(field unsafe.Pointer, b []byte) error
	clone  func(field unsafe.Pointer) // unshares what the field refers to; nil where it refers to nothing that a fold may change
	settle func(field unsafe.Pointer) // brings the value to what the column can hold, or panics; nil where it always is
}

var (
	timeType   = reflect.TypeFor[time.Time]()
	sealedType = reflect.TypeFor[domain.Sealed]()
)

// columnOf reads a field's tag and type once, into closures over its offset.
func columnOf(f reflect.StructField) (Column, error) {
	name, options, _ := strings.Cut(f.Tag.Get("db"), ",")
	c := Column{Name: name, offset: f.Offset}
	if name == "" {
		c.Name = snake(f.Name)
	}
	asJSON := false
	for o := range strings.SplitSeq(options, ",") {
		switch o {
		case "":
		case "null":
			c.Null = true
		case "json":
			asJSON = true
		default:
			return c, fmt.Errorf("field %s: no column option is called %q", f.Name, o)
		}
	}
	t := f.Type
	switch {
	case asJSON:
		c.Kind = Text
		if err := exact(t, nil); err != nil {
			return c, fmt.Errorf("field %s: %w", f.Name, err)
		}
		c.json(t)
		c.clone = func(p unsafe.Pointer) { unshare(reflect.NewAt(t, p).Elem()) }
	case t == sealedType:
		c.Kind, c.Null = Text, true
		c.json(t)
	case t == timeType:
		c.Kind = Time
		c.put = func(b []byte, p unsafe.Pointer) []byte { return be64(b, uint64((*time.Time)(p).UnixMicro()-y2000)) }
		c.zero = func(p unsafe.Pointer) bool { return (*time.Time)(p).IsZero() }
		c.get = func(p unsafe.Pointer, b []byte) error {
			if len(b) != 8 {
				return errWidth
			}
			*(*time.Time)(p) = time.UnixMicro(int64(binary.BigEndian.Uint64(b)) + y2000).UTC()
			return nil
		}
		c.settle = func(p unsafe.Pointer) { *(*time.Time)(p) = domain.Micro(*(*time.Time)(p)) }
	case t.Kind() == reflect.String:
		c.Kind = Text
		c.put = func(b []byte, p unsafe.Pointer) []byte { return append(b, *(*string)(p)...) }
		c.zero = func(p unsafe.Pointer) bool { return *(*string)(p) == "" }
		c.get = func(p unsafe.Pointer, b []byte) error { *(*string)(p) = string(b); return nil }
		c.settle = func(p unsafe.Pointer) { mustBeText(*(*string)(p)) }
	case t.Kind() == reflect.Int64:
		c.Kind = Int
		c.put = func(b []byte, p unsafe.Pointer) []byte { return be64(b, uint64(*(*int64)(p))) }
		c.zero = func(p unsafe.Pointer) bool { return *(*int64)(p) == 0 }
		c.get = func(p unsafe.Pointer, b []byte) error {
			if len(b) != 8 {
				return errWidth
			}
			*(*int64)(p) = int64(binary.BigEndian.Uint64(b))
			return nil
		}
	case t.Kind() == reflect.Bool:
		c.Kind = Bool
		c.put = func(b []byte, p unsafe.Pointer) []byte {
			if *(*bool)(p) {
				return append(b, 1)
			}
			return append(b, 0)
		}
		c.zero = func(p unsafe.Pointer) bool { return !*(*bool)(p) }
		c.get = func(p unsafe.Pointer, b []byte) error {
			if len(b) != 1 {
				return errWidth
			}
			*(*bool)(p) = b[0] == 1
			return nil
		}
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		c.Kind = Texts
		c.put = func(b []byte, p unsafe.Pointer) []byte { return putTexts(b, *(*[]string)(p)) }
		c.zero = func(p unsafe.Pointer) bool { return len(*(*[]string)(p)) == 0 }
		c.get = func(p unsafe.Pointer, b []byte) (err error) { *(*[]string)(p), err = Strings(b); return err }
		c.clone = func(p unsafe.Pointer) { *(*[]string)(p) = slices.Clone(*(*[]string)(p)) }
		c.settle = func(p unsafe.Pointer) {
			if len(*(*[]string)(p)) == 0 {
				*(*[]string)(p) = nil // Postgres knows one empty array
			}
			for _, s := range *(*[]string)(p) {
				mustBeText(s)
			}
		}
	default:
		return c, fmt.Errorf("field %s: no column holds a %s; tag structs and slices json", f.Name, t)
	}
	return c, nil
}

// mustBeText refuses what Postgres refuses in every batch, so that a row does not depend on how the log was cut into batches.
func mustBeText(s string) {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		panic("text that is not UTF-8, or holds NUL")
	}
}

// json makes the column hold the field's JSON, which encoding/json writes in one way only: fields in their order, no maps.
func (c *Column) json(t reflect.Type) {
	c.put = func(b []byte, p unsafe.Pointer) []byte {
		text, err := json.Marshal(reflect.NewAt(t, p).Interface())
		if err != nil {
			panic(err)
		}
		return append(b, text...)
	}
	c.zero = func(p unsafe.Pointer) bool {
		v := reflect.NewAt(t, p).Elem()
		return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
	}
	if t == sealedType {
		c.zero = func(p unsafe.Pointer) bool { return (*domain.Sealed)(p).IsZero() }
	}
	c.get = func(p unsafe.Pointer, b []byte) error { return json.Unmarshal(b, reflect.NewAt(t, p).Interface()) }
}

// exact refuses types whose JSON does not give back what was put in, or can be written in more than one way.
func exact(t reflect.Type, within []reflect.Type) error {
	if t == timeType || t == sealedType || slices.Contains(within, t) {
		return nil
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return nil
	case reflect.Slice, reflect.Array:
		return exact(t.Elem(), within)
	case reflect.Struct:
		for f := range t.Fields() {
			if !f.IsExported() {
				return fmt.Errorf("%s.%s is unexported and would be lost", t, f.Name)
			}
			if err := exact(f.Type, append(within, t)); err != nil {
				return err
			}
		}
		return nil
	default:
		return fmt.Errorf("%s is not kept exactly: rows hold no floats, maps, pointers or interfaces", t)
	}
}

// unshare gives v slices of its own, at every depth. Sealed text is never edited in place and stays shared.
func unshare(v reflect.Value) {
	if v.Type() == timeType || v.Type() == sealedType {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			unshare(v.Field(i))
		}
	case reflect.Slice:
		if v.IsNil() {
			return
		}
		c := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(c, v)
		v.Set(c)
		for i := range v.Len() {
			unshare(v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			unshare(v.Index(i))
		}
	}
}

// y2000 is Postgres' own zero of time, in µs since 1970.
const y2000 = 946684800 * 1_000_000

var errWidth = errors.New("the value has the wrong width")

func be32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
func be64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// textOID is Postgres' own number of the type text.
const textOID = 25

// putTexts writes a one-dimensional array of text as Postgres sends it.
func putTexts(b []byte, all []string) []byte {
	if len(all) == 0 {
		return be32(be32(be32(b, 0), 0), textOID)
	}
	b = be32(be32(be32(be32(be32(b, 1), 0), textOID), uint32(len(all))), 1)
	for _, s := range all {
		b = append(be32(b, uint32(len(s))), s...)
	}
	return b
}

// Strings reads the canonical form of a Texts value.
func Strings(b []byte) ([]string, error) {
	bad := errors.New("not an array of text")
	if len(b) == 12 && binary.BigEndian.Uint32(b) == 0 {
		return nil, nil
	}
	if len(b) < 20 || binary.BigEndian.Uint32(b) != 1 || binary.BigEndian.Uint32(b[8:]) != textOID {
		return nil, bad
	}
	n := int(binary.BigEndian.Uint32(b[12:]))
	b = b[20:]
	if n > len(b)/4 {
		return nil, bad
	}
	all := make([]string, n)
	for i := range all {
		if len(b) < 4 {
			return nil, bad
		}
		size := int(int32(binary.BigEndian.Uint32(b)))
		if b = b[4:]; size < 0 || size > len(b) {
			return nil, bad
		}
		all[i], b = string(b[:size]), b[size:]
	}
	return all, nil
}

// snake writes a Go field's name as a column's: FinishedAt is finished_at, OrgID is org_id.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		upper := r >= 'A' && r <= 'Z'
		if upper && i > 0 {
			before, after := name[i-1], byte('A')
			if i+1 < len(name) {
				after = name[i+1]
			}
			if before >= 'a' && before <= 'z' || before >= '0' && before <= '9' || after >= 'a' && after <= 'z' {
				b.WriteByte('_')
			}
		}
		if upper {
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
