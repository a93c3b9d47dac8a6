package eventnode

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) {
	// regexp2 keeps a clock running for a while after an expression with a time limit was used.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/dlclark/regexp2.runClock"))
}

// patience bounds every wait, so that a hanging node is a failed test.
const patience = 2 * time.Minute

// clock is the node's clock, moved by the test.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// officialClient is the client that the world uses, closed when the test ends.
func officialClient(t testing.TB, address string) *esdb.Client {
	t.Helper()
	settings, err := esdb.ParseConnectionString(address)
	if err != nil {
		t.Fatal(err)
	}
	settings.Logger = esdb.NoopLogging()
	client, err := esdb.NewClient(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// rig is a node on a file system in memory, and a client of it.
type rig struct {
	t      testing.TB
	ctx    context.Context
	node   *Node
	fs     vfs.FS
	clock  *clock
	conn   *grpc.ClientConn
	api    api.StreamsClient
	ring   int
	batch  bool // append by BatchAppend
	linger time.Duration
	subs   map[string]*listening
	served chan error
}

type listening struct {
	stream api.Streams_ReadClient
	cancel context.CancelFunc
}

func newRig(t testing.TB) *rig {
	return startRig(t, &rig{t: t, fs: vfs.NewMem(), clock: newClock()})
}

func startRig(t testing.TB, r *rig) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r.t, r.ctx, r.subs = t, ctx, map[string]*listening{}
	if r.clock == nil {
		r.clock = newClock()
	}
	r.up()
	t.Cleanup(func() {
		r.down()
		cancel()
	})
	return r
}

func (r *rig) up() {
	r.t.Helper()
	node, err := Open(Options{Dir: "log", Addr: "127.0.0.1:0", Now: r.clock.now, fs: r.fs, ringEvents: r.ring, ticks: make(chan time.Time),
		batchTimeout: time.Hour, batchLinger: r.linger})
	if err != nil {
		r.t.Fatal(err)
	}
	r.node, r.served = node, make(chan error, 1)
	go func() { r.served <- node.Serve() }()
	if r.conn, err = grpc.NewClient(node.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		r.t.Fatal(err)
	}
	r.api = api.NewStreamsClient(r.conn)
}

func (r *rig) down() {
	r.t.Helper()
	for _, s := range r.subs {
		s.cancel()
	}
	r.conn.Close()
	if err := r.node.Close(r.ctx); err != nil {
		r.t.Error(err)
	}
	<-r.served
}

// restart closes the node and opens the same files again.
func (r *rig) restart() {
	r.t.Helper()
	r.down()
	r.up()
}

// A step is one action on the node; it returns what came of it, in short words.
type step func(*rig) string

// then is a step and what must come of it. Steps without it only prepare.
type then struct {
	do   step
	want string
}

func given(s step) then { return then{do: s, want: "*"} }

// play runs the steps of a row on a node of its own.
func play(t *testing.T, steps ...then) {
	t.Helper()
	playOn(t, newRig(t), steps)
}

func playOn(t *testing.T, r *rig, steps []then) {
	t.Helper()
	for i, s := range steps {
		if got := s.do(r); s.want != "*" && got != s.want {
			t.Errorf("step %d:\n got  %s\n want %s", i+1, got, s.want)
		}
	}
}

type row struct {
	name  string
	steps []then
}

func playAll(t *testing.T, rows []row) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			play(t, row.steps...)
		})
	}
}

func eventID(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, []byte(name)) }

func wireID(id uuid.UUID) *shared.UUID {
	return &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
		MostSignificantBits: int64(binary.BigEndian.Uint64(id[:8])), LeastSignificantBits: int64(binary.BigEndian.Uint64(id[8:]))}}}
}

// proposed is an event of that name: its id follows from the name and its data is the name.
func proposed(name string) *api.AppendReq_ProposedMessage {
	return &api.AppendReq_ProposedMessage{Id: wireID(eventID(name)), Metadata: map[string]string{"type": "T", "content-type": "application/json"}, Data: []byte(name)}
}

func identifier(stream string) *shared.StreamIdentifier {
	return &shared.StreamIdentifier{StreamName: []byte(stream)}
}

const unset = -99

