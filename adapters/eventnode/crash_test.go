package eventnode

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// ledger is what the outside world knows of the log: what was acknowledged, and what was read.
type ledger struct {
	mu    sync.Mutex
	acked []string // "event@stream@revision"
	seen  []string
}

func (l *ledger) add(to *[]string, entry string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*to = append(*to, entry)
}

// Power fails again and again while writers write and readers read. After each failure the disk has whatever part of the
// unsynced writes chance gave it, and still everything that was acknowledged or seen by anybody.
func TestCrashTakesNothingBack(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	r := startRig(t, &rig{fs: disk, ring: 64})
	known := &ledger{}
	const writers, appends, crashes = 8, 60, 12
	subscribing("live", ofAll, fromEnd)(r)
	var writing, receiving sync.WaitGroup
	receiving.Go(func() { // a subscriber
		for {
			m, err := r.subs["live"].stream.Recv()
			if err != nil {
				return
			}
			if e := m.GetEvent().GetEvent(); e != nil {
				known.add(&known.seen, fmt.Sprintf("%s@%s@%d", e.Data, e.StreamIdentifier.StreamName, e.StreamRevision))
			}
		}
	})
	written := make(chan struct{}, writers*appends)
	for w := range writers {
		writing.Go(func() {
			for i := range appends {
				stream, name := fmt.Sprintf("s%d", w%3), fmt.Sprintf("e%d-%d", w, i)
				got := appending(stream, expectAny, name)(r)
				known.add(&known.acked, fmt.Sprintf("%s@%s@%s", name, stream, strings.TrimPrefix(got, "at ")))
				written <- struct{}{}
				if i%10 == 5 { // a reader
					messages, err, _ := r.read(ofStream(stream), backwards, count(3))
					for _, m := range messages {
						if e := m.GetEvent().GetEvent(); err == nil && e != nil {
							known.add(&known.seen, fmt.Sprintf("%s@%s@%d", e.Data, stream, e.StreamRevision))
						}
					}
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 2))
	var survived []*vfs.MemFS
	var before [][]string
	for i := range crashes {
		for range writers * appends / (crashes + 1) {
			<-written
		}
		known.mu.Lock()
		before = append(before, slices.Concat(known.acked, known.seen))
		known.mu.Unlock()
		survived = append(survived, disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: i % 3 * 50, RNG: random}))
	}
	writing.Wait()
	r.subs["live"].cancel()
	receiving.Wait()
	for i, fs := range survived {
		after := startRig(t, &rig{fs: fs})
		stored := map[string]bool{}
		for s := range 3 {
			stream := fmt.Sprintf("s%d", s)
			messages, err, _ := after.read(ofStream(stream))
			if err != nil {
				t.Fatal(err)
			}
			for next, m := range messages {
				e := m.GetEvent().GetEvent()
				if e == nil {
					continue // not there yet
				}
				if e.StreamRevision != uint64(next) {
					t.Errorf("crash %d: %s has a gap at %d", i, stream, next)
				}
				stored[fmt.Sprintf("%s@%s@%d", e.Data, stream, e.StreamRevision)] = true
			}
		}
		for _, entry := range before[i] {
			if name := strings.Split(entry, "@")[1]; strings.HasPrefix(name, "s") && !stored[entry] {
				t.Errorf("crash %d took back %s", i, entry)
			}
		}
		if got := appending("after", expectNoStream, "next")(after); got != "at 0" {
			t.Errorf("crash %d: the node does not go on: %s", i, got)
		}
	}
}

// Between writing and syncing, the database shows an event already. Readers and the ring must not: a crash in that
// moment takes it back.
func TestReadersDoNotSeeWhatIsNotYetOnTheDisk(t *testing.T) {
	t.Parallel()
	var held atomic.Bool
	release := make(chan struct{})
	r := startRig(t, &rig{fs: errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if held.Load() && isSync(op) {
			<-release
		}
		return nil
	}))})
	appending("s", expectAny, "a")(r)
	watermark := r.node.ring.watermark.Load()
	held.Store(true)
	answered := make(chan string, 1)
	go func() { answered <- appending("s", expectAny, "b")(r) }()
	for stored := false; !stored && r.ctx.Err() == nil; runtime.Gosched() {
		_, found, err := r.node.log.place("s", 1)
		stored = found || err != nil
	}
	if got := reading(ofStream("s"))(r) + ", " + reading(ofAll, filtered("stream", 32, 1, "s"))(r); got != "a, a" {
		t.Errorf("readers see %s", got)
	}
	if events, _, _ := r.node.ring.after(watermark, make([]*event, 0, 1)); len(events) > 0 {
		t.Error("subscribers are given what is not on the disk")
	}
	if len(answered) > 0 {
		t.Error("the append is acknowledged before it is on the disk")
	}
	held.Store(false)
	close(release)
	if got := <-answered + ": " + reading(ofStream("s"))(r); got != "at 1: a b" {
		t.Error(got)
	}
}

func isSync(op errorfs.Op) bool {
	return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
}

// When the disk fails a sync, nobody is told that the append is durable; the node stops and says why, and never tries
// again. What had been acknowledged is there when the disk is back.
func TestFailedSyncStopsTheNode(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	var failing atomic.Bool
	fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if failing.Load() && isSync(op) {
			return errors.New("the disk is on fire")
		}
		return nil
	}))
	r := startRig(t, &rig{fs: fs})
	if got := appending("s", expectAny, "a")(r); got != "at 0" {
		t.Fatal(got)
	}
	subscribing("x", ofStream("s"))(r)
	hearing("x", 2)(r)
	failing.Store(true)
	if got := appending("s", expectAny, "b")(r); got != "Unavailable" {
		t.Errorf("an append that is not on the disk: %s", got)
	}
	if got := hearing("x", 1)(r); got != "Unavailable" {
		t.Errorf("a subscriber hears %s", got)
	}
	<-r.node.Done()
	if err := r.node.Err(); err == nil || !strings.Contains(err.Error(), "the disk is on fire") || strings.Contains(err.Error(), "\n") {
		t.Errorf("the owner is told: %v", err)
	}
	if err := <-r.served; err == nil {
		t.Error("Serve returned no error")
	}
	r.served <- nil
	failing.Store(false)
	if got := appending("s", expectAny, "c")(r); got != "Unavailable" {
		t.Errorf("after a failed sync, an append: %s", got)
	}
	after := startRig(t, &rig{fs: disk.CrashClone(vfs.CrashCloneCfg{})})
	if got := reading(ofStream("s"))(after); got != "a" {
		t.Errorf("on the disk: %s", got)
	}
}
