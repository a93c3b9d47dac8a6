package eventnode

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/uuid"
)

// fault is a disk whose change of that number fails: once, or from then on for ever, whole or after half of it was written.
type fault struct {
	changes atomic.Int64
	at      int64 // 0 for none
	forever bool
	half    bool
	err     error
}

func (f *fault) fails() bool {
	n := f.changes.Add(1)
	return f.at > 0 && (n == f.at || f.forever && n > f.at)
}

// wrap puts the fault before a file system. Writes are left to faultyFile, which may do half of one.
func (f *fault) wrap(fs vfs.FS) vfs.FS {
	return faultyFS{errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpCreate, errorfs.OpRename, errorfs.OpReuseForWrite, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			if f.fails() {
				return f.err
			}
		}
		return nil
	})), f}
}

type faultyFS struct {
	vfs.FS
	fault *fault
}

func (fs faultyFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := fs.FS.Create(name, category)
	return faultyFile{file, fs.fault}, err
}

func (fs faultyFS) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := fs.FS.ReuseForWrite(old, name, category)
	return faultyFile{file, fs.fault}, err
}

type faultyFile struct {
	vfs.File
	fault *fault
}

func (f faultyFile) Write(p []byte) (int, error) {
	if !f.fault.fails() {
		return f.File.Write(p)
	}
	if !f.fault.half {
		return 0, f.fault.err
	}
	n, _ := f.File.Write(p[:len(p)/2])
	return n, f.fault.err
}

// acks counts, by stream, the events that were acknowledged.
type acks struct {
	mu    sync.Mutex
	count map[string]int
}

func (a *acks) now() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.count)
}

const faultWriters, faultEach = 4, 6

// appendOne brings a stream's event of that revision to the committer.
func appendOne(n *Node, stream string, revision int, data string) error {
	w := &write{kind: writeEvents, size: len(data)}
	w.stream, w.expected = stream, int64(revision)-1
	w.events = []proposedEvent{{id: eventID(fmt.Sprint(stream, revision)), typ: "T", data: []byte(data)}}
	w.ids = []uuid.UUID{w.events[0].id}
	out, err := n.writer.submit(context.Background(), w)
	if err == nil && (out.revision != int64(revision) || out.decision == wrongVersion) {
		err = fmt.Errorf("%s@%d is answered with %+v", stream, revision, out)
	}
	return err
}

// writing lets several writers append to streams of their own, each until its first failure.
func (a *acks) writing(n *Node, data string) {
	var writers sync.WaitGroup
	for w := range faultWriters {
		stream := fmt.Sprint("s", w)
		from := a.now()[stream]
		writers.Go(func() {
			for i := from; i < from+faultEach && appendOne(n, stream, i, data) == nil; i++ {
				a.mu.Lock()
				a.count[stream]++
				a.mu.Unlock()
			}
		})
	}
	writers.Wait()
}

// lost says what is wrong with a directory, "" if it has every event that was acknowledged, in order and without gaps, and
// at most one more of each writer, and takes new ones.
func lost(fs vfs.FS, acked map[string]int) (wrong string) {
	n, err := Open(Options{Dir: "log", Addr: "127.0.0.1:0", Now: time.Now, fs: fs})
	if err != nil {
		return err.Error()
	}
	defer func() {
		if err := ended(n); err != nil && wrong == "" {
			wrong = err.Error()
		}
	}()
	for w := range faultWriters {
		stream := fmt.Sprint("s", w)
		var p page
		found := 0
		for next, done := int64(0), false; !done; {
			if next, done, err = n.log.stream(&p, stream, next, deletedRevision, false, 1000); err != nil {
				return err.Error()
			}
			for _, e := range p.events {
				if e.revision != int64(found) || e.id != eventID(fmt.Sprint(stream, found)) {
					return fmt.Sprintf("%s@%d is where %d belongs", stream, e.revision, found)
				}
				found++
			}
		}
		if found < acked[stream] || found > acked[stream]+1 {
			return fmt.Sprintf("%s has %d events, and %d were acknowledged", stream, found, acked[stream])
		}
		if err := appendOne(n, stream, found, "next"); err != nil {
			return fmt.Sprintf("%s@%d, the next: %v", stream, found, err)
		}
	}
	return ""
}

// ended closes a node and gives why it has stopped. One that does not end in time says so.
func ended(n *Node) error {
	closed := make(chan error, 1)
	go func() { closed <- n.Close(context.Background()) }()
	select {
	case err := <-closed:
		if n.Err() != nil {
			return n.Err()
		}
		return err
	case <-time.After(patience):
		return errors.New("it does not close")
	}
}

