package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	streams "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"

	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/domain"
)

// Bar 1 for the event node: it is killed again and again while 64 writers append and readers read. What a kill leaves in the
// system's memory reaches the disk all the same, so what a power cut would take is the business of the node's own crash tests.
func TestTheNodeIsKilledWhileWritersAppend(t *testing.T) {
	t.Parallel()
	scoreOf(t, nodeKilled(t, seedOf(t), 4, 200))
}

func TestSoakTheNodeIsKilledAThousandTimes(t *testing.T) {
	if os.Getenv("TENURE_SOAK") == "" {
		t.Skip("TENURE_SOAK is not set: make soak")
	}
	seed := seedOf(t)
	var all score
	for round := range uint64(20) {
		t.Run(fmt.Sprint("directory ", round+1), func(t *testing.T) { all.add(nodeKilled(t, seed+round, 50, 1500)) })
	}
	scoreOf(t, all)
}

// score is how many trials of a bar have passed and failed.
type score struct{ passed, failed int }

func (s *score) add(other score) { s.passed, s.failed = s.passed+other.passed, s.failed+other.failed }

// trial counts one, by what is wrong with it.
func (s *score) trial(t testing.TB, name string, wrong []string) {
	t.Helper()
	if len(wrong) == 0 {
		s.passed++
		return
	}
	s.failed++
	for i, text := range wrong {
		if i == 10 {
			t.Errorf("%s: and %d more", name, len(wrong)-i)
			break
		}
		t.Errorf("%s: %s", name, text)
	}
}

func scoreOf(t testing.TB, s score) {
	t.Helper()
	t.Logf("%d passed, %d failed", s.passed, s.failed)
	if s.failed > 0 || s.passed == 0 {
		t.Fail()
	}
}

// The writers: each of the first has a stream of its own; the next fight for some; the last append to some without looking.
const (
	ownWriters, fightingWriters, blindWriters = 32, 16, 16
	fights, blinds                            = 4, 4 // streams
)

// siege is a node with its writers and readers.
type siege struct {
	t       *testing.T
	node    *nodeProcess
	known   *history
	log     *eventstore.Log
	client  streams.StreamsClient
	seed    uint64
	writing context.Context // ends when writers may stop; each finishes what it has begun
}

// nodeKilled kills one node so often, each time after up to so many acknowledgements.
func nodeKilled(t *testing.T, seed uint64, kills, between int) (all score) {
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // to be repeated
	writing, enough := context.WithCancel(t.Context())
	defer enough()
	reading, over := context.WithCancel(t.Context())
	defer over()
	s := &siege{t: t, node: newNodeProcess(t, seed), known: newHistory(), seed: seed, writing: writing}
	s.node.start()
	s.log = s.node.open()
	_, s.client = dial(t, s.node.proxy.Addr())
	var writers, readers sync.WaitGroup
	s.write(&writers)
	s.read(reading, &readers)
	for n := range kills {
		if err := s.known.acknowledged(t.Context(), s.known.now().acks+1+random.IntN(between)); err != nil {
			t.Fatal(err)
		}
		s.node.kill()
		if n%4 == 3 { // it dies again while it recovers, most likely
			s.node.begin()
			after := time.NewTimer(time.Duration(random.IntN(60)) * time.Millisecond)
			<-after.C
			s.node.kill()
		}
		known := s.known.now()
		s.node.start()
		all.trial(t, fmt.Sprintf("kill %d of the node with TENURE_SEED=%d", n+1, seed), s.examine(known))
	}
	enough()
	writers.Wait()
	over()
	readers.Wait()
	known := s.known.now()
	if wrong := s.examine(known); len(wrong) > 0 {
		all.trial(t, fmt.Sprintf("the end with TENURE_SEED=%d", seed), wrong)
	}
	if err := s.log.Close(t.Context()); err != nil {
		t.Error(err)
	}
	s.node.stop()
	if known.acks < kills || len(known.seen) == 0 {
		t.Errorf("only %d events are acknowledged, %d seen", known.acks, len(known.seen))
	}
	t.Logf("%d kills, %d events acknowledged, %d seen by readers", kills, known.acks, len(known.seen))
	return all
}

// examine reads the whole log from the process itself and holds it against what was known before it began.
func (s *siege) examine(known *history) []string {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	conn, client := dial(s.t, s.node.addr)
	defer conn.Close()
	log, err := wholeLog(ctx, client)
	if err != nil {
		return []string{"the log cannot be read: " + err.Error()}
	}
	return known.check(log, s.known.hasTried)
}

func (s *siege) write(writers *sync.WaitGroup) {
	for n := range ownWriters + fightingWriters + blindWriters {
		random := rand.New(rand.NewPCG(s.seed, uint64(n)+2)) //nolint:gosec // to be repeated
		writers.Go(func() {
			switch {
			case n < ownWriters:
				s.alone(n, fmt.Sprint(suiteStreams, "own-", n))
			case n < ownWriters+fightingWriters:
				s.fighting(n, random)
			default:
				s.blind(n, random)
			}
		})
	}
}

