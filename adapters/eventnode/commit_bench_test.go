package eventnode

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
)

type nobody struct{}

func (nobody) reply(outcome) {}

// BenchmarkCommit is the committer alone, without a network: groups of appends of one event of 300 bytes, each to its own
// stream, synced to the disk. cpu-us/append is the whole process's.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{1, 32} {
		b.Run(fmt.Sprintf("groups of %d", size), func(b *testing.B) {
			n, err := Open(Options{Dir: b.TempDir(), Addr: "127.0.0.1:0", Now: time.Now})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = n.Close(b.Context()) }()
			n.writer.queue.finish()
			<-n.writer.ended // from here on the committer is this goroutine
			group := make([]*write, size)
			data := make([]byte, 300)
			before := processTime()
			b.ResetTimer()
			for i := 0; i < b.N; i += size {
				for j := range group {
					id := uuid.New()
					group[j] = &write{stream: fmt.Sprintf("bench-%d", j), expected: int64(i/size) - 1, size: 300, replier: nobody{},
						events: []proposedEvent{{id: id, typ: "benchmarked", json: true, data: data}}, ids: []uuid.UUID{id}}
				}
				if err := n.writer.commit(group); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((processTime()-before).Nanoseconds())/1000/float64(b.N), "cpu-us/append")
		})
	}
}

// processTime is the time that this process has spent on processors.
func processTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
