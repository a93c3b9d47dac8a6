package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	streams "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
)

// suiteStreams is what the names of the streams begin with that a history is about.
const suiteStreams = "w-"

// entry is one event at its place in the log.
type entry struct {
	position uint64
	stream   string
	revision int64
	id       string
}

func (e entry) String() string {
	return fmt.Sprintf("%s at %s@%d, position %d", e.id, e.stream, e.revision, e.position)
}

// history is what the clients of a log know of it: what they tried, what they were told, and what they have read.
type history struct {
	mu    sync.Mutex
	tried map[string]struct{} // ids
	acked map[int][]entry     // by writer, in the order of the answers
	seen  map[uint64]entry    // by position
	wrong []string            // what readers have found by themselves
	acks  int
	more  chan struct{} // closed with the next acknowledgement
}

func newHistory() *history {
	return &history{tried: map[string]struct{}{}, acked: map[int][]entry{}, seen: map[uint64]entry{}, more: make(chan struct{})}
}

// try notes an event before it is sent for the first time.
func (h *history) try(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tried[id] = struct{}{}
}

// ack notes what a writer was told.
func (h *history) ack(writer int, e entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acked[writer] = append(h.acked[writer], e)
	h.acks++
	close(h.more)
	h.more = make(chan struct{})
}

// acknowledged waits until there have been so many acknowledgements.
func (h *history) acknowledged(ctx context.Context, n int) error {
	for {
		h.mu.Lock()
		acks, more := h.acks, h.more
		h.mu.Unlock()
		if acks >= n {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("only %d of %d events are acknowledged: %w", acks, n, ctx.Err())
		}
	}
}

// see notes what a reader has been shown.
func (h *history) see(e entry) {
	if !strings.HasPrefix(e.stream, suiteStreams) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if before, known := h.seen[e.position]; known && before != e {
		h.wrong = append(h.wrong, fmt.Sprintf("one reader saw %v, another %v", before, e))
	}
	h.seen[e.position] = e
}

// now is a copy, to be held against a log that is read later.
func (h *history) now() *history {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := newHistory()
	for writer, all := range h.acked {
		c.acked[writer] = slices.Clone(all)
	}
	c.seen, c.wrong, c.acks = maps.Clone(h.seen), slices.Clone(h.wrong), h.acks
	return c
}

// check holds what is known against a whole log, and says what is wrong. All that was acknowledged is there, once, where and
// in the order in which it was acknowledged; all that was seen is there, where it was seen; streams have no gaps; and nothing
// is there that nobody has tried to append.
func (h *history) check(log []entry, tried func(id string) bool) (wrong []string) {
	found := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	byID, byPosition := map[string]entry{}, map[uint64]entry{}
	next, last := map[string]int64{}, uint64(0)
	for _, e := range log {
		if e.position <= last {
			found("%v lies behind position %d", e, last)
		}
		if e.revision != next[e.stream] {
			found("%v has the place of revision %d", e, next[e.stream])
		}
		if before, twice := byID[e.id]; twice {
			found("%v is there twice: %v", e, before)
		}
		if !tried(e.id) {
			found("%v was appended by nobody", e)
		}
		last, next[e.stream], byID[e.id], byPosition[e.position] = e.position, e.revision+1, e, e
	}
	for _, all := range h.acked {
		last := entry{}
		for _, e := range all {
			if stored, there := byID[e.id]; !there {
				found("%v was acknowledged and is lost", e)
			} else if stored != e {
				found("%v was acknowledged and is %v", e, stored)
			}
			if e.position <= last.position && e != last { // the same again is a repetition
				found("%v was acknowledged after %v", e, last)
			}
			last = e
		}
	}
	for _, e := range h.seen {
		if stored, there := byPosition[e.position]; !there {
			found("%v was seen and is taken back", e)
		} else if stored != e {
			found("%v was seen, where now there is %v", e, stored)
		}
	}
	return append(wrong, h.wrong...)
}

func (h *history) hasTried(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.tried[id]
	return ok
}

// Each way in which a log could betray its clients fails the check of bar 1.
func TestTheCheckOfTheKillSuiteFindsEveryKindOfLoss(t *testing.T) {
	a, b, c := entry{64, "w-1", 0, "a"}, entry{128, "w-2", 0, "b"}, entry{192, "w-1", 1, "c"}
	moved := func(e entry, position uint64, revision int64) entry {
		e.position, e.revision = position, revision
		return e
	}
	for name, row := range map[string]struct {
		log  []entry
		want string // "" if all is well
	}{
		"nothing is wrong":                     {[]entry{a, b, c}, ""},
		"what was not acknowledged may be too": {[]entry{a, b, c, {256, "w-2", 1, "d"}}, ""},
		"an acknowledged event is lost":        {[]entry{a, b}, "c at w-1@1, position 192 was acknowledged and is lost"},
		"a seen event is lost":                 {[]entry{a, moved(c, 192, 1)}, "b at w-2@0, position 128 was seen and is taken back"},
		"an event is there twice":              {[]entry{a, b, c, {256, "w-1", 2, "c"}}, "is there twice"},
		"another position":                     {[]entry{a, b, moved(c, 256, 1)}, "was acknowledged and is c at w-1@1, position 256"},
		"another event at a seen position":     {[]entry{a, {128, "w-2", 0, "d"}, c}, "was seen, where now there is d"},
		"a gap":                                {[]entry{a, b, moved(c, 192, 2)}, "has the place of revision 1"},
		"in another order":                     {[]entry{b, a, c}, "lies behind position 128"},
		"an event of nobody":                   {[]entry{a, b, c, {256, "w-3", 0, "x"}}, "was appended by nobody"},
	} {
		h := newHistory()
		h.ack(1, a)
		h.ack(1, c)
		h.see(b)
		wrong := strings.Join(h.now().check(row.log, func(id string) bool { return id < "x" }), "\n")
		if (row.want == "") != (wrong == "") || !strings.Contains(wrong, row.want) {
			t.Errorf("%s: the check says %q", name, wrong)
		}
	}
	h := newHistory()
	h.ack(1, c)
	h.ack(1, a)
	h.see(b)
	h.see(entry{128, "w-9", 0, "b"})
	wrong := strings.Join(h.now().check([]entry{a, b, c}, func(string) bool { return true }), "\n")
	for _, want := range []string{"acknowledged after", "one reader saw"} {
		if !strings.Contains(wrong, want) {
			t.Errorf("the check does not say %q but %q", want, wrong)
		}
	}
}

