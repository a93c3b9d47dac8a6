package eventnode

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"
)

// The groups there are lie in a stream, each event of which holds all of them.
const (
	configStream   = "$persistentSubscriptionConfig"
	configType     = "$PersistentConfig"
	configVersion  = "2"
	configMetadata = `{"$maxCount":2}`
)

// config is the data of an event of the config stream. What is zero is left out.
type config struct {
	Version   string        `json:"version"`
	Updated   time.Time     `json:"updated"`
	UpdatedBy string        `json:"updatedBy"`
	Entries   []configEntry `json:"entries"`
}

type configEntry struct {
	Stream          string          `json:"stream"`
	Group           string          `json:"group"`
	Filter          json.RawMessage `json:"filter,omitempty"`
	ResolveLinks    bool            `json:"resolveLinkTos,omitempty"`
	Statistics      bool            `json:"extraStatistics,omitempty"`
	MessageTimeout  int64           `json:"messageTimeout,omitempty"` // ms
	Start           string          `json:"startPosition"`
	LiveBuffer      int             `json:"liveBufferSize,omitempty"`
	History         int             `json:"historyBufferSize,omitempty"`
	MaxRetries      int             `json:"maxRetryCount,omitempty"`
	Batch           int             `json:"readBatchSize,omitempty"`
	CheckpointAfter int64           `json:"checkPointAfter,omitempty"` // ms
	MinCheckpoint   int             `json:"minCheckPointCount,omitempty"`
	MaxCheckpoint   int             `json:"maxCheckPointCount,omitempty"`
	MaxConsumers    int             `json:"maxSubscriberCount,omitempty"`
	Strategy        string          `json:"namedConsumerStrategy,omitempty"`
}

func (s *settings) entry() (configEntry, error) {
	e := configEntry{
		Stream: s.stream, Group: s.group, ResolveLinks: s.resolveLinks, Statistics: s.statistics,
		MessageTimeout: s.messageTimeout.Milliseconds(), Start: s.startText(), LiveBuffer: s.liveBuffer, History: s.history,
		MaxRetries: s.maxRetries, Batch: s.batch, CheckpointAfter: s.afterTime.Milliseconds(), MinCheckpoint: s.minCheckpoint,
		MaxCheckpoint: s.maxCheckpoint, MaxConsumers: s.maxConsumers, Strategy: s.strategy,
	}
	var err error
	if s.filterOptions != nil {
		e.Filter, err = protojson.Marshal(s.filterOptions)
	}
	return e, err
}

func (e configEntry) settings() (*settings, error) {
	s := &settings{
		source: source{e.Stream, e.Group}, resolveLinks: e.ResolveLinks, statistics: e.Statistics,
		messageTimeout: time.Duration(e.MessageTimeout) * time.Millisecond, liveBuffer: e.LiveBuffer, history: e.History,
		maxRetries: e.MaxRetries, batch: e.Batch, afterTime: time.Duration(e.CheckpointAfter) * time.Millisecond,
		minCheckpoint: e.MinCheckpoint, maxCheckpoint: e.MaxCheckpoint, maxConsumers: e.MaxConsumers, strategy: e.Strategy,
	}
	if err := s.readStart(e.Start); err != nil {
		return nil, fmt.Errorf("startPosition %q: %w", e.Start, err)
	}
	if _, known := newStrategy(s.strategy); !known {
		return nil, fmt.Errorf("namedConsumerStrategy %q is not known", s.strategy)
	}
	if len(e.Filter) == 0 {
		return s, nil
	}
	o := &api.ReadReq_Options_FilterOptions{}
	if err := protojson.Unmarshal(e.Filter, o); err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	return s, s.setFilter(o)
}

// saveConfig writes down all groups and returns when the disk has them. A caller that gives up does not end it: what is
// in memory has to follow what is stored.
func (p *groupKeeper) saveConfig(ctx context.Context, all []*settings) error {
	c := config{Version: configVersion, Updated: p.node.now().UTC(), UpdatedBy: systemUser, Entries: []configEntry{}}
	for _, s := range all {
		e, err := s.entry()
		if err != nil {
			return err
		}
		c.Entries = append(c.Entries, e)
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if !p.limited {
		if err := p.write(ctx, appendOf(metastreamOf(configStream), proposedEvent{typ: metadataType, json: true, data: []byte(configMetadata)})); err != nil {
			return err
		}
		p.limited = true
	}
	return p.write(ctx, appendOf(configStream, proposedEvent{typ: configType, json: true, data: data}))
}

// write has a write of the server's own done.
func (p *groupKeeper) write(ctx context.Context, w *write) error {
	out, err := p.node.writer.submit(ctx, w)
	if err == nil && out.decision != accept && out.decision != acceptDeleted {
		err = streamDeleted(w.stream)
	}
	return err
}

// appendOf is a write of one event, whatever the stream is at. The event gets an id.
func appendOf(stream string, e proposedEvent) *write {
	e.id = uuid.New()
	return &write{kind: writeEvents, stream: stream, expected: expectAny, events: []proposedEvent{e}, ids: []uuid.UUID{e.id}, size: len(e.data) + len(e.metadata)}
}

// loadConfig reads the groups that are stored. An event that cannot be read, which none but a client can have written, is
// passed over in favour of the one before it.
func (p *groupKeeper) loadConfig() ([]*settings, error) {
	x, err := p.extentOf(configStream)
	if err != nil {
		return nil, err
	}
	p.limited = x.current >= 0
	for revision := x.current; revision >= 0; revision-- {
		e, err := p.eventAt(configStream, revision)
		if err != nil {
			return nil, err
		}
		if e == nil {
			return nil, nil // scavenged
		}
		all, err := parseConfig(e.data)
		if err == nil {
			return all, nil
		}
		p.node.logger.Error("the configuration of persistent subscriptions cannot be read; trying the one before", "revision", revision, "error", err)
	}
	return nil, nil
}

func parseConfig(data []byte) ([]*settings, error) {
	var c config
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	if c.Version != configVersion {
		return nil, fmt.Errorf("version %q is not known", c.Version)
	}
	var all []*settings
	for _, e := range c.Entries {
		s, err := e.settings()
		if err != nil {
			return nil, fmt.Errorf("group %s on stream %s: %w", e.Group, e.Stream, err)
		}
		all = append(all, s)
	}
	return all, nil
}

func (p *groupKeeper) extentOf(stream string) (extent, error) {
	index, err := p.node.log.index()
	if err != nil {
		return extent{}, err
	}
	defer index.Close()
	return p.node.log.extent(index, stream, p.node.ring.watermark.Load())
}

// eventAt is nil if there is no such event.
func (p *groupKeeper) eventAt(stream string, revision int64) (*event, error) {
	at, found, err := p.node.log.place(stream, revision)
	if err != nil || !found || revision == math.MaxInt64 {
		return nil, err
	}
	e, err := p.node.log.event(at.position)
	return &e, err
}
