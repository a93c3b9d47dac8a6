package eventnode

import (
	"strings"
	"time"

	ps "github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
)

// systemUser is whom everybody is in insecure mode.
const systemUser = "system"

// groupStats are counted for whoever asks how a group is.
type groupStats struct {
	since    time.Time // when counting began
	total    int64     // events sent, retries included
	measured int64     // total when somebody last asked
	known    int64     // place of the last event that came in, -1 for none
	appeared int       // events that came in live
}

func (g *group) info() (*ps.SubscriptionInfo, error) {
	v, err := g.p.node.log.visible(g.parked(), g.p.node.ring.watermark.Load(), g.p.node.now())
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	info := &ps.SubscriptionInfo{
		EventSource:                 g.stream,
		GroupName:                   g.group,
		Status:                      g.status(),
		AveragePerSecond:            g.perSecond(g.stats.total),
		TotalItems:                  g.stats.total,
		CountSinceLastMeasurement:   g.stats.total - g.stats.measured,
		LastKnownEventPosition:      g.place(g.stats.known),
		ResolveLinkTos:              g.resolveLinks,
		StartFrom:                   g.startText(),
		MessageTimeoutMilliseconds:  int32(g.messageTimeout.Milliseconds()),
		ExtraStatistics:             g.statistics,
		MaxRetryCount:               int32(g.maxRetries),
		LiveBufferSize:              int32(g.liveBuffer),
		BufferSize:                  int32(g.history),
		ReadBatchSize:               int32(g.batch),
		CheckPointAfterMilliseconds: int32(g.afterTime.Milliseconds()),
		MinCheckPointCount:          int32(g.minCheckpoint),
		MaxCheckPointCount:          int32(g.maxCheckpoint),
		ReadBufferCount:             int32(len(g.buffer)),
		LiveBufferCount:             int64(max(0, min(g.stats.appeared, g.liveBuffer))),
		RetryBufferCount:            int32(len(g.retries)),
		TotalInFlightMessages:       int32(g.outside),
		OutstandingMessagesCount:    int32(g.outside),
		NamedConsumerStrategy:       g.settings.strategy,
		MaxSubscriberCount:          int32(g.maxConsumers),
	}
	if g.shown {
		info.LastCheckpointedEventPosition = g.place(g.durable)
	}
	if !v.missing && !v.tombstoned {
		info.ParkedMessageCount = v.current - v.from + 1
	}
	for _, c := range g.consumers {
		info.Connections = append(info.Connections, &ps.SubscriptionInfo_ConnectionInfo{
			From:                      c.from,
			Username:                  c.user,
			AverageItemsPerSecond:     g.perSecond(c.total),
			TotalItems:                c.total,
			CountSinceLastMeasurement: c.total - c.measured,
			AvailableSlots:            int32(c.size - c.inFlight),
			InFlightMessages:          int32(c.inFlight),
			ConnectionName:            c.name,
		})
		c.measured = c.total
	}
	g.stats.measured = g.stats.total
	return info, nil
}

// status is a set of flags, as a real server prints it.
func (g *group) status() string {
	var flags []string
	if !g.live {
		flags = append(flags, "Behind")
	}
	if g.faulted {
		flags = append(flags, "OutstandingPageRequest") // which nobody answers
	}
	if g.replay != nil {
		flags = append(flags, "ReplayingParkedMessages")
	}
	if g.live {
		flags = append(flags, "Live")
	}
	return strings.Join(flags, ", ")
}

func (g *group) perSecond(total int64) int32 {
	return int32(float64(total) / max(1, g.p.node.now().Sub(g.stats.since).Seconds()))
}
