package archive

import (
	"encoding/binary"
	"errors"

	"github.com/google/uuid"
)

// Record is one event with all that a log knows of it.
type Record struct {
	Position uint64 // above 0, ascending
	Stream   string
	Revision int64
	ID       uuid.UUID
	Type     string
	JSON     bool  // its content type is application/json; else application/octet-stream
	Created  int64 // units of 100 ns since the Unix epoch
	Data     []byte
	Metadata []byte
}

var errRecord = errors.New("holds a record that cannot be read")

// appendRecord appends r with its length before it.
func appendRecord(b []byte, r *Record) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, r.Position)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Revision))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Created))
	b = append(b, r.ID[:]...)
	if r.JSON {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	for _, part := range [][]byte{[]byte(r.Stream), []byte(r.Type), r.Data, r.Metadata} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

const fixedSize = 3*8 + 16 + 1

// nextRecord reads the first record of b, whose memory it shares, and gives what is left.
func nextRecord(b []byte) (r Record, rest []byte, err error) {
	if len(b) < 4 {
		return r, nil, errRecord
	}
	size := uint64(binary.BigEndian.Uint32(b))
	if b = b[4:]; size < fixedSize || size > uint64(len(b)) {
		return r, nil, errRecord
	}
	b, rest = b[:size], b[size:]
	r.Position, r.Revision = binary.BigEndian.Uint64(b), int64(binary.BigEndian.Uint64(b[8:]))
	r.Created = int64(binary.BigEndian.Uint64(b[16:]))
	copy(r.ID[:], b[24:40])
	r.JSON = b[40] == 1
	b = b[fixedSize:]
	var parts [4][]byte
	for i := range parts {
		n, used := binary.Uvarint(b)
		if used <= 0 || n > uint64(len(b)-used) {
			return r, nil, errRecord
		}
		parts[i], b = b[used:used+int(n)], b[used+int(n):]
	}
	if len(b) > 0 {
		return r, nil, errRecord
	}
	r.Stream, r.Type, r.Data, r.Metadata = string(parts[0]), string(parts[1]), parts[2], parts[3]
	return r, rest, nil
}