// run opens a node three times, lets writers write, and closes it. It says what is wrong with what its owner is told: more
// than one line, or not the cause.
func (f *fault) run(disk vfs.FS, a *acks, data string, blind bool) string {
	for range 3 {
		n, err := Open(Options{Dir: "log", Addr: "127.0.0.1:0", Now: time.Now, fs: f.wrap(disk)})
		if err == nil {
			if blind {
				n.writer.fatal = func() error { return nil }
			}
			a.writing(n, data)
			err = ended(n)
		}
		if err != nil && (strings.Contains(err.Error(), "\n") || !errors.Is(err, f.err)) {
			return fmt.Sprintf("the owner is told %q", err)
		}
	}
	return ""
}

// faulted runs one seed and says what went wrong, if anything did.
func faulted(seed uint64, blind bool) string {
	random := rand.New(rand.NewPCG(seed, 3))
	disk := vfs.NewCrashableMem()
	f := &fault{at: 1 + random.Int64N(200), forever: random.IntN(2) == 0, half: random.IntN(2) == 0, err: syscall.ENOSPC}
	if random.IntN(2) == 0 {
		f.err = syscall.EIO
	}
	data := "data"
	if random.IntN(8) == 0 {
		data = strings.Repeat("d", 500<<10) // Pebble has to flush while they are written
	}
	a := &acks{count: map[string]int{}}
	wrong := f.run(disk, a, data, blind)
	for _, percent := range []int{0, 50, 100} {
		if wrong == "" {
			wrong = lost(disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: random}), a.count)
		}
	}
	if wrong == "" {
		wrong = lost(disk, a.count) // the process has died, and the machine lives
	}
	if wrong == "" {
		return ""
	}
	return fmt.Sprintf("TENURE_SEED=%d: change %d fails with %v (forever %t, half %t): %s", seed, f.at, f.err, f.forever, f.half, wrong)
}

// seeds is the seed a suite begins with and how many it takes.
func seeds(t *testing.T, few, many int) (first uint64, n int) {
	first, err := strconv.ParseUint(os.Getenv("TENURE_SEED"), 10, 64)
	if err != nil {
		first = rand.Uint64() >> 32
	}
	t.Logf("TENURE_SEED=%d", first)
	if os.Getenv("TENURE_SOAK") != "" {
		return first, many
	}
	return first, few
}

// Any one change of the disk fails, or all from one on: no acknowledgement is false, the node stops or goes on, it closes in
// time and says why in one line, and what was acknowledged is there at the next start.
func TestFaultsOfTheDiskTakeNothingBack(t *testing.T) {
	t.Parallel()
	first, n := seeds(t, 12, 500)
	failed := 0
	for seed := first; seed < first+uint64(n); seed++ {
		if wrong := faulted(seed, false); wrong != "" {
			t.Error(wrong)
			failed++
		}
	}
	t.Logf("%d passed, %d failed", n-failed, failed)
}

// The suite finds a node that acknowledges without asking whether the disk has failed.
func TestFaultsOfTheDiskFindAFalseAcknowledgement(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		if strings.Contains(faulted(seed, true), "were acknowledged") {
			return
		}
	}
	t.Error("a node that never asks passes")
}

// The power fails before every single sync of a run. Each time the disk has all that had been acknowledged.
func TestCrashAtEverySync(t *testing.T) {
	t.Parallel()
	first, rounds := seeds(t, 1, 20)
	passed, failed := 0, 0
	for seed := first; seed < first+uint64(rounds); seed++ {
		random := rand.New(rand.NewPCG(seed, 4))
		type moment struct {
			disk  *vfs.MemFS
			acked map[string]int
		}
		var mu sync.Mutex
		var moments []moment
		disk, a := vfs.NewCrashableMem(), &acks{count: map[string]int{}}
		crash := func() {
			mu.Lock()
			defer mu.Unlock()
			acked := a.now() // before the disk is looked at
			cut := vfs.CrashCloneCfg{UnsyncedDataPercent: len(moments) % 3 * 50, RNG: random}
			moments = append(moments, moment{disk.CrashClone(cut), acked})
		}
		fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if isSync(op) {
				crash()
			}
			return nil
		}))
		if wrong := (&fault{}).run(fs, a, "data", false); wrong != "" {
			t.Fatal(wrong)
		}
		crash()
		for i, m := range moments {
			if wrong := lost(m.disk, m.acked); wrong != "" {
				t.Errorf("TENURE_SEED=%d: at sync %d of %d: %s", seed, i, len(moments), wrong)
				failed++
				continue
			}
			passed++
		}
		if last := moments[len(moments)-1].acked["s0"]; last != 3*faultEach {
			t.Errorf("the run has acknowledged %d events of a stream", last)
		}
	}
	t.Logf("%d passed, %d failed", passed, failed)
}
