package eventnode

import (
	"encoding/binary"
	"math"
	"strings"
	"sync"
	"unicode/utf8"

	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/tenure-dev/tenure/adapters/eventnode/rpc"
)

const (
	// maxAppendSize bounds data, custom metadata and types of one append, in bytes.
	maxAppendSize = 1 << 20
	// maxStreamName bounds a stream's name, in bytes: it is part of keys.
	maxStreamName = 32 << 10
)

// appendCall is one call of Append: it collects the request, hands it to the committer, and is answered by it. Calls are
// used again and again.
type appendCall struct {
	write
	node   *Node
	call   *rpc.Call
	memory []byte // the request's events, and then the answer
	begun  bool
	wrong  error // the first thing wrong is what counts
}

// keptMemory is how much memory a call may bring along for the next one.
const keptMemory = 64 << 10

var appendCalls = sync.Pool{New: func() any { return &appendCall{} }}

func (n *Node) beginAppend(call *rpc.Call) rpc.Receiver {
	a := appendCalls.Get().(*appendCall)
	a.node, a.call, a.kind, a.replier = n, call, writeEvents, a
	return a
}

func (a *appendCall) release() {
	clear(a.events)
	fresh := appendCall{write: write{events: a.events[:0], ids: a.ids[:0]}, memory: a.memory[:0]}
	if cap(fresh.memory) > keptMemory {
		fresh = appendCall{}
	}
	*a = fresh
	appendCalls.Put(a)
}

// Message takes the options, then event after event. A request that is refused is read to its end all the same: a client
// that is answered while it sends does not read the answer.
func (a *appendCall) Message(b []byte) {
	if a.wrong != nil {
		return
	}
	if !a.begun {
		a.begun = true
		if a.wrong = a.readOptions(message(b).bytes(1)); a.wrong == nil {
			a.wrong = a.node.allow(a.call.Context(), writeStream, a.stream)
		}
		return
	}
	at := len(a.memory)
	a.memory = append(a.memory, b...)
	if proposed := message(a.memory[at:len(a.memory):len(a.memory)]).bytes(2); proposed != nil {
		a.wrong = a.readEvent(proposed)
	} else {
		a.wrong = invalid("Every message after the first must be an event.")
	}
}

// End hands the request to the committer.
func (a *appendCall) End() {
	switch {
	case !a.begun:
		a.fail(invalid("The first message must be the options."))
	case a.wrong != nil:
		a.fail(a.wrong)
	case !a.node.writer.queue.push(&a.write):
		a.fail(notReady())
	}
}

// Gone forgets a request that will never be complete.
func (a *appendCall) Gone() { a.release() }

func (a *appendCall) reply(out outcome) {
	switch {
	case out.err != nil:
		a.fail(out.err)
	case out.decision == refuseDeleted:
		a.fail(streamDeleted(a.stream))
	case out.decision == wrongVersion:
		b, err := proto.Marshal(&api.AppendResp{Result: &api.AppendResp_WrongExpectedVersion_{WrongExpectedVersion: wrongAnswer(&a.write, out.current)}})
		if err != nil {
			a.fail(err)
			return
		}
		a.answer(b)
	default:
		a.memory = appendSuccess(a.memory[:0], out)
		a.answer(a.memory)
	}
}

func (a *appendCall) answer(b []byte) {
	a.call.Answer(b)
	a.release()
}

func (a *appendCall) fail(err error) {
	a.node.metrics.refused.Add(1)
	a.call.Fail(statusOf(err))
	a.release()
}

// readOptions reads an AppendReq.Options.
func (w *write) readOptions(options message) error {
	if options == nil {
		return invalid("The first message must be the options.")
	}
	var name []byte
	given := false
	for len(options) > 0 {
		f, rest, ok := options.next()
		if !ok {
			return invalid("The options are damaged.")
		}
		options = rest
		switch f.number {
		case 1:
			name = message(f.bytes).bytes(3)
		case 2:
			w.numbered, given = true, true
			var err error
			if w.expected, err = expectedRevision(f.varint); err != nil {
				return err
			}
		case 3:
			w.expected, w.numbered, given = expectNoStream, false, true
		case 4:
			w.expected, w.numbered, given = expectAny, false, true
		case 5:
			w.expected, w.numbered, given = expectStreamExists, false, true
		}
	}
	if !given {
		return unsetExpected("AppendReq")
	}
	return w.to(name)
}

// to names the stream that is written to.
func (w *write) to(name []byte) (err error) {
	if w.stream, err = streamName(name); err == nil && w.stream == allStream {
		err = accessDenied()
	}
	return err
}

func streamName(b []byte) (string, error) {
	switch {
	case len(b) == 0:
		return "", invalid("A stream's name must not be empty.")
	case len(b) > maxStreamName:
		return "", invalid("A stream's name is at most %d bytes long.", maxStreamName)
	}
	return strings.ToValidUTF8(string(b), "\uFFFD"), nil
}

func unsetExpected(req string) error {
	return invalid("'None' is not a valid EventStore.Client.Streams.%s+Types+Options+ExpectedStreamRevisionOneofCase", req)
}

// expectedRevision reads a revision; the largest number stands for no stream.
func expectedRevision(v uint64) (int64, error) {
	switch {
	case v == math.MaxUint64:
		return expectNoStream, nil
	case v > math.MaxInt64:
		return 0, invalid("A revision is at most %d.", int64(math.MaxInt64))
	}
	return int64(v), nil
}

