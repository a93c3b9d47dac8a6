package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	streams "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"

	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/adapters/eventstore/proxytest"
	"github.com/tenure-dev/tenure/domain"
)

// Bar 5: the answer to an append gets lost after the commit, as the client's time is up or the connection breaks, and the client
// asks again under the same event id: it is told the same position, and there is no second event.
func TestARepeatedAppendIsOneEvent(t *testing.T) {
	scoreOf(t, repeated(t, seedOf(t), 200, sameExpectation))
}

func TestSoakARepeatedAppendIsOneEvent(t *testing.T) {
	if os.Getenv("TENURE_SOAK") == "" {
		t.Skip("TENURE_SOAK is not set: make soak")
	}
	scoreOf(t, repeated(t, seedOf(t), 10_000, sameExpectation))
}

// A client that asks again behind the stream's new end, instead of where it did before, gets a second event: the bar shows it.
func TestTheBarOfRepetitionsCatchesASecondEvent(t *testing.T) {
	const trials = 3 * repeaters
	caught := &caught{TB: t}
	if all := repeated(caught, seedOf(t), trials, func(_, committed int64) int64 { return committed }); all.failed != trials {
		t.Errorf("of %d second events the bar has caught %d", trials, all.failed)
	}
}

// caught is a test that a planted bug may fail.
type caught struct{ testing.TB }

func (c *caught) Errorf(format string, args ...any) {}

// sameExpectation is how a client ought to ask again: with the revision that it expected the first time.
func sameExpectation(expected, _ int64) int64 { return expected }

const repeaters = 8

// repeater is one client, behind a proxy of its own, with a stream of its own.
type repeater struct {
	t        testing.TB
	n        int
	proxy    *proxytest.Proxy
	log      *eventstore.Log       // of even ones, which expect a revision
	client   streams.StreamsClient // of odd ones, which append to any
	stream   string
	random   *rand.Rand
	commits  *commits
	revision int64 // of the last event
}

// commits are what a subscriber has seen, by id.
type commits struct {
	mu      sync.Mutex
	waiting map[string]chan entry
}

func (c *commits) of(id string) <-chan entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting[id] = make(chan entry, 8)
	return c.waiting[id]
}

func (c *commits) happen(e entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if waiting := c.waiting[e.id]; waiting != nil {
		select {
		case waiting <- e:
		default:
		}
	}
}

// repeated makes so many appends, shared out among the clients, whose first answer is lost; again gives the expected revision of what comes after.
func repeated(t testing.TB, seed uint64, trials int, again func(expected, committed int64) int64) (all score) {
	node := startStore(t)
	_, direct := dial(t, node.addr)
	seen := &commits{waiting: map[string]chan entry{}}
	watching, over := context.WithCancel(t.Context())
	var watcher, clients sync.WaitGroup
	watcher.Go(func() {
		o := readRequest()
		o.CountOption = &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}}
		if err := readEntries(watching, direct, o, func(e entry) bool { seen.happen(e); return true }); watching.Err() == nil {
			t.Errorf("the subscription to the commits has ended: %v", err)
		}
	})
	results := make([][]repetition, repeaters)
	for n := range repeaters {
		r := newRepeater(t, node, seed, n, seen)
		clients.Go(func() {
			for i := range trials / repeaters {
				results[n] = append(results[n], r.trial(i, again))
			}
			if r.log != nil {
				_ = r.log.Close(t.Context())
			}
		})
	}
	clients.Wait()
	over()
	watcher.Wait()
	log, err := wholeLog(t.Context(), direct)
	if err != nil {
		t.Fatal(err)
	}
	places := map[string][]entry{}
	for _, e := range log {
		places[e.id] = append(places[e.id], e)
	}
	for _, list := range results {
		for _, r := range list {
			all.trial(t, fmt.Sprintf("TENURE_SEED=%d", seed), r.check(places[r.id]))
		}
	}
	return all
}