func eventOf(writer, i int) (id, data string) {
	return domain.DeriveUUID("siege", fmt.Sprint(writer), fmt.Sprint(i)).String(), fmt.Sprintf(`{"writer":%d,"n":%d}`, writer, i)
}

// append appends over the adapter until the outcome is known.
func (s *siege) append(writer int, stream string, expected int64, id, data string) (e entry, conflict *domain.Error) {
	event := domain.Proposed{ID: id, Type: "x.done", Data: []byte(data), Meta: domain.Meta{Rev: 1, CommandID: id}.Encode()}
	for s.t.Context().Err() == nil {
		done, err := s.log.Append(s.t.Context(), stream, expected, []domain.Proposed{event})
		if err == nil {
			e = entry{done.Commit, stream, done.Revision, id}
			s.known.ack(writer, e)
			return e, nil
		}
		if domain.CodeOf(err) == domain.CodeConflict && errors.As(err, &conflict) {
			return entry{}, conflict
		}
		if domain.CodeOf(err) != domain.CodeUnavailable {
			s.t.Errorf("%s: %v", stream, err)
			break
		}
	}
	return entry{}, domain.Conflict(expected, expected)
}

// alone appends to a stream that nobody else writes to, so every expectation holds.
func (s *siege) alone(n int, stream string) {
	for i := 0; s.writing.Err() == nil; i++ {
		id, data := eventOf(n, i)
		s.known.try(id)
		e, conflict := s.append(n, stream, int64(i)-1, id, data)
		if conflict != nil || e.revision != int64(i) {
			s.t.Errorf("TENURE_SEED=%d: %s@%d is answered with %v, %v", s.seed, stream, i, e, conflict)
			return
		}
	}
}

// fighting appends to streams that others append to as well, and tries again behind whoever was quicker.
func (s *siege) fighting(n int, random *rand.Rand) {
	last := map[string]int64{}
	for i := 0; s.writing.Err() == nil; i++ {
		stream := fmt.Sprint(suiteStreams, "fight-", random.IntN(fights))
		id, data := eventOf(n, i)
		s.known.try(id)
		for s.writing.Err() == nil {
			expected, known := last[stream]
			if !known {
				expected = domain.NoStream
			}
			e, conflict := s.append(n, stream, expected, id, data)
			if conflict == nil {
				last[stream] = e.revision
				break
			}
			if conflict.Actual == expected {
				s.t.Errorf("TENURE_SEED=%d: %s at %d: %v", s.seed, stream, expected, conflict)
				return
			}
			last[stream] = conflict.Actual
		}
	}
}

// blind appends wherever a stream ends, over the official client's stubs.
func (s *siege) blind(n int, random *rand.Rand) {
	for i := 0; s.writing.Err() == nil; i++ {
		stream := fmt.Sprint(suiteStreams, "blind-", random.IntN(blinds))
		id, data := eventOf(n, i)
		s.known.try(id)
		for s.t.Context().Err() == nil {
			e, err := appendOne(s.t.Context(), s.client, stream, anyRevision, uuid.MustParse(id), data)
			if err == nil {
				s.known.ack(n, e)
				break
			}
			if errors.Is(err, errExpectation) {
				s.t.Errorf("TENURE_SEED=%d: %s takes no event whatever its revision", s.seed, stream)
				return
			}
		}
	}
}

// read has readers of all kinds note what they see: subscribers, over the adapter and over the stubs, and one that reads
// streams backwards.
func (s *siege) read(ctx context.Context, readers *sync.WaitGroup) {
	readers.Go(func() {
		for d, err := range s.log.Follow(ctx, 0) {
			if err != nil && ctx.Err() == nil {
				s.t.Errorf("TENURE_SEED=%d: a follower: %v", s.seed, err)
			}
			if err == nil && d.Kind == domain.DeliveredEvent {
				s.known.see(entry{d.Event.Commit, d.Event.Stream, d.Event.Revision, d.Event.EventID})
			}
		}
	})
	readers.Go(func() {
		for last := uint64(0); ctx.Err() == nil; {
			o := fromPosition(readRequest(), last)
			o.CountOption = &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}}
			_ = readEntries(ctx, s.client, o, func(e entry) bool { // ends with every kill
				if e.position <= last {
					s.t.Errorf("TENURE_SEED=%d: a subscriber is shown %v after position %d", s.seed, e, last)
				}
				last = e.position
				s.known.see(e)
				return true
			})
		}
	})
	readers.Go(func() {
		random := rand.New(rand.NewPCG(s.seed, 0)) //nolint:gosec // to be repeated
		for ctx.Err() == nil {
			stream := fmt.Sprint(suiteStreams, "blind-", random.IntN(blinds))
			for e, err := range s.log.ReadBackwards(ctx, stream, eventstore.End, 20) {
				if err != nil {
					break
				}
				s.known.see(entry{e.Commit, e.Stream, e.Revision, e.EventID})
			}
		}
	})
}