func appendOptions(stream string, expected int64) *api.AppendReq {
	o := &api.AppendReq_Options{StreamIdentifier: identifier(stream)}
	switch expected {
	case expectAny:
		o.ExpectedStreamRevision = &api.AppendReq_Options_Any{Any: empty}
	case expectNoStream:
		o.ExpectedStreamRevision = &api.AppendReq_Options_NoStream{NoStream: empty}
	case expectStreamExists:
		o.ExpectedStreamRevision = &api.AppendReq_Options_StreamExists{StreamExists: empty}
	case unset:
	default:
		o.ExpectedStreamRevision = &api.AppendReq_Options_Revision{Revision: uint64(expected)}
	}
	return &api.AppendReq{Content: &api.AppendReq_Options_{Options: o}}
}

func (r *rig) call(messages ...*api.AppendReq) (*api.AppendResp, error) {
	var trailer metadata.MD
	st, err := r.api.Append(r.ctx, grpc.Trailer(&trailer))
	if err != nil {
		return nil, &refused{err, nil}
	}
	for _, m := range messages {
		if err := st.Send(m); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	resp, err := st.CloseAndRecv()
	if err != nil {
		err = &refused{err, trailer}
	}
	return resp, err
}

type refused struct {
	error
	trailer metadata.MD
}

func (r *refused) GRPCStatus() *status.Status { return status.Convert(r.error) }

func refusal(err error, trailer metadata.MD) string {
	text := status.Code(err).String()
	if e := trailer.Get("exception"); len(e) > 0 {
		text += " " + e[0]
	}
	return text
}

func appending(stream string, expected int64, names ...string) step {
	events := make([]*api.AppendReq_ProposedMessage, len(names))
	for i, name := range names {
		events[i] = proposed(name)
	}
	return appendingEvents(stream, expected, events...)
}

func appendingEvents(stream string, expected int64, events ...*api.AppendReq_ProposedMessage) step {
	return func(r *rig) string {
		if r.batch {
			return r.appendBatch(stream, expected, events)
		}
		messages := []*api.AppendReq{appendOptions(stream, expected)}
		for _, e := range events {
			messages = append(messages, &api.AppendReq{Content: &api.AppendReq_ProposedMessage_{ProposedMessage: e}})
		}
		return appended(r.call(messages...))
	}
}

func appended(resp *api.AppendResp, err error) string {
	if err != nil {
		var r *refused
		if errors.As(err, &r) {
			return refusal(err, r.trailer)
		}
		return err.Error()
	}
	if w := resp.GetWrongExpectedVersion(); w != nil {
		if _, none := w.CurrentRevisionOption.(*api.AppendResp_WrongExpectedVersion_CurrentNoStream); none {
			return "wrong, at none"
		}
		return fmt.Sprintf("wrong, at %d", w.GetCurrentRevision())
	}
	s := resp.GetSuccess()
	text := fmt.Sprintf("at %d", s.GetCurrentRevision())
	if _, none := s.CurrentRevisionOption.(*api.AppendResp_Success_NoStream); none {
		text = "at none"
	}
	if s.GetPosition() == nil {
		text += ", hidden"
	}
	return text
}

// setting writes a stream's metadata.
func setting(stream, json string) step {
	e := proposed("metadata of " + stream + ": " + json)
	e.Metadata["type"], e.Data = metadataType, []byte(json)
	return appendingEvents(metastreamOf(stream), expectAny, e)
}

func deleting(stream string, expected int64) step {
	return func(r *rig) string {
		o := &api.DeleteReq_Options{StreamIdentifier: identifier(stream)}
		switch expected {
		case expectAny:
			o.ExpectedStreamRevision = &api.DeleteReq_Options_Any{Any: empty}
		case expectNoStream:
			o.ExpectedStreamRevision = &api.DeleteReq_Options_NoStream{NoStream: empty}
		case expectStreamExists:
			o.ExpectedStreamRevision = &api.DeleteReq_Options_StreamExists{StreamExists: empty}
		case unset:
		default:
			o.ExpectedStreamRevision = &api.DeleteReq_Options_Revision{Revision: uint64(expected)}
		}
		var trailer metadata.MD
		resp, err := r.api.Delete(r.ctx, &api.DeleteReq{Options: o}, grpc.Trailer(&trailer))
		return removed(resp.GetPosition().GetCommitPosition(), err, trailer)
	}
}

func tombstoning(stream string, expected int64) step {
	return func(r *rig) string {
		o := &api.TombstoneReq_Options{StreamIdentifier: identifier(stream)}
		switch expected {
		case expectAny:
			o.ExpectedStreamRevision = &api.TombstoneReq_Options_Any{Any: empty}
		case expectNoStream:
			o.ExpectedStreamRevision = &api.TombstoneReq_Options_NoStream{NoStream: empty}
		case expectStreamExists:
			o.ExpectedStreamRevision = &api.TombstoneReq_Options_StreamExists{StreamExists: empty}
		case unset:
		default:
			o.ExpectedStreamRevision = &api.TombstoneReq_Options_Revision{Revision: uint64(expected)}
		}
		var trailer metadata.MD
		resp, err := r.api.Tombstone(r.ctx, &api.TombstoneReq{Options: o}, grpc.Trailer(&trailer))
		return removed(resp.GetPosition().GetCommitPosition(), err, trailer)
	}
}

func removed(position uint64, err error, trailer metadata.MD) string {
	switch {
	case err == nil && position > 0:
		return "deleted"
	case err == nil:
		return "no position"
	}
	text := refusal(err, trailer)
	if e := trailer.Get("expected-version"); len(e) > 0 {
		text += " " + e[0] + "/" + trailer.Get("actual-version")[0]
	}
	return text
}

func passing(d time.Duration) step {
	return func(r *rig) string { r.clock.advance(d); return "" }
}

func restarting(r *rig) string { r.restart(); return "" }

// request is what a read asks for; options change it from a forward read of a stream from its start.
type option func(*api.ReadReq_Options)

func ofStream(stream string) option {
	return func(o *api.ReadReq_Options) {
		o.StreamOption = &api.ReadReq_Options_Stream{Stream: &api.ReadReq_Options_StreamOptions{StreamIdentifier: identifier(stream),
			RevisionOption: &api.ReadReq_Options_StreamOptions_Start{Start: empty}}}
	}
}

func ofAll(o *api.ReadReq_Options) {
	o.StreamOption = &api.ReadReq_Options_All{All: &api.ReadReq_Options_AllOptions{AllOption: &api.ReadReq_Options_AllOptions_Start{Start: empty}}}
}

func from(revision uint64) option {
	return func(o *api.ReadReq_Options) {
		o.GetStream().RevisionOption = &api.ReadReq_Options_StreamOptions_Revision{Revision: revision}
	}
}

func fromPosition(commit, prepare uint64) option {
	return func(o *api.ReadReq_Options) {
		o.GetAll().AllOption = &api.ReadReq_Options_AllOptions_Position{Position: &api.ReadReq_Options_Position{CommitPosition: commit, PreparePosition: prepare}}
	}
}

func fromEnd(o *api.ReadReq_Options) {
	if s := o.GetStream(); s != nil {
		s.RevisionOption = &api.ReadReq_Options_StreamOptions_End{End: empty}
	} else {
		o.GetAll().AllOption = &api.ReadReq_Options_AllOptions_End{End: empty}
	}
}

func fromNowhere(o *api.ReadReq_Options) {
	if s := o.GetStream(); s != nil {
		s.RevisionOption = nil
	} else {
		o.GetAll().AllOption = nil
	}
}

func backwards(o *api.ReadReq_Options) {
	o.ReadDirection = api.ReadReq_Options_Backwards
	fromEnd(o)
}

func count(n uint64) option {
	return func(o *api.ReadReq_Options) { o.CountOption = &api.ReadReq_Options_Count{Count: n} }
}

func resolving(o *api.ReadReq_Options) { o.ResolveLinks = true }

func withPositions(o *api.ReadReq_Options) {
	o.ControlOption = &api.ReadReq_Options_ControlOption{Compatibility: 1}
}

// filtered adds a filter: by is "stream" or "type"; a regex begins with a slash.
func filtered(by string, window, multiplier uint32, expressions ...string) option {
	return func(o *api.ReadReq_Options) {
		x := &api.ReadReq_Options_FilterOptions_Expression{}
		for _, e := range expressions {
			if re, ok := strings.CutPrefix(e, "/"); ok {
				x.Regex = re
			} else {
				x.Prefix = append(x.Prefix, e)
			}
		}
		f := &api.ReadReq_Options_FilterOptions{CheckpointIntervalMultiplier: multiplier, Window: &api.ReadReq_Options_FilterOptions_Max{Max: window}}
		f.Filter = &api.ReadReq_Options_FilterOptions_StreamIdentifier{StreamIdentifier: x}
		if by == "type" {
			f.Filter = &api.ReadReq_Options_FilterOptions_EventType{EventType: x}
		}
		o.FilterOption = &api.ReadReq_Options_Filter{Filter: f}
	}
}

func readOptions(options ...option) *api.ReadReq {
	o := &api.ReadReq_Options{
		CountOption:  &api.ReadReq_Options_Count{Count: 1000},
		FilterOption: &api.ReadReq_Options_NoFilter{NoFilter: empty},
		UuidOption:   &api.ReadReq_Options_UUIDOption{Content: &api.ReadReq_Options_UUIDOption_Structured{Structured: empty}},
	}
	for _, set := range options {
		set(o)
	}
	return &api.ReadReq{Options: o}
}

func reading(options ...option) step {
	return func(r *rig) string {
		messages, err, trailer := r.read(options...)
		words := described(messages)
		if err != nil {
			words = append(words, refusal(err, trailer))
		}
		if len(words) == 0 {
			return "nothing"
		}
		return strings.Join(words, " ")
	}
}

func (r *rig) read(options ...option) ([]*api.ReadResp, error, metadata.MD) {
	var trailer metadata.MD
	st, err := r.api.Read(r.ctx, readOptions(options...), grpc.Trailer(&trailer))
	if err != nil {
		return nil, err, nil
	}
	var messages []*api.ReadResp
	for {
		m, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return messages, nil, nil
		} else if err != nil {
			return messages, err, trailer
		}
		messages = append(messages, m)
	}
}

