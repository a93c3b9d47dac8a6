package eventnode

import (
	"errors"
	"io"

	ps "github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/tenure-dev/tenure/adapters/eventnode/rpc"
)

// consumer is a client that reads from a group. But for what never changes, its fields are guarded by the group's lock.
type consumer struct {
	group   *group
	size    int // events that it may have and not have acknowledged
	textIDs bool
	from    string
	name    string
	user    string

	wake    chan struct{} // there is something to send
	dropped chan struct{} // closed when it is over
	why     error         // read after dropped

	outbox   []outgoing
	inFlight int
	buckets  int // of a pinning strategy
	total    int64
	measured int64
}

// outgoing is a delivery as it was when it was sent.
type outgoing struct {
	event, target *event
	broken        bool
	retry         int
}

// hasRoom: what waits to be sent counts, even if it has been taken back in the meantime. So a client that does not
// receive costs no more than its size.
func (c *consumer) hasRoom() bool { return c.inFlight < c.size && len(c.outbox) < c.size }

// take gives a delivery to the consumer, if it has room.
func (c *consumer) take(d *delivery) bool {
	if !c.hasRoom() {
		return false
	}
	d.to = c
	c.inFlight++
	c.total++
	c.outbox = append(c.outbox, outgoing{d.event, d.target, d.broken, d.retry})
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return true
}

// drop is called once, by the group that ends.
func (c *consumer) drop(why error) {
	c.why = why
	close(c.dropped)
}

// collect takes what is to be sent.
func (c *consumer) collect() []outgoing {
	c.group.mu.Lock()
	defer c.group.mu.Unlock()
	list := c.outbox
	c.outbox = nil
	c.group.push()
	return list
}

// Read connects a consumer: it is sent events and answers which it has processed.
func (s *persistentService) Read(st ps.PersistentSubscriptions_ReadServer) error {
	c, err := s.connect(st)
	if err != nil {
		return answer(st.Context(), err)
	}
	defer c.group.leave(c)
	// It ends when the call does, which is after this function has returned.
	s.node.persistent.readers.Go(func() { c.receive(st) })
	return answer(st.Context(), c.send(st))
}

func (s *persistentService) connect(st ps.PersistentSubscriptions_ReadServer) (*consumer, error) {
	first, err := st.Recv()
	if errors.Is(err, io.EOF) || err == nil && first.GetOptions() == nil {
		return nil, invalid("The first message must be the options.")
	} else if err != nil {
		return nil, err
	}
	o := first.GetOptions()
	if o.GetStreamOption() == nil {
		return nil, noStream("ReadReq")
	}
	source, err := newSource(o.GetAll() != nil, o.GetStreamIdentifier(), o.GetGroupName())
	if err != nil {
		return nil, err
	}
	if err := s.node.allow(st.Context(), readStream, source.stream); err != nil {
		return nil, err
	}
	c := &consumer{size: int(o.GetBufferSize()), wake: make(chan struct{}, 1), dropped: make(chan struct{}), from: "<unknown>", name: "<unknown>", user: systemUser}
	if c.size <= 0 {
		return nil, invalid("The buffer size must be positive.")
	}
	switch o.GetUuidOption().GetContent().(type) {
	case *ps.ReadReq_Options_UUIDOption_Structured:
	case *ps.ReadReq_Options_UUIDOption_String_:
		c.textIDs = true
	default:
		return nil, invalid(" `uuidOption` is a required argument of type EventStore.Client.PersistentSubscriptions.ReadReq+Types+Options+Types+UUIDOption")
	}
	if user, ok := st.Context().Value(userKey{}).(*User); ok {
		c.user = user.Name
	}
	if from, ok := peer.FromContext(st.Context()); ok && from.Addr != nil {
		c.from = from.Addr.String()
	}
	if name := metadata.ValueFromIncomingContext(st.Context(), "connection-name"); len(name) > 0 && name[0] != "" {
		c.name = name[0]
	}
	return c, s.join(c, source)
}

func (s *persistentService) join(c *consumer, source source) (err error) {
	p := s.node.persistent
	p.change.RLock()
	defer p.change.RUnlock()
	if c.group, err = p.find(source); err != nil {
		return err
	}
	return c.group.join(c)
}

