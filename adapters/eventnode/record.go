package eventnode

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
)

// A record is stored as one byte of flags and the very bytes that a reader is sent: a ReadResp with the event in it.
// Reading is then copying. The flags answer what a reader asks of every record without looking inside.
const (
	flagEvent   byte = 1 << iota // without it: the invisible record of an append of no events
	flagHidden                   // not part of $all
	flagLink                     // its type is $>
	flagDeleted                  // a tombstone
	flagJSON                     // its content type is application/json
	flagRemoved                  // without flagEvent: what a scavenge leaves of an event, for the sake of its position
)

const (
	contentJSON  = "application/json"
	contentOctet = "application/octet-stream"
)

// positionGap keeps positions from being dense: consecutive records are at least this far apart.
const positionGap = 16

// span is the distance from a record to the next one, for a stored value of n bytes.
func span(n int) uint64 { return uint64(n) + positionGap }

// spanOf is the distance from a stored record to the next one. A removed one has kept that of the event it was.
func spanOf(value []byte) uint64 {
	if len(value) > 0 && value[0]&flagRemoved != 0 {
		size, _ := binary.Uvarint(value[1:])
		return span(int(size))
	}
	return span(len(value))
}

// appendRemoved appends what is stored instead of a value of n bytes once its event is removed.
func appendRemoved(b []byte, n int) []byte {
	return binary.AppendUvarint(append(b, flagRemoved), uint64(n))
}

// record is an event as it goes into the log.
type record struct {
	position uint64
	stream   string
	revision int64
	id       uuid.UUID
	typ      string
	json     bool
	created  int64 // ticks
	data     []byte
	metadata []byte
}

// ticks are units of 100 ns since the Unix epoch, the protocol's time.
func ticks(t time.Time) int64 { return t.UnixNano() / 100 }

// Field numbers of streams.proto: ReadResp, ReadEvent, RecordedEvent.
const (
	respEvent = 1

	readEvent    = 1
	readLink     = 2
	readPosition = 3

	recordedID       = 1
	recordedStream   = 2
	recordedRevision = 3
	recordedPrepare  = 4
	recordedCommit   = 5
	recordedMetadata = 6
	recordedCustom   = 7
	recordedData     = 8
)

// appendRecord appends the stored value of r to dst.
func appendRecord(dst []byte, r *record) []byte {
	flags := flagEvent
	if hiddenFromAll(r.stream) {
		flags |= flagHidden
	}
	if r.typ == linkType {
		flags |= flagLink
	}
	if r.revision == deletedRevision {
		flags |= flagDeleted
	}
	content := contentOctet
	if r.json {
		flags, content = flags|flagJSON, contentJSON
	}
	high, low := binary.BigEndian.Uint64(r.id[:8]), binary.BigEndian.Uint64(r.id[8:])
	var createdText [20]byte
	created := strconv.AppendInt(createdText[:0], r.created, 10)

	bits := varintField(high) + varintField(low)
	id := lenField(bits)
	size := lenField(id) + lenField(lenField(len(r.stream))) + varintField(uint64(r.revision)) + 2*varintField(r.position) +
		lenField(entrySize("type", len(r.typ))) + lenField(entrySize("created", len(created))) + lenField(entrySize("content-type", len(content)))
	if len(r.metadata) > 0 {
		size += lenField(len(r.metadata))
	}
	if len(r.data) > 0 {
		size += lenField(len(r.data))
	}

	b := append(dst, flags)
	b = appendLen(b, respEvent, lenField(size)+varintField(r.position))
	b = appendLen(b, readEvent, size)
	b = appendLen(b, recordedID, id)
	b = appendLen(b, 1, bits)
	b = appendVarint(b, 1, high)
	b = appendVarint(b, 2, low)
	b = appendLen(b, recordedStream, lenField(len(r.stream)))
	b = appendLen(b, 3, len(r.stream))
	b = append(b, r.stream...)
	b = appendVarint(b, recordedRevision, uint64(r.revision))
	b = appendVarint(b, recordedPrepare, r.position)
	b = appendVarint(b, recordedCommit, r.position)
	b = appendEntry(b, "type", r.typ)
	b = appendEntry(b, "created", created)
	b = appendEntry(b, "content-type", content)
	if len(r.metadata) > 0 {
		b = appendLen(b, recordedCustom, len(r.metadata))
		b = append(b, r.metadata...)
	}
	if len(r.data) > 0 {
		b = appendLen(b, recordedData, len(r.data))
		b = append(b, r.data...)
	}
	return appendVarint(b, readPosition, r.position)
}

// All field numbers in use are below 16, so a tag is one byte.

func lenField(n int) int { return 1 + protowire.SizeVarint(uint64(n)) + n }

func varintField(v uint64) int { return 1 + protowire.SizeVarint(v) }

func entrySize(key string, value int) int { return lenField(len(key)) + lenField(value) }

func appendLen(b []byte, field protowire.Number, n int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(n))
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func appendEntry[T string | []byte](b []byte, key string, value T) []byte {
	b = appendLen(b, recordedMetadata, entrySize(key, len(value)))
	b = appendLen(b, 1, len(key))
	b = append(b, key...)
	b = appendLen(b, 2, len(value))
	return append(b, value...)
}

// event is a stored record as its readers see it. Its slices share the memory of the stored value and are never written.
type event struct {
	position uint64
	flags    byte
	frame    []byte // the ReadResp to send
	recorded []byte // the RecordedEvent inside
	stream   []byte
	revision int64
	id       uuid.UUID
	typ      []byte
	created  int64 // ticks
	data     []byte
}

func (e *event) is(flag byte) bool { return e.flags&flag != 0 }

// sealed is a record of which only the flags have been looked at.
func sealed(position uint64, value []byte) event {
	e := event{position: position}
	if len(value) > 0 {
		e.flags = value[0]
		e.frame = value[1:]
	}
	return e
}

// open reads a stored record. The value must stay as it is from then on.
func open(position uint64, value []byte) (event, error) {
	e := sealed(position, value)
	if !e.is(flagEvent) {
		return e, nil
	}
	fields := message(value[1:]).bytes(respEvent)
	e.recorded = message(fields).bytes(readEvent)
	ok := len(e.recorded) > 0
	for rest := message(e.recorded); len(rest) > 0 && ok; {
		var f field
		if f, rest, ok = rest.next(); !ok {
			break
		}
		switch f.number {
		case recordedID:
			bits := message(message(f.bytes).bytes(1))
			binary.BigEndian.PutUint64(e.id[:8], bits.varint(1))
			binary.BigEndian.PutUint64(e.id[8:], bits.varint(2))
		case recordedStream:
			e.stream = message(f.bytes).bytes(3)
		case recordedRevision:
			e.revision = int64(f.varint)
		case recordedMetadata:
			switch key, value := message(f.bytes).bytes(1), message(f.bytes).bytes(2); string(key) {
			case "type":
				e.typ = value
			case "created":
				e.created, _ = strconv.ParseInt(string(value), 10, 64)
			}
		case recordedData:
			e.data = f.bytes
		}
	}
	if !ok {
		return event{}, fmt.Errorf("eventnode: the record at position %d is damaged", position)
	}
	return e, nil
}