func described(messages []*api.ReadResp) []string {
	var words []string
	for _, m := range messages {
		words = append(words, describe(m))
	}
	return words
}

// describe names a message: an event by its data, or its type if the server made it; a link with its target.
func describe(m *api.ReadResp) string {
	switch c := m.Content.(type) {
	case *api.ReadResp_Event:
		if c.Event.Link == nil {
			return eventName(c.Event.Event)
		}
		if c.Event.Event == nil {
			return eventName(c.Event.Link) + "->?"
		}
		return eventName(c.Event.Link) + "->" + eventName(c.Event.Event)
	case *api.ReadResp_Confirmation:
		return "confirmed"
	case *api.ReadResp_Checkpoint_:
		return "checkpoint"
	case *api.ReadResp_StreamNotFound_:
		return "not-found"
	case *api.ReadResp_FirstStreamPosition:
		return fmt.Sprintf("first=%d", c.FirstStreamPosition)
	case *api.ReadResp_LastStreamPosition:
		return fmt.Sprintf("last=%d", c.LastStreamPosition)
	case *api.ReadResp_CaughtUp_:
		return "caught-up"
	}
	return fmt.Sprintf("%T", m.Content)
}

func eventName(e *api.ReadResp_ReadEvent_RecordedEvent) string {
	switch typ := e.Metadata["type"]; typ {
	case metadataType, deletedType:
		return "[" + typ + " " + string(e.Data) + "]"
	}
	return string(e.Data)
}

// subscribing opens a subscription and returns its first message, or how it was refused.
func subscribing(name string, options ...option) step {
	return func(r *rig) string {
		ctx, cancel := context.WithCancel(r.ctx)
		st, err := r.api.Read(ctx, readOptions(append(slices.Clone(options), func(o *api.ReadReq_Options) {
			o.CountOption = &api.ReadReq_Options_Subscription{Subscription: &api.ReadReq_Options_SubscriptionOptions{}}
		})...))
		if err != nil {
			cancel()
			return err.Error()
		}
		r.subs[name] = &listening{st, cancel}
		return hearing(name, 1)(r)
	}
}

// hearing waits for n messages of a subscription, or its end.
func hearing(name string, n int) step {
	return func(r *rig) string {
		var words []string
		for range n {
			m, err := r.subs[name].stream.Recv()
			if err != nil {
				words = append(words, refusal(err, r.subs[name].stream.Trailer()))
				break
			}
			words = append(words, describe(m))
		}
		return strings.Join(words, " ")
	}
}