// readEvent reads an AppendReq.ProposedMessage.
func (w *write) readEvent(proposed message) error {
	var e proposedEvent
	var typ, content *string
	for len(proposed) > 0 {
		f, rest, ok := proposed.next()
		if !ok {
			return invalid("An event is damaged.")
		}
		proposed = rest
		switch f.number {
		case 1:
			e.id = readID(f.bytes)
		case 2:
			switch key, value := message(f.bytes).bytes(1), string(message(f.bytes).bytes(2)); string(key) {
			case "type":
				typ = &value
			case "content-type":
				content = &value
			}
		case 3:
			e.metadata = f.bytes
		case 4:
			e.data = f.bytes
		}
	}
	return w.add(e, typ, content)
}

// add adds an event, if it is one. The type and what its content is are required.
func (w *write) add(e proposedEvent, typ, content *string) error {
	switch {
	case typ == nil:
		return missingMetadata("type")
	case content == nil:
		return missingMetadata("content-type")
	case *typ == "":
		return invalid("An event's type must not be empty.")
	case !utf8.ValidString(*typ):
		return invalid("An event's type must be valid UTF-8.")
	case e.id == uuid.Nil:
		return invalid("An event's id must be a UUID other than zero.")
	}
	e.typ, e.json = *typ, *content == contentJSON
	w.size += len(e.data) + len(e.metadata) + 2*utf16Length(e.typ)
	if w.size > maxAppendSize {
		return appendTooLarge()
	}
	w.events = append(w.events, e)
	w.ids = append(w.ids, e.id)
	return nil
}

// readID reads a UUID in either of its forms; zero for none or a bad one.
func readID(m message) uuid.UUID {
	var id uuid.UUID
	for len(m) > 0 {
		f, rest, ok := m.next()
		if !ok {
			return uuid.Nil
		}
		m = rest
		switch f.number {
		case 1:
			binary.BigEndian.PutUint64(id[:8], message(f.bytes).varint(1))
			binary.BigEndian.PutUint64(id[8:], message(f.bytes).varint(2))
		case 2:
			var err error
			if id, err = uuid.ParseBytes(f.bytes); err != nil {
				return uuid.Nil
			}
		}
	}
	return id
}

// utf16Length is how long .NET finds a string.
func utf16Length(s string) int {
	n := len(s)
	for _, r := range s {
		switch {
		case r >= 0x10000:
			n -= 2 // four bytes, two units
		case r >= 0x800:
			n -= 2
		case r >= 0x80:
			n--
		}
	}
	return n
}

// appendSuccess writes the AppendResp of an append that was taken.
func appendSuccess(b []byte, out outcome) []byte {
	const success, current, noStream, position, noPosition = 1, 1, 2, 3, 4
	revision, place := varintField(uint64(out.revision)), lenField(2*varintField(out.position))
	if out.revision < 0 {
		revision = lenField(0)
	}
	if out.position == 0 {
		place = lenField(0)
	}
	b = appendLen(b, success, revision+place)
	if out.revision < 0 {
		b = appendLen(b, noStream, 0)
	} else {
		b = appendVarint(b, current, uint64(out.revision))
	}
	if out.position == 0 {
		return appendLen(b, noPosition, 0)
	}
	b = appendLen(b, position, 2*varintField(out.position))
	return appendVarint(appendVarint(b, 1, out.position), 2, out.position)
}

// wrongAnswer says what was expected and what is there, in the present fields and in those of version 20.6.0.
func wrongAnswer(x *write, current int64) *api.AppendResp_WrongExpectedVersion {
	w := &api.AppendResp_WrongExpectedVersion{}
	if current < 0 {
		w.CurrentRevisionOption = &api.AppendResp_WrongExpectedVersion_CurrentNoStream{CurrentNoStream: empty}
		w.CurrentRevisionOption_20_6_0 = &api.AppendResp_WrongExpectedVersion_NoStream_20_6_0{NoStream_20_6_0: empty}
	} else {
		w.CurrentRevisionOption = &api.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: uint64(current)}
		w.CurrentRevisionOption_20_6_0 = &api.AppendResp_WrongExpectedVersion_CurrentRevision_20_6_0{CurrentRevision_20_6_0: uint64(current)}
	}
	switch x.expected {
	case expectAny:
		w.ExpectedRevisionOption = &api.AppendResp_WrongExpectedVersion_ExpectedAny{ExpectedAny: empty}
		w.ExpectedRevisionOption_20_6_0 = &api.AppendResp_WrongExpectedVersion_Any_20_6_0{Any_20_6_0: empty}
	case expectStreamExists:
		w.ExpectedRevisionOption = &api.AppendResp_WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: empty}
		w.ExpectedRevisionOption_20_6_0 = &api.AppendResp_WrongExpectedVersion_StreamExists_20_6_0{StreamExists_20_6_0: empty}
	case expectNoStream:
		w.ExpectedRevisionOption = &api.AppendResp_WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: empty}
		if x.numbered {
			w.ExpectedRevisionOption = &api.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: math.MaxUint64}
		}
		w.ExpectedRevisionOption_20_6_0 = &api.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: math.MaxUint64}
	default:
		w.ExpectedRevisionOption = &api.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: uint64(x.expected)}
		w.ExpectedRevisionOption_20_6_0 = &api.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: uint64(x.expected)}
	}
	return w
}
