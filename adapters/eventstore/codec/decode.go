package codec

import (
	"encoding/binary"
	"unicode/utf8"
	"unsafe"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
)

// The tags of the fields that are decoded here: number<<3 | wire type, which is 0 for numbers and 2 for bytes.
const (
	eventTag = 1<<3 | 2 // ReadResp.event

	recordedTag = 1<<3 | 2 // ReadEvent.event
	positionTag = 3 << 3   // ReadEvent.commit_position

	idTag       = 1<<3 | 2 // RecordedEvent…
	streamTag   = 2<<3 | 2
	revisionTag = 3 << 3
	prepareTag  = 4 << 3
	commitTag   = 5 << 3
	metadataTag = 6<<3 | 2
	customTag   = 7<<3 | 2
	dataTag     = 8<<3 | 2

	nameTag       = 3<<3 | 2 // StreamIdentifier.stream_name
	structuredTag = 1<<3 | 2 // UUID.structured
	mostTag       = 1 << 3   // Structured…
	leastTag      = 2 << 3
	keyTag        = 1<<3 | 2 // of an entry of a map
	valueTag      = 2<<3 | 2
)

// slab is all that an event consists of, for one allocation.
type slab struct {
	content    api.ReadResp_Event
	event      api.ReadResp_ReadEvent
	position   api.ReadResp_ReadEvent_CommitPosition
	recorded   api.ReadResp_ReadEvent_RecordedEvent
	stream     shared.StreamIdentifier
	id         shared.UUID
	structured shared.UUID_Structured_
	halves     shared.UUID_Structured
}

// Decode fills an answer that is an event as event stores send it, and reports false for every other: for links, fields it
// does not know, fields that come twice, and what is malformed. What it fills then is worth nothing. The answer keeps b,
// which must not change any more.
func Decode(b []byte, into *api.ReadResp) bool {
	event, rest, ok := field(b, eventTag)
	if !ok || len(rest) > 0 {
		return false
	}
	s := &slab{}
	if !s.decodeEvent(event) {
		return false
	}
	into.Reset()
	s.content.Event = &s.event
	into.Content = &s.content
	return true
}

func (s *slab) decodeEvent(b []byte) bool {
	var seen seen
	for len(b) > 0 {
		tag := b[0]
		if !seen.first(tag) {
			return false
		}
		var ok bool
		switch tag {
		case recordedTag:
			var recorded []byte
			if recorded, b, ok = bytes(b[1:]); !ok || !s.decodeRecorded(recorded) {
				return false
			}
			s.event.Event = &s.recorded
		case positionTag:
			if s.position.CommitPosition, b, ok = varint(b[1:]); !ok {
				return false
			}
			s.event.Position = &s.position
		default:
			return false
		}
	}
	return true
}

func (s *slab) decodeRecorded(b []byte) bool {
	var seen seen
	r := &s.recorded
	for len(b) > 0 {
		tag := b[0]
		if tag == metadataTag {
			if r.Metadata != nil {
				return false
			}
			var ok bool
			if r.Metadata, b, ok = metadata(b); !ok {
				return false
			}
			continue
		}
		if !seen.first(tag) {
			return false
		}
		var v []byte
		var n uint64
		var ok bool
		switch tag {
		case revisionTag, prepareTag, commitTag:
			n, b, ok = varint(b[1:])
		case idTag, streamTag, customTag, dataTag:
			v, b, ok = bytes(b[1:])
		}
		if !ok {
			return false
		}
		switch tag {
		case idTag:
			ok = s.decodeID(v)
		case streamTag:
			ok = s.decodeStream(v)
		case revisionTag:
			r.StreamRevision = n
		case prepareTag:
			r.PreparePosition = n
		case commitTag:
			r.CommitPosition = n
		case customTag:
			r.CustomMetadata = v
		case dataTag:
			r.Data = v
		}
		if !ok {
			return false
		}
	}
	return true
}

func (s *slab) decodeStream(b []byte) bool {
	name, rest, ok := field(b, nameTag)
	s.stream.StreamName, s.recorded.StreamIdentifier = name, &s.stream
	return ok && len(rest) == 0
}

func (s *slab) decodeID(b []byte) bool {
	halves, rest, ok := field(b, structuredTag)
	if !ok || len(rest) > 0 {
		return false
	}
	for _, half := range []struct {
		tag byte
		to  *int64
	}{{mostTag, &s.halves.MostSignificantBits}, {leastTag, &s.halves.LeastSignificantBits}} {
		if len(halves) == 0 || halves[0] != half.tag { // a half that is 0 is not sent
			continue
		}
		var n uint64
		if n, halves, ok = varint(halves[1:]); !ok {
			return false
		}
		*half.to = int64(n)
	}
	s.structured.Structured = &s.halves
	s.id.Value, s.recorded.Id = &s.structured, &s.id
	return len(halves) == 0
}

// metadata takes the entries at the beginning of b, which stand together.
func metadata(b []byte) (entries map[string]string, rest []byte, ok bool) {
	n := 0
	for at := b; len(at) > 0 && at[0] == metadataTag; n++ {
		if _, at, ok = bytes(at[1:]); !ok {
			return nil, nil, false
		}
	}
	entries = make(map[string]string, n)
	for range n {
		var entry, key, value []byte
		if entry, b, ok = bytes(b[1:]); !ok {
			return nil, nil, false
		}
		if key, entry, ok = field(entry, keyTag); !ok {
			return nil, nil, false
		}
		if value, entry, ok = field(entry, valueTag); !ok || len(entry) > 0 || !utf8.Valid(key) || !utf8.Valid(value) {
			return nil, nil, false
		}
		k := known.text(key)
		if k == "created" { // no two are the same
			entries[k] = aliased(value)
		} else {
			entries[k] = known.text(value)
		}
	}
	return entries, b, true
}

// seen remembers the tags below 128 that have come, which are those of one byte.
type seen [2]uint64

// first reports whether a tag comes for the first time; never for one of several bytes.
func (s *seen) first(tag byte) bool {
	if tag >= 1<<7 {
		return false
	}
	word, bit := &s[tag>>6], uint64(1)<<(tag&63)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

// field takes the field with that tag off, which holds bytes.
func field(b []byte, tag byte) (v, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != tag {
		return nil, nil, false
	}
	return bytes(b[1:])
}

// bytes takes a length and as many bytes off; nil for none, as proto has it. Nothing can be appended to them in place.
func bytes(b []byte) (v, rest []byte, ok bool) {
	n, b, ok := varint(b)
	if !ok || n > uint64(len(b)) {
		return nil, nil, false
	}
	if n == 0 {
		return nil, b, true
	}
	return b[:n:n], b[n:], true
}

func varint(b []byte) (uint64, []byte, bool) {
	if len(b) > 0 && b[0] < 1<<7 {
		return uint64(b[0]), b[1:], true
	}
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

// aliased is b as a string without a copy. The memory is never written again: it is the message's own.
func aliased(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
