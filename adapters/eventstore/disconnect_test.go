package eventstore

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"github.com/tenure-dev/tenure/adapters/eventstore/proxytest"
	"github.com/tenure-dev/tenure/domain"
)

const forcedDisconnects = 1000

// Readers, subscribers and writers work while a proxy cuts every connection after a random number of bytes. No client is left
// behind: the adapter keeps the client's own way to reconnect, which leaks, from ever being taken (see intercept), so nothing
// is excepted from goleak.
func TestAThousandDisconnectsLoseNothingAndLeakNothing(t *testing.T) {
	node := &memory{changed: make(chan struct{})}
	f := &fake{append: node.append, read: node.read}
	f.serve(t)
	p := proxytest.New(t, 7, f.address)
	before := runtime.NumGoroutine()
	l, err := Open(t.Context(), Config{URL: "esdb://" + p.Addr() + "?tls=false&discoveryInterval=1", pauses: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	p.Cutting.Store(true)

	var writers, others sync.WaitGroup
	ctx, enough := context.WithCancel(t.Context())
	acked := make([]int, 4)
	for i := range acked {
		writers.Go(func() {
			for p.Cuts.Load() < forcedDisconnects {
				_, err := l.Append(ctx, fmt.Sprint("w-", i), int64(acked[i])-1, one(fmt.Sprint(i, acked[i])))
				switch domain.CodeOf(err) {
				case "":
					acked[i]++
				case domain.CodeUnavailable: // the outcome is unknown: once more, under the same id
				default:
					t.Errorf("writer %d: %v", i, err)
					return
				}
			}
		})
	}
	seen := make([]atomic.Uint64, 3)
	for i := range seen {
		others.Go(func() {
			for d, err := range l.Follow(ctx, 0) {
				if err != nil {
					t.Errorf("subscriber %d: %v", i, err)
				}
				if d.Kind == domain.DeliveredEvent && d.Commit != seen[i].Add(10) {
					t.Errorf("subscriber %d: got %d", i, d.Commit)
				}
			}
		})
	}
	for i := range 3 {
		others.Go(func() {
			for ctx.Err() == nil {
				next := uint64(i * 500)
				for e, err := range l.ReadAll(ctx, next, 50) {
					if next += 10; err == nil && e.Commit != next {
						t.Errorf("reader %d: got %d, not %d", i, e.Commit, next)
					}
				}
			}
		})
	}
	writers.Wait()
	p.Cutting.Store(false)
	end := node.end()
	eventually(t, "every subscriber has seen every event", func() bool {
		for i := range seen {
			if seen[i].Load() < end {
				return false
			}
		}
		return true
	})
	enough()
	others.Wait()
	for i, n := range acked {
		got := 0
		for e, err := range l.Read(t.Context(), fmt.Sprint("w-", i), 0) {
			if err != nil || got < n && e.EventID != one(fmt.Sprint(i, got))[0].ID {
				t.Fatalf("%+v, %v", e, err)
			}
			got++
		}
		if got < n || got > n+1 {
			t.Errorf("%d events of writer %d, of which %d were acknowledged", got, i, n)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	stats := l.Stats()
	if stats.Abandoned != 0 || stats.TimedOut != 0 || stats.Retired != stats.Connected || stats.Connected < forcedDisconnects/4 || stats.Resubscribed == 0 {
		t.Errorf("%+v", stats)
	}
	eventually(t, "every goroutine and connection has ended", func() bool {
		_, _, _, live := f.counts()
		return live == 0 && runtime.NumGoroutine() <= before
	})
	t.Logf("%d events, %+v", end/10, stats)
}

// memory is a log in memory. Appends may be repeated, as with a real node.
type memory struct {
	mu      sync.Mutex
	all     []*api.ReadResp
	streams map[string][]*api.ReadResp
	changed chan struct{}
}

func (m *memory) end() uint64 { m.mu.Lock(); defer m.mu.Unlock(); return uint64(len(m.all)) * 10 }

func (m *memory) append(_ int, r []*api.AppendReq) (*api.AppendResp, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	stream := string(r[0].GetOptions().GetStreamIdentifier().StreamName)
	number := uint64(0)
	if at, ok := r[0].GetOptions().ExpectedStreamRevision.(*api.AppendReq_Options_Revision); ok {
		number = at.Revision + 1
	}
	if kept := m.streams[stream]; number < uint64(len(kept)) {
		return success(number, kept[number].GetEvent().Event.CommitPosition), nil
	}
	e := event(stream, number, uint64(len(m.all)+1)*10)
	e.GetEvent().Event.Id = r[1].GetProposedMessage().Id
	if m.streams == nil {
		m.streams = map[string][]*api.ReadResp{}
	}
	m.streams[stream], m.all = append(m.streams[stream], e), append(m.all, e)
	close(m.changed)
	m.changed = make(chan struct{})
	return success(number, uint64(len(m.all))*10), nil
}

func (m *memory) read(_ int, r *api.ReadReq, s api.Streams_ReadServer) error {
	subscribed := r.Options.GetSubscription() != nil
	if subscribed {
		confirm(s)
	}
	for i, sent := int(r.Options.GetAll().GetPosition().GetCommitPosition()/10), uint64(0); ; {
		m.mu.Lock()
		events, changed := m.all, m.changed
		if stream := r.Options.GetStream(); stream != nil {
			events, i = m.streams[string(stream.StreamIdentifier.StreamName)], int(stream.GetRevision()+sent)
		}
		m.mu.Unlock()
		for ; i < len(events) && (subscribed || sent < r.Options.GetCount()); i++ {
			if err := s.Send(events[i]); err != nil {
				return err
			}
			sent++
		}
		if !subscribed {
			return nil
		}
		select {
		case <-changed:
		case <-s.Context().Done():
			return nil
		}
	}
}
