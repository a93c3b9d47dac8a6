package bus

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/tenure-dev/tenure/domain"
)

// cursor is how far a subscription has come in a topic, kept in the log: the last event of its own stream. It names the event up to
// which all is done by stream, revision and id, which a copy, a restore and a recovery keep; since it stands behind that event, a
// log that has the cursor has the event too. Beside that it keeps the event's position with the log's epoch: a shortcut in the same
// epoch, with which the place is found even when its event has expired; it counts for nothing in another.
type cursor struct {
	log      Log
	topic    topic
	stream   string
	revision int64    // of the cursor's last event
	attempts []string // ids of appends behind it whose outcome is unknown
	epoch    domain.Epoch
}

// Wire forms of a cursor's stream.
const (
	cursorType   = "bus.cursor.moved"
	metadataType = "$metadata"
)

// moved is the payload of a cursor's event.
type moved struct {
	Stream   string `json:"stream,omitempty"` // none: everything before the cursor's own event is done
	Revision int64  `json:"revision"`         // -1: nothing of the stream is done
	Event    string `json:"event,omitempty"`
	At       string `json:"at,omitempty"` // the position with its epoch
}

func newCursor(log Log, subscription string, t topic) *cursor {
	return &cursor{log: log, topic: t, stream: domain.CursorCategory + "-" + subscription + "." + t.name, revision: domain.NoStream}
}

// start is where a subscription goes on: behind a revision of its stream or, with several, behind a position.
type start struct {
	revision int64
	position uint64
}

// load reads the cursor. found is false for a subscription that has none yet. CodeStale is a cursor whose event is gone and
// whose position is another epoch's: a person has to say where to go on.
func (c *cursor) load(ctx context.Context) (s start, found bool, err error) {
	if c.epoch, err = c.log.Epoch(ctx); err != nil {
		return s, false, err
	}
	last, found, err := c.log.Last(ctx, c.stream)
	if err != nil || !found {
		c.revision = domain.NoStream
		return start{revision: domain.NoStream}, false, err
	}
	c.revision = last.Revision
	var m moved
	if last.Type != cursorType || json.Unmarshal(last.Data, &m) != nil {
		return s, false, &domain.Error{Code: domain.CodeInternal, Message: "the last event of " + c.stream + " is no cursor"}
	}
	if c.topic.stream != "" {
		return start{revision: m.Revision}, true, nil
	}
	s, err = c.resolve(ctx, last, m)
	return s, err == nil, err
}

// resolve finds the position behind which a cursor of several streams stands.
func (c *cursor) resolve(ctx context.Context, last Event, m moved) (start, error) {
	if m.Stream == "" {
		return start{position: last.Position}, nil
	}
	if at, err := domain.ParsePosition(m.At); err == nil && at.Epoch == c.epoch {
		return start{position: at.Commit}, nil
	}
	e, found, err := c.log.At(ctx, m.Stream, m.Revision)
	if err != nil {
		return start{}, err
	}
	if !found || e.ID != m.Event {
		return start{}, &domain.Error{Code: domain.CodeStale, Field: "position", Message: "of the subscription is of another epoch of the log, and the event that it names is gone"}
	}
	return start{position: e.Position}, nil
}

// save moves the cursor to a place. CodeConflict says that another subscriber of that name has moved it.
func (c *cursor) save(ctx context.Context, at place) error {
	m := moved{Stream: at.stream, Revision: at.revision, Event: at.id}
	if c.epoch.ID != "" && at.position > 0 {
		m.At = domain.Position{Epoch: c.epoch, Commit: at.position}.String()
	}
	return c.append(ctx, m)
}

// begin puts the first cursor at the topic's present end. One that is there already is left as it is.
func (c *cursor) begin(ctx context.Context) error {
	m := moved{Revision: domain.NoStream}
	if c.topic.stream != "" {
		last, found, err := c.log.Last(ctx, c.topic.stream)
		if err != nil {
			return err
		}
		m.Stream = c.topic.stream
		if found {
			m.Revision, m.Event = last.Revision, last.ID
		}
	}
	err := c.append(ctx, m)
	if domain.CodeOf(err) == domain.CodeConflict {
		return nil
	}
	return err
}

func (c *cursor) append(ctx context.Context, m moved) error {
	if c.revision == domain.NoStream {
		if err := c.limit(ctx); err != nil {
			return err
		}
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	for {
		id := domain.DeriveUUID(c.stream, strconv.FormatInt(c.revision, 10), m.Stream, strconv.FormatInt(m.Revision, 10), m.Event).String()
		err := c.log.Append(ctx, c.revision, Event{Stream: c.stream, ID: id, Type: cursorType, JSON: true, Data: data, Metadata: []byte(`{"rev":1}`)})
		switch domain.CodeOf(err) {
		case "":
			c.revision, c.attempts = c.revision+1, nil
			return nil
		case domain.CodeUnavailable:
			if !slices.Contains(c.attempts, id) {
				c.attempts = append(c.attempts, id)
			}
			return err
		case domain.CodeConflict:
			if len(c.attempts) == 0 {
				return err
			}
			last, found, lost := c.log.Last(ctx, c.stream)
			if lost != nil {
				return lost
			}
			if !found || !slices.Contains(c.attempts, last.ID) { // it was another's
				return err
			}
			c.revision, c.attempts = last.Revision, nil
		default:
			return err
		}
	}
}

// limit has the event store keep only the last event of the cursor's stream. Metadata that are there already are left alone.
func (c *cursor) limit(ctx context.Context) error {
	err := c.log.Append(ctx, domain.NoStream, Event{Stream: "$$" + c.stream, ID: domain.DeriveUUID(c.stream, metadataType).String(),
		Type: metadataType, JSON: true, Data: []byte(`{"$maxCount":1}`), Metadata: []byte(`{}`)})
	if domain.CodeOf(err) == domain.CodeConflict {
		return nil
	}
	return err
}
