package rpc

import (
	"encoding/binary"
	"fmt"
)

// Frames of HTTP/2 (RFC 9113, section 6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	framePriority     = 0x2
	frameReset        = 0x3
	frameSettings     = 0x4
	framePush         = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindow       = 0x8
	frameContinuation = 0x9

	flagAck        = 0x1
	flagEndStream  = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	settingTableSize  = 0x1
	settingPush       = 0x2
	settingMaxStreams = 0x3
	settingWindow     = 0x4
	settingMaxFrame   = 0x5
	settingMaxHeaders = 0x6

	frameHeader = 9
	maxFrame    = 16 << 10 // what either side may send, if the other does not allow more
	startWindow = 64<<10 - 1
	maxWindow   = 1<<31 - 1

	// streamWindow is how much a client may send on one call before it is read, connWindow on all calls of a connection.
	streamWindow = 1 << 20
	connWindow   = 16 << 20
	// maxHeaderBlock bounds the headers of a call, in bytes.
	maxHeaderBlock = 64 << 10
)

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Error codes of HTTP/2 (section 7).
type code uint32

const (
	noError         code = 0x0
	protocolError   code = 0x1
	internalError   code = 0x2
	flowError       code = 0x3
	streamClosed    code = 0x5
	sizeError       code = 0x6
	refusedStream   code = 0x7
	cancelled       code = 0x8
	compressionLost code = 0x9
	tooMuch         code = 0xb
)

// broken ends a connection.
type broken struct {
	code code
	why  string
}

func (b *broken) Error() string { return fmt.Sprintf("rpc: connection error %d: %s", b.code, b.why) }

// head is a frame's header.
type head struct {
	size   int
	kind   byte
	flags  byte
	stream uint32
}

func (h head) has(flag byte) bool { return h.flags&flag != 0 }

// readHead reads a frame's header from the nine bytes that b begins with.
func readHead(b []byte) head {
	return head{
		size:   int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   b[3],
		flags:  b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & maxWindow,
	}
}

func appendHead(b []byte, size int, kind, flags byte, stream uint32) []byte {
	b = append(b, byte(size>>16), byte(size>>8), byte(size), kind, flags)
	return binary.BigEndian.AppendUint32(b, stream)
}

func appendSetting(b []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, id), value)
}

func appendReset(b []byte, stream uint32, why code) []byte {
	return binary.BigEndian.AppendUint32(appendHead(b, 4, frameReset, 0, stream), uint32(why))
}

func appendWindow(b []byte, stream uint32, n int) []byte {
	return binary.BigEndian.AppendUint32(appendHead(b, 4, frameWindow, 0, stream), uint32(n))
}

// unpad takes the padding and, of headers, the priority off a frame's payload.
func unpad(h head, b []byte) ([]byte, error) {
	pad := 0
	if h.has(flagPadded) {
		if len(b) < 1 {
			return nil, &broken{sizeError, "a padded frame without its length"}
		}
		pad, b = int(b[0]), b[1:]
	}
	if h.kind == frameHeaders && h.has(flagPriority) {
		if len(b) < 5 {
			return nil, &broken{sizeError, "a priority that is cut short"}
		}
		b = b[5:]
	}
	if pad > len(b) {
		return nil, &broken{protocolError, "more padding than frame"}
	}
	return b[:len(b)-pad], nil
}