// repetition is what became of one append that was repeated.
type repetition struct {
	id        string
	committed entry   // as the subscriber saw it
	answers   []entry // to the repetitions
	err       error
}

func (r repetition) check(stored []entry) (wrong []string) {
	if r.err != nil {
		return []string{r.err.Error()}
	}
	if len(stored) != 1 || stored[0] != r.committed {
		wrong = append(wrong, fmt.Sprintf("%v was committed once, and the log has %v", r.committed, stored))
	}
	for _, answer := range r.answers {
		if answer != r.committed {
			wrong = append(wrong, fmt.Sprintf("%v is repeated and answered with %v", r.committed, answer))
		}
	}
	return wrong
}

func newRepeater(t testing.TB, node *storeNode, seed uint64, n int, seen *commits) *repeater {
	r := &repeater{t: t, n: n, proxy: proxytest.New(t, seed, node.addr), stream: fmt.Sprint(suiteStreams, n), commits: seen,
		random: rand.New(rand.NewPCG(seed, uint64(n)))} //nolint:gosec // to be repeated
	if n%2 == 0 {
		var err error
		if r.log, err = eventstore.Open(t.Context(), eventstore.Config{URL: "esdb://" + r.proxy.Addr() + "?tls=false"}); err != nil {
			t.Fatal(err)
		}
	} else {
		_, r.client = dial(t, r.proxy.Addr())
	}
	first, err := r.append(t.Context(), -1, domain.DeriveUUID(r.stream, "first").String()) // so that there is a connection
	if err != nil {
		t.Fatal(err)
	}
	r.revision = first.revision
	return r
}

func (r *repeater) append(ctx context.Context, expected int64, id string) (entry, error) {
	if r.log == nil {
		if expected == r.revision { // as all who expect nothing
			expected = anyRevision
		}
		return appendOne(ctx, r.client, r.stream, expected, uuid.MustParse(id), "{}")
	}
	done, err := r.log.Append(ctx, r.stream, expected, []domain.Proposed{{ID: id, Type: "x.done", Data: []byte("{}"), Meta: domain.Meta{Rev: 1, CommandID: id}.Encode()}})
	return entry{done.Commit, r.stream, done.Revision, id}, err
}

// trial appends one event, whose answer is lost, and repeats it three times.
func (r *repeater) trial(i int, again func(expected, committed int64) int64) (result repetition) {
	result.id = domain.DeriveUUID(r.stream, fmt.Sprint(i)).String()
	committed := r.commits.of(result.id)
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	asking, giveUp := context.WithCancel(ctx)
	defer giveUp()
	r.proxy.Muted.Store(true)
	answered := make(chan error, 1)
	go func() {
		_, err := r.append(asking, r.revision, result.id)
		answered <- err
	}()
	select {
	case result.committed = <-committed:
	case result.err = <-answered:
		result.err = errors.Join(errors.New("an answer has come, though it is lost"), result.err)
		return result
	case <-ctx.Done():
		result.err = errors.New("the append is never committed")
		return result
	}
	if r.random.IntN(2) == 0 {
		giveUp() // the client's time is up
	} else {
		r.proxy.Cut()
	}
	if err := <-answered; err == nil {
		result.err = errors.New("an append is answered, though the answer is lost")
		return result
	}
	r.proxy.Muted.Store(false)
	r.proxy.Cut() // also a connection that was made meanwhile, and not answered
	expected := again(r.revision, result.committed.revision)
	for len(result.answers) < 3 {
		answer, err := r.append(ctx, expected, result.id)
		if err == nil {
			result.answers = append(result.answers, answer)
			expected = again(expected, answer.revision)
		} else if ctx.Err() != nil || errors.Is(err, errExpectation) || domain.CodeOf(err) == domain.CodeConflict {
			result.err = fmt.Errorf("repeating %v: %w", result.committed, err)
			return result
		}
	}
	r.revision = result.answers[2].revision
	return result
}
