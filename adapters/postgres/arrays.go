package postgres

import (
	wire "encoding/binary"
	"strings"

	"github.com/tenure-dev/tenure/projections"
)

// elementOIDs are Postgres' own numbers of the types that unnest gives. Arrays of text travel as text in their literal form.
var elementOIDs = map[projections.Kind]uint32{
	projections.Text: 25, projections.Int: 20, projections.Bool: 16, projections.Time: 1184, projections.Texts: 25,
}

// columnArrays turns rows into one array for each column, in binary.
func columnArrays(t *projections.Table, rows []projections.Upsert) [][]byte {
	arrays := make([][]byte, len(t.Columns))
	for i, c := range t.Columns {
		arrays[i] = header(make([]byte, 0, 20+24*len(rows)), true, elementOIDs[c.Kind], len(rows))
	}
	for _, r := range rows {
		rest := r.Row
		for i, c := range t.Columns {
			var field []byte
			field, rest = rest.Next()
			switch {
			case field == nil:
				arrays[i] = wire.BigEndian.AppendUint32(arrays[i], ^uint32(0))
			case c.Kind == projections.Texts:
				arrays[i] = element(arrays[i], literal(field))
			default:
				arrays[i] = element(arrays[i], field)
			}
		}
	}
	return arrays
}

// literal writes an array of text as Postgres reads it.
func literal(canonical []byte) string {
	all, err := projections.Strings(canonical)
	if err != nil {
		return "?" // refused, and so parked: no projection encodes it thus
	}
	var b strings.Builder
	b.WriteByte('{')
	for i, s := range all {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		b.WriteString(escaper.Replace(s))
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}

var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func textArray(all []string) []byte {
	if len(all) == 0 {
		return []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25}
	}
	b := header(nil, false, 25, len(all))
	for _, s := range all {
		b = element(b, s)
	}
	return b
}

// header begins a one-dimensional array.
func header(b []byte, nulls bool, oid uint32, n int) []byte {
	has := uint32(0)
	if nulls {
		has = 1
	}
	for _, v := range []uint32{1, has, oid, uint32(n), 1} {
		b = wire.BigEndian.AppendUint32(b, v)
	}
	return b
}

func element[T string | []byte](b []byte, v T) []byte {
	return append(wire.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

func bigint(v int64) []byte { return wire.BigEndian.AppendUint64(nil, uint64(v)) }
func integer(v int) []byte  { return wire.BigEndian.AppendUint32(nil, uint32(v)) }
