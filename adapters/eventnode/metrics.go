package eventnode

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// metrics counts what the node does. On the way of an append there are only atomic additions, most of them one a group.
type metrics struct {
	node *Node

	written, repeated, wrong, refused atomic.Uint64 // appends
	events, bytes                     atomic.Uint64 // appended
	scavengeStreams                   atomic.Uint64 // looked at by scavenges
	scavengedEvents, scavengedBytes   atomic.Uint64 // removed
	syncSeconds, syncAppends          prometheus.Histogram
	calls                             map[string]*[codes.Unauthenticated + 1]atomic.Uint64 // by method; fixed before the first call

	mu     sync.Mutex
	subs   map[*subscription]struct{}
	closed bool // the database may no longer be asked
}

func newMetrics(n *Node) *metrics {
	return &metrics{
		node: n,
		subs: map[*subscription]struct{}{},
		syncSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tenure_node_sync_seconds",
			Help: "How long it took to make a group of writes durable.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15)}),
		syncAppends: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tenure_node_sync_appends",
			Help: "How many writes one sync to the disk has made durable.", Buckets: prometheus.ExponentialBuckets(1, 2, 10)}),
	}
}

// synced takes a group that is on the disk, before its writes are answered.
func (m *metrics) synced(group []*write, took time.Duration) {
	m.syncSeconds.Observe(took.Seconds())
	m.syncAppends.Observe(float64(len(group)))
}

// decided counts the appends of a group, before they are answered.
func (m *metrics) decided(group []*write) {
	var written, repeated, wrong, events, bytes uint64
	for _, x := range group {
		if x.kind != writeEvents {
			continue
		}
		switch x.out.decision {
		case alreadyDone:
			repeated++
		case wrongVersion:
			wrong++
		case refuseDeleted: // counted where it is answered, with all other refusals
		default:
			written, events, bytes = written+1, events+uint64(len(x.events)), bytes+uint64(x.size)
		}
	}
	m.written.Add(written)
	m.repeated.Add(repeated)
	m.wrong.Add(wrong)
	m.events.Add(events)
	m.bytes.Add(bytes)
}

// methods says which calls there are, before any is served.
func (m *metrics) methods(names []string) {
	m.calls = make(map[string]*[codes.Unauthenticated + 1]atomic.Uint64, len(names))
	for _, name := range names {
		m.calls[name] = new([codes.Unauthenticated + 1]atomic.Uint64)
	}
}

// called counts a call that has ended.
func (m *metrics) called(method string, code codes.Code) {
	if counts := m.calls[method]; counts != nil && int(code) < len(counts) {
		counts[code].Add(1)
	}
}

// follow counts a subscription for as long as it is open.
func (m *metrics) follow(s *subscription) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.subs[s] = struct{}{}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.subs, s)
	}
}

// progress is how far a subscription is, for others to look at.
type progress struct {
	live  atomic.Bool
	after atomic.Uint64
}

func (m *metrics) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
}

