package eventnode

import "google.golang.org/protobuf/encoding/protowire"

// message is an encoded protobuf message of which only a few fields are wanted.
type message []byte

type field struct {
	number protowire.Number
	varint uint64
	bytes  []byte // of a length-delimited field; shares the message's memory
}

// next takes the first field off. It reports false for what is no protobuf.
func (m message) next() (field, message, bool) {
	number, kind, n := protowire.ConsumeTag(m)
	if n < 0 {
		return field{}, nil, false
	}
	f := field{number: number}
	m = m[n:]
	switch kind {
	case protowire.VarintType:
		f.varint, n = protowire.ConsumeVarint(m)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(m)
		if f.bytes == nil {
			f.bytes = []byte{}
		}
	default:
		n = protowire.ConsumeFieldValue(number, kind, m)
	}
	if n < 0 {
		return field{}, nil, false
	}
	return f, m[n:], true
}

// bytes is the first length-delimited field of that number, nil if there is none.
func (m message) bytes(number protowire.Number) []byte {
	for len(m) > 0 {
		f, rest, ok := m.next()
		if !ok {
			return nil
		}
		if f.number == number {
			return f.bytes
		}
		m = rest
	}
	return nil
}

// varint is the first field of that number, 0 if there is none.
func (m message) varint(number protowire.Number) uint64 {
	for len(m) > 0 {
		f, rest, ok := m.next()
		if !ok {
			return 0
		}
		if f.number == number {
			return f.varint
		}
		m = rest
	}
	return 0
}
