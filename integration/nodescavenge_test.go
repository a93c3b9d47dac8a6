package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	streams "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/tenure-dev/tenure/adapters/eventnode/operations"
	"github.com/tenure-dev/tenure/domain"
)

// The node is killed in the middle of scavenges, while writers append and readers read: what can be read is all there, old
// positions are still places to read from, and the next scavenge completes the work.
func TestTheNodeIsKilledWhileItScavenges(t *testing.T) {
	t.Parallel()
	scoreOf(t, scavengesKilled(t, seedOf(t), 1))
}

func TestSoakTheNodeIsKilledWhileItScavenges(t *testing.T) {
	if os.Getenv("TENURE_SOAK") == "" {
		t.Skip("TENURE_SOAK is not set: make soak")
	}
	scoreOf(t, scavengesKilled(t, seedOf(t), 100))
}

// The streams that are scavenged.
const (
	thinned = 12  // streams
	thick   = 200 // events that each gets before a scavenge
	kept    = 5   // $maxCount
)

// thinning is a node with streams of which little is to be kept.
type thinning struct {
	siege
	events    int      // of each stream so far
	positions []uint64 // of events that are to be removed
}

// scavengesKilled goes on until so many scavenges were cut short.
func scavengesKilled(t *testing.T, seed uint64, enough int) (all score) {
	random := rand.New(rand.NewPCG(seed, 5)) //nolint:gosec // to be repeated
	writing, done := context.WithCancel(t.Context())
	defer done()
	reading, over := context.WithCancel(t.Context())
	defer over()
	s := &thinning{siege: siege{t: t, node: newNodeProcess(t, seed), known: newHistory(), seed: seed, writing: writing}}
	s.node.start()
	s.log = s.node.open()
	_, s.client = dial(t, s.node.proxy.Addr())
	for n := range thinned {
		if _, err := appendOf(t.Context(), s.client, "$$"+thinStream(n), anyRevision, uuid.New(), "$metadata", fmt.Sprintf(`{"$maxCount":%d}`, kept)); err != nil {
			t.Fatal(err)
		}
	}
	s.thicken()
	var others sync.WaitGroup
	for n := range 3 {
		others.Go(func() { s.alone(n, fmt.Sprint(suiteStreams, "own-", n)) })
	}
	others.Go(func() { s.blind(3, rand.New(rand.NewPCG(seed, 6))) }) //nolint:gosec // to be repeated
	s.siege.read(reading, &others)

	for n := 0; s.cutShort() < enough; n++ {
		if n > 10*enough {
			t.Fatalf("TENURE_SEED=%d: of %d scavenges only %d were cut short", seed, n, s.cutShort())
		}
		s.thicken()
		id := s.scavenge()
		if err := s.known.acknowledged(t.Context(), s.known.now().acks+random.IntN(40)); err != nil {
			t.Fatal(err)
		}
		s.node.kill()
		known := s.known.now()
		s.node.start()
		all.trial(t, fmt.Sprintf("kill %d, in scavenge %s, with TENURE_SEED=%d", n+1, id, seed), append(s.examine(known), s.intact()...))
	}
	s.complete(s.scavenge())
	all.trial(t, fmt.Sprintf("the end with TENURE_SEED=%d", seed), append(s.intact(), s.thin()...))
	done()
	over()
	others.Wait()
	all.trial(t, fmt.Sprintf("afterwards with TENURE_SEED=%d", seed), s.examine(s.known.now()))
	t.Logf("%d scavenges were cut short, %d events acknowledged meanwhile", s.cutShort(), s.known.now().acks)
	must(t, s.log.Close(t.Context()))
	s.node.stop()
	binary, err := tenureBinary()
	must(t, err)
	if out := run(t, ".", nil, binary, "log", "check", "--data", s.node.dir); !strings.HasPrefix(string(out), "whole: ") {
		t.Errorf("the check says %s", out)
	}
	return all
}

func thinStream(n int) string { return fmt.Sprint("thin-", n) }

func thinEvent(stream string, revision int) string {
	return domain.DeriveUUID(stream, fmt.Sprint(revision)).String()
}

// thicken gives each stream more events than it may keep.
func (s *thinning) thicken() {
	for n := range thinned {
		stream := thinStream(n)
		events := make([]domain.Proposed, thick)
		for i := range events {
			id := thinEvent(stream, s.events+i)
			events[i] = domain.Proposed{ID: id, Type: "x.done", Data: fmt.Appendf(nil, `{"n":%d,"padding":%q}`, i, strings.Repeat("x", 200)), Meta: domain.Meta{Rev: 1, CommandID: id}.Encode()}
		}
		for done := false; !done; {
			at, err := s.log.Append(s.t.Context(), stream, int64(s.events)-1, events)
			if done = err == nil; !done && domain.CodeOf(err) != domain.CodeUnavailable {
				s.t.Fatal(err)
			}
			if done && n%4 == 0 {
				s.positions = append(s.positions, at.Commit) // among the last now, and too old after the next round
			}
		}
	}
	s.events += thick
}