// send sends until the client goes, the group ends, or the node does.
func (c *consumer) send(st ps.PersistentSubscriptions_ReadServer) error {
	queue, err := rpc.SenderOf(st.Context())
	if err != nil {
		return err
	}
	id := c.group.key()
	if err := st.Send(&ps.ReadResp{Content: &ps.ReadResp_SubscriptionConfirmation_{SubscriptionConfirmation: &ps.ReadResp_SubscriptionConfirmation{SubscriptionId: id}}}); err != nil {
		return err
	}
	var frame []byte
	for {
		list := c.collect()
		for _, o := range list {
			if frame, err = o.frame(frame[:0], c.textIDs); err == nil {
				err = queue.Queue(frame)
			}
			if err != nil {
				return err
			}
		}
		if err := queue.Flush(); err != nil {
			return err
		}
		if len(list) > 0 {
			continue
		}
		select {
		case <-c.wake:
		case <-c.dropped:
			return c.why
		case <-c.group.p.node.stop:
			return notReady()
		case <-st.Context().Done():
			return st.Context().Err()
		}
	}
}

// receive takes the consumer's answers. A client that has said all may go on listening.
func (c *consumer) receive(st ps.PersistentSubscriptions_ReadServer) {
	for {
		m, err := st.Recv()
		if err != nil {
			return
		}
		switch said := m.GetContent().(type) {
		case *ps.ReadReq_Ack_:
			c.group.ack(readIDs(said.Ack.GetIds()))
		case *ps.ReadReq_Nack_:
			action := nackRetry
			switch said.Nack.GetAction() {
			case ps.ReadReq_Nack_Park:
				action = nackPark
			case ps.ReadReq_Nack_Skip, ps.ReadReq_Nack_Stop:
				action = nackSkip
			}
			c.group.nack(readIDs(said.Nack.GetIds()), action, said.Nack.GetReason())
		}
	}
}

// readIDs reads UUIDs in either of their forms; one that is none becomes zero, which no event has.
func readIDs(list []*shared.UUID) []uuid.UUID {
	ids := make([]uuid.UUID, len(list))
	for i, u := range list {
		ids[i] = readUUID(u)
	}
	return ids
}

// frame writes the ReadResp of a delivery. A recorded event has the same form as in the Streams service, so most go out
// as the bytes that are stored.
func (o *outgoing) frame(b []byte, textIDs bool) ([]byte, error) {
	const respEvent, event, link, position, retry = 1, 1, 2, 3, 5
	var eventBytes, linkBytes []byte
	var err error
	switch {
	case o.broken:
		linkBytes, err = o.recorded(o.event, textIDs)
	case o.target != nil:
		if linkBytes, err = o.recorded(o.event, textIDs); err == nil {
			eventBytes, err = o.recorded(o.target, textIDs)
		}
	default:
		eventBytes, err = o.recorded(o.event, textIDs)
	}
	if err != nil {
		return b, err
	}
	size := varintField(o.event.position) + varintField(uint64(o.retry))
	for _, part := range [][]byte{eventBytes, linkBytes} {
		if part != nil {
			size += lenField(len(part))
		}
	}
	b = appendLen(b, respEvent, size)
	if eventBytes != nil {
		b = append(appendLen(b, event, len(eventBytes)), eventBytes...)
	}
	if linkBytes != nil {
		b = append(appendLen(b, link, len(linkBytes)), linkBytes...)
	}
	return appendVarint(appendVarint(b, position, o.event.position), retry, uint64(o.retry)), nil
}

// recorded is an event with the positions of the original: an event that a link leads to is said to lie where the link
// does.
func (o *outgoing) recorded(e *event, textIDs bool) ([]byte, error) {
	if e == o.event && !textIDs {
		return e.recorded, nil
	}
	r := &ps.ReadResp_ReadEvent_RecordedEvent{}
	if err := proto.Unmarshal(e.recorded, r); err != nil {
		return nil, err
	}
	r.CommitPosition, r.PreparePosition = o.event.position, o.event.position
	if textIDs {
		r.Id = &shared.UUID{Value: &shared.UUID_String_{String_: e.id.String()}}
	}
	return proto.Marshal(r)
}
