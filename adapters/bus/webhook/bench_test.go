package webhook

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
)

// BenchmarkDeliveries posts payloads of 1,000 bytes to a receiver on this machine, one after another and side by side: webhooks' signed
// and guarded deliveries, and plain posts of net/http with the same transport's settings. The receiver's work is in both.
func BenchmarkDeliveries(b *testing.B) {
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer receiver.Close()
	payload := bytes.Repeat([]byte("a"), 1000)

	p, err := New(Config{URL: receiver.URL, Allow: local, Secrets: []settings.Secret{first}}, time.Now, "1")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConns: idleConnections, MaxIdleConnsPerHost: idleConnections, DisableCompression: true}}
	defer client.CloseIdleConnections()

	for _, way := range []struct {
		name    string
		deliver func() error
	}{
		{"webhook", func() error { return p.Publish("", message.NewMessage("evt-1", payload)) }},
		{"plain", func() error {
			answer, err := client.Post(receiver.URL, "application/cloudevents+json", bytes.NewReader(payload))
			if err != nil {
				return err
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			return answer.Body.Close()
		}},
	} {
		b.Run(way.name+"/one by one", func(b *testing.B) {
			for b.Loop() {
				if err := way.deliver(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
		})
		b.Run(way.name+"/side by side", func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := way.deliver(); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}
