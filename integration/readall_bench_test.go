package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/encoding"
	standard "google.golang.org/grpc/encoding/proto"

	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/adapters/eventstore/codec"
	"github.com/tenure-dev/tenure/domain"
)

// BenchmarkReadAll reads a whole log from an embedded node, as rebuilds do, with the hand-written codec and with gRPC's own:
//
//	go test ./integration -run '^$' -bench ReadAll
func BenchmarkReadAll(b *testing.B) {
	const events = 60_000
	s := startStore(b)
	l := s.open()
	fillLog(b, l, events)
	if err := l.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	fast := encoding.GetCodecV2(standard.Name)
	defer encoding.RegisterCodecV2(fast)
	read := func(l *eventstore.Log) (n int) {
		for _, err := range l.ReadAll(b.Context(), 0, events) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		return n
	}
	follow := func(l *eventstore.Log) (n int) {
		for d, err := range l.Follow(b.Context(), 0) {
			if err != nil {
				b.Fatal(err)
			}
			if d.Kind == domain.DeliveredEvent {
				n++
			}
			if n == events {
				break
			}
		}
		return n
	}
	followRaw := func(l *eventstore.Log) (n int) {
		for _, err := range l.FollowRaw(b.Context(), 0) {
			if err != nil {
				b.Fatal(err)
			}
			if n++; n == events {
				break
			}
		}
		return n
	}
	for _, way := range []struct {
		name  string
		codec encoding.CodecV2
		read  func(*eventstore.Log) int
	}{{"read/plain", fast.(codec.Codec).CodecV2, read}, {"read/fast", fast, read}, {"follow/plain", fast.(codec.Codec).CodecV2, follow}, {"follow/fast", fast, follow},
		{"followraw/fast", fast, followRaw}} {
		b.Run(way.name, func(b *testing.B) {
			encoding.RegisterCodecV2(way.codec) // nobody makes a call now
			l := s.open()
			b.ReportAllocs()
			for b.Loop() {
				if n := way.read(l); n != events {
					b.Fatalf("%d events", n)
				}
			}
			perEvent := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / events
			b.ReportMetric(perEvent, "ns/event")
			b.ReportMetric(1e9/perEvent, "events/s")
			if err := l.Close(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// fillLog appends events of 300 bytes with metadata as the control plane writes it.
func fillLog(b *testing.B, l *eventstore.Log, events int) {
	b.Helper()
	const batch = 500
	meta := domain.Meta{Rev: 1, Correlation: domain.DeriveUUID("c").String(), CommandID: domain.DeriveUUID("d").String(), Actor: "usr_1", Org: "org_1",
		Tenant: "ten_1", RecordedAt: time.Unix(1700000000, 0).UTC(), Epoch: domain.Epoch{Number: 1, ID: "epoch"}}.Encode()
	data := fmt.Appendf(nil, `{"v":%q}`, make([]byte, 70))
	for n := 0; n < events; n += batch {
		proposed := make([]domain.Proposed, batch)
		for i := range proposed {
			proposed[i] = domain.Proposed{ID: domain.DeriveUUID(fmt.Sprint(n + i)).String(), Type: "tenant.renamed", Data: data, Meta: meta}
		}
		if _, err := l.Append(b.Context(), fmt.Sprint("tenant-", n), domain.NoStream, proposed); err != nil {
			b.Fatal(err)
		}
	}
}