var (
	appendsDesc = prometheus.NewDesc("tenure_node_appends_total",
		"Appends answered, by outcome: written, idempotent, wrong_version or refused.", []string{"outcome"}, nil)
	eventsDesc     = prometheus.NewDesc("tenure_node_appended_events_total", "Events appended.", nil, nil)
	bytesDesc      = prometheus.NewDesc("tenure_node_appended_bytes_total", "Bytes of data, metadata and types appended.", nil, nil)
	queueDesc      = prometheus.NewDesc("tenure_node_queue_appends", "Writes that wait for the committer.", nil, nil)
	subsDesc       = prometheus.NewDesc("tenure_node_subscriptions", "Open subscriptions.", []string{"kind", "state"}, nil)
	lagDesc        = prometheus.NewDesc("tenure_node_subscription_lag_events", "How many events the slowest live subscription has not looked at.", nil, nil)
	lagPosDesc     = prometheus.NewDesc("tenure_node_subscription_lag_positions", "How many positions the slowest live subscription is behind the log's end.", nil, nil)
	sizeDesc       = prometheus.NewDesc("tenure_node_log_bytes", "Size of the log on disk.", nil, nil)
	lastDesc       = prometheus.NewDesc("tenure_node_last_position", "The log's last position.", nil, nil)
	callsDesc      = prometheus.NewDesc("tenure_node_calls_total", "Calls that have ended, by method and gRPC code.", []string{"method", "code"}, nil)
	scavengeDesc   = prometheus.NewDesc("tenure_node_scavenge_running", "1 while a scavenge is under way, else 0.", nil, nil)
	scavStreamDesc = prometheus.NewDesc("tenure_node_scavenge_streams_total", "Streams that scavenges have looked at.", nil, nil)
	scavEventsDesc = prometheus.NewDesc("tenure_node_scavenged_events_total", "Events that scavenges have removed.", nil, nil)
	scavBytesDesc  = prometheus.NewDesc("tenure_node_scavenged_bytes_total", "Bytes of those events, as they were stored.", nil, nil)
	connsDesc      = prometheus.NewDesc("tenure_node_connections", "Open connections of clients.", nil, nil)
	metricDescs    = []*prometheus.Desc{appendsDesc, eventsDesc, bytesDesc, queueDesc, subsDesc, lagDesc, lagPosDesc, sizeDesc, lastDesc, callsDesc, connsDesc,
		scavengeDesc, scavStreamDesc, scavEventsDesc, scavBytesDesc}
)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range metricDescs {
		out <- d
	}
	m.syncSeconds.Describe(out)
	m.syncAppends.Describe(out)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	count(appendsDesc, m.written.Load(), "written")
	count(appendsDesc, m.repeated.Load(), "idempotent")
	count(appendsDesc, m.wrong.Load(), "wrong_version")
	count(appendsDesc, m.refused.Load(), "refused")
	count(eventsDesc, m.events.Load())
	count(bytesDesc, m.bytes.Load())
	count(scavStreamDesc, m.scavengeStreams.Load())
	count(scavEventsDesc, m.scavengedEvents.Load())
	count(scavBytesDesc, m.scavengedBytes.Load())
	for method, counts := range m.calls {
		for code := range counts {
			if n := counts[code].Load(); n > 0 {
				count(callsDesc, n, method[1:], codeName(codes.Code(code)))
			}
		}
	}
	m.syncSeconds.Collect(out)
	m.syncAppends.Collect(out)

	gauge(queueDesc, float64(m.node.writer.queue.depth()))
	gauge(lastDesc, float64(m.node.ring.watermark.Load()))
	gauge(connsDesc, float64(m.node.server.Connections()))
	gauge(scavengeDesc, float64(m.node.scavenges.underWay()))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.collectSubscriptions(gauge)
	if !m.closed {
		gauge(sizeDesc, float64(m.node.log.db.Metrics().DiskSpaceUsage()))
	}
}

func (m *metrics) collectSubscriptions(gauge func(*prometheus.Desc, float64, ...string)) {
	open := map[[2]string]int{}
	watermark, slowest := m.node.ring.watermark.Load(), uint64(0)
	behind := 0
	for s := range m.subs {
		kind, state := "stream", "catching_up"
		if s.all {
			kind = "all"
		}
		if s.progress.live.Load() {
			state = "live"
			after := s.progress.after.Load()
			if n := m.node.ring.count(after); n > 0 {
				behind, slowest = max(behind, n), max(slowest, watermark-min(after, watermark))
			}
		}
		open[[2]string{kind, state}]++
	}
	for _, kind := range []string{"all", "stream"} {
		for _, state := range []string{"catching_up", "live"} {
			gauge(subsDesc, float64(open[[2]string{kind, state}]), kind, state)
		}
	}
	gauge(lagDesc, float64(behind))
	gauge(lagPosDesc, float64(slowest))
}

// codeName is a code as gRPC's documentation spells it.
func codeName(code codes.Code) string {
	names := [...]string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
		"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}
	if int(code) < len(names) {
		return names[code]
	}
	return strconv.Itoa(int(code))
}