// ---- over the official client's generated stubs

// entryOf is a message's event; ok is false if it has none.
func entryOf(m *streams.ReadResp) (e entry, ok bool) {
	r := m.GetEvent().GetEvent()
	if r == nil {
		return entry{}, false
	}
	return entry{r.CommitPosition, string(r.StreamIdentifier.StreamName), int64(r.StreamRevision), r.Id.GetString_()}, true
}

func readRequest() *streams.ReadReq_Options {
	return &streams.ReadReq_Options{
		StreamOption: &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}}}},
		CountOption:  &streams.ReadReq_Options_Count{Count: 1 << 40},
		FilterOption: &streams.ReadReq_Options_NoFilter{NoFilter: &shared.Empty{}},
		UuidOption:   &streams.ReadReq_Options_UUIDOption{Content: &streams.ReadReq_Options_UUIDOption_String_{String_: &shared.Empty{}}},
	}
}

// fromPosition makes a read of the whole log begin at a position; 0 is the start.
func fromPosition(o *streams.ReadReq_Options, position uint64) *streams.ReadReq_Options {
	if position > 0 {
		o.GetAll().AllOption = &streams.ReadReq_Options_AllOptions_Position{Position: &streams.ReadReq_Options_Position{CommitPosition: position, PreparePosition: position}}
	}
	return o
}

// readEntries reads to the read's end, or until each says that it is enough.
func readEntries(ctx context.Context, client streams.StreamsClient, o *streams.ReadReq_Options, each func(entry) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reading, err := client.Read(ctx, &streams.ReadReq{Options: o})
	if err != nil {
		return err
	}
	for {
		m, err := reading.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if e, ok := entryOf(m); ok && !each(e) {
			return nil
		}
	}
}

// wholeLog reads the suite's streams from the whole log.
func wholeLog(ctx context.Context, client streams.StreamsClient) (all []entry, err error) {
	err = readEntries(ctx, client, readRequest(), func(e entry) bool {
		if strings.HasPrefix(e.stream, suiteStreams) {
			all = append(all, e)
		}
		return true
	})
	return all, err
}

// errExpectation says that a stream is not at the expected revision.
var errExpectation = errors.New("wrong expected version")

const anyRevision = -2 // where a revision is expected; -1 is no stream

// appendOne appends an event with data; an error other than errExpectation leaves the outcome open.
func appendOne(ctx context.Context, client streams.StreamsClient, stream string, expected int64, id uuid.UUID, data string) (entry, error) {
	return appendOf(ctx, client, stream, expected, id, "x.done", data)
}

// appendOf is appendOne for an event of any type.
func appendOf(ctx context.Context, client streams.StreamsClient, stream string, expected int64, id uuid.UUID, typ, data string) (entry, error) {
	o := &streams.AppendReq_Options{StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)}}
	switch expected {
	case anyRevision:
		o.ExpectedStreamRevision = &streams.AppendReq_Options_Any{Any: &shared.Empty{}}
	case -1:
		o.ExpectedStreamRevision = &streams.AppendReq_Options_NoStream{NoStream: &shared.Empty{}}
	default:
		o.ExpectedStreamRevision = &streams.AppendReq_Options_Revision{Revision: uint64(expected)}
	}
	call, err := client.Append(ctx)
	if err != nil {
		return entry{}, err
	}
	for _, m := range []*streams.AppendReq{{Content: &streams.AppendReq_Options_{Options: o}},
		{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: &streams.AppendReq_ProposedMessage{Id: &shared.UUID{Value: &shared.UUID_String_{String_: id.String()}},
			Metadata: map[string]string{"type": typ, "content-type": "application/json"}, Data: []byte(data)}}}} {
		if err := call.Send(m); err != nil && !errors.Is(err, io.EOF) { // then the answer says why
			return entry{}, err
		}
	}
	answer, err := call.CloseAndRecv()
	if err != nil {
		return entry{}, err
	}
	if answer.GetWrongExpectedVersion() != nil {
		return entry{}, errExpectation
	}
	s := answer.GetSuccess()
	return entry{s.GetPosition().GetCommitPosition(), stream, int64(s.GetCurrentRevision()), id.String()}, nil
}
