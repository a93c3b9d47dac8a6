package eventnode

import (
	"encoding/binary"

	"github.com/google/uuid"
)

// Tables, by the first byte of a key. Everything else is derived: a stream's last revision is its last entry in the
// index, its metadata the last event of its metastream.
const (
	tableFormat byte = 0x00 // 0x00 -> format version
	tableLog    byte = 0x01 // position -> record
	tableIndex  byte = 0x02 // stream, revision -> position, event id
	tableIDs    byte = 0x03 // event id, position -> revision, stream; the first of an id counts
)

// importedKey holds the last position that another log has given. Up to it, positions and revisions may have gaps.
var importedKey = []byte{tableFormat, 1}

const (
	positionKeySize = 9
	idKeySize       = 25
)

func logKey(position uint64) []byte {
	return appendLogKey(make([]byte, 0, positionKeySize), position)
}

func appendLogKey(b []byte, position uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, tableLog), position)
}

func logKeyPosition(key []byte) uint64 { return binary.BigEndian.Uint64(key[1:]) }

// logBounds are the bounds of a scan of the records from one position up to and including another.
func logBounds(from, to uint64) (lower, upper []byte) {
	return logKey(from), logKey(to + 1) // positions stay far below the maximum
}

// appendIndexPrefix starts with the name's length, so that no stream's entries lie among those of another.
func appendIndexPrefix(b []byte, stream string) []byte {
	b = binary.AppendUvarint(append(b, tableIndex), uint64(len(stream)))
	return append(b, stream...)
}

func appendIndexKey(b []byte, stream string, revision int64) []byte {
	return binary.BigEndian.AppendUint64(appendIndexPrefix(b, stream), uint64(revision))
}

// indexKeyStream is the stream of an entry of the index; ok is false for a key that nobody wrote.
func indexKeyStream(key []byte) (stream string, ok bool) {
	if len(key) < 1 {
		return "", false
	}
	size, n := binary.Uvarint(key[1:])
	if n <= 0 || uint64(len(key)) != uint64(1+n+8)+size {
		return "", false
	}
	return string(key[1+n : len(key)-8]), true
}

func indexKeyRevision(key []byte) int64 {
	return int64(binary.BigEndian.Uint64(key[len(key)-8:]))
}

// place is where an event lies.
type place struct {
	position uint64
	revision int64
	id       uuid.UUID
}

func appendIndexValue(b []byte, p place) []byte {
	return append(binary.BigEndian.AppendUint64(b, p.position), p.id[:]...)
}

// indexPlace reads an entry of the index; ok is false for one that nobody wrote.
func indexPlace(key, value []byte) (p place, ok bool) {
	if len(value) != 24 || len(key) < 8 {
		return place{}, false
	}
	p = place{position: binary.BigEndian.Uint64(value), revision: indexKeyRevision(key)}
	copy(p.id[:], value[8:])
	return p, true
}

func appendIDPrefix(b []byte, id uuid.UUID) []byte { return append(append(b, tableIDs), id[:]...) }

// appendIDKey ends with the position, so that the committer need not look whether the id is there: the first of an id's
// entries is its first place.
func appendIDKey(b []byte, p place) []byte {
	return binary.BigEndian.AppendUint64(appendIDPrefix(b, p.id), p.position)
}

func appendIDValue(b []byte, revision int64, stream string) []byte {
	return append(binary.BigEndian.AppendUint64(b, uint64(revision)), stream...)
}

// idPlace reads an entry of the ids; ok is false for one that nobody wrote.
func idPlace(key, value []byte) (p place, stream []byte, ok bool) {
	if len(key) != idKeySize || len(value) < 8 {
		return place{}, nil, false
	}
	p = place{position: binary.BigEndian.Uint64(key[idKeySize-8:]), revision: int64(binary.BigEndian.Uint64(value))}
	copy(p.id[:], key[1:])
	return p, value[8:], true
}