// scavenge starts one, and gives its id.
func (s *thinning) scavenge() string {
	conn, _ := dial(s.t, s.node.addr)
	defer conn.Close()
	resp, err := operations.StartScavenge(s.t.Context(), grpc.ClientConnInterface(conn), &operations.StartScavengeReq{})
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.ScavengeId
}

// cutShort counts the scavenges that have begun and not ended.
func (s *thinning) cutShort() int {
	_, client := dial(s.t, s.node.addr)
	open := map[string]bool{}
	for _, typ := range []string{"$scavengeStarted", "$scavengeCompleted"} {
		must(s.t, readData(s.t.Context(), client, ofType(readRequest(), typ), func(data []byte) bool {
			var said struct{ ScavengeID string }
			must(s.t, json.Unmarshal(data, &said))
			open[said.ScavengeID] = typ == "$scavengeStarted"
			return true
		}))
	}
	n := 0
	for _, cut := range open {
		if cut {
			n++
		}
	}
	return n
}

// complete waits for a scavenge's end.
func (s *thinning) complete(id string) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	_, client := dial(s.t, s.node.addr)
	result := ""
	must(s.t, readData(ctx, client, subscribed(ofType(readRequest(), "$scavengeCompleted")), func(data []byte) bool {
		var said struct{ ScavengeID, Result string }
		must(s.t, json.Unmarshal(data, &said))
		result = said.Result
		return said.ScavengeID != id
	}))
	if result != "Success" {
		s.t.Errorf("TENURE_SEED=%d: the last scavenge ends with %s", s.seed, result)
	}
}

// intact says what is wrong with the streams as readers see them, and with old positions.
func (s *thinning) intact() (wrong []string) {
	_, client := dial(s.t, s.node.addr)
	for n := range thinned {
		stream := thinStream(n)
		o := readRequest()
		o.StreamOption = &streams.ReadReq_Options_Stream{Stream: &streams.ReadReq_Options_StreamOptions{
			StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)}, RevisionOption: &streams.ReadReq_Options_StreamOptions_Start{Start: &shared.Empty{}}}}
		next := s.events - kept
		err := readEntries(s.t.Context(), client, o, func(e entry) bool {
			if e.revision != int64(next) || e.id != thinEvent(stream, next) {
				wrong = append(wrong, fmt.Sprintf("%v is shown where revision %d belongs", e, next))
			}
			next++
			return true
		})
		if err != nil || next != s.events {
			wrong = append(wrong, fmt.Sprintf("%s ends before %d: %v", stream, next, err))
		}
	}
	for _, position := range s.positions {
		shown := false
		err := readEntries(s.t.Context(), client, fromPosition(readRequest(), position), func(e entry) bool {
			shown = e.position >= position
			return false
		})
		if err != nil || !shown {
			wrong = append(wrong, fmt.Sprintf("nobody can read from position %d any more: %v", position, err))
		}
	}
	return wrong
}

// thin says whether the log has no more of the streams than is to be kept.
func (s *thinning) thin() (wrong []string) {
	_, client := dial(s.t, s.node.addr)
	n := 0
	err := readEntries(s.t.Context(), client, readRequest(), func(e entry) bool {
		if strings.HasPrefix(e.stream, "thin-") {
			n++
		}
		return true
	})
	if err != nil || n != thinned*kept {
		wrong = append(wrong, fmt.Sprintf("the log has %d events, where %d are to be kept: %v", n, thinned*kept, err))
	}
	return wrong
}

// ofType lets a read of the whole log show the events of one type.
func ofType(o *streams.ReadReq_Options, typ string) *streams.ReadReq_Options {
	o.FilterOption = &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
		Filter: &streams.ReadReq_Options_FilterOptions_EventType{EventType: &streams.ReadReq_Options_FilterOptions_Expression{Prefix: []string{typ}}},
		Window: &streams.ReadReq_Options_FilterOptions_Max{Max: 32}, CheckpointIntervalMultiplier: 1 << 20}}
	return o
}

// readData is readEntries for the events' data.
func readData(ctx context.Context, client streams.StreamsClient, o *streams.ReadReq_Options, each func([]byte) bool) error {
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
		if r := m.GetEvent().GetEvent(); r != nil && !each(r.Data) {
			return nil
		}
	}
}
