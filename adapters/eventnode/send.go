package eventnode

import (
	"strconv"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/tenure-dev/tenure/adapters/eventnode/rpc"
)

// sender writes the answers of one read. Events go out as the bytes that are stored, unless the reader wants something
// else in them. They are queued: what has to be seen soon is flushed.
type sender struct {
	node    *Node
	to      grpc.ServerStream
	queue   rpc.Sender
	links   bool // resolve links
	textIDs bool // ids as text, not as two numbers
}

func (s *sender) event(e *event) error {
	if s.textIDs || s.links && e.is(flagLink) {
		return s.resolved(e)
	}
	return s.queue.Queue(e.frame)
}

func (s *sender) flush() error { return s.queue.Flush() }

// message sends what is no event, at once.
func (s *sender) message(content *api.ReadResp) error { return s.to.SendMsg(content) }

func (s *sender) notFound(stream string) error {
	return s.message(&api.ReadResp{Content: &api.ReadResp_StreamNotFound_{StreamNotFound: &api.ReadResp_StreamNotFound{StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)}}}})
}

// resolved sends an event with its link followed and its ids in the form asked for.
func (s *sender) resolved(e *event) error {
	out := &api.ReadResp_ReadEvent{Position: &api.ReadResp_ReadEvent_CommitPosition{CommitPosition: e.position}}
	original, err := s.recorded(e)
	if err != nil {
		return err
	}
	out.Event = original
	if s.links && e.is(flagLink) {
		target, isLink, err := s.node.follow(e)
		if err != nil {
			return err
		}
		if isLink {
			out.Event, out.Link = nil, original
		}
		if target != nil {
			if out.Event, err = s.recorded(target); err != nil {
				return err
			}
		}
	}
	return s.message(&api.ReadResp{Content: &api.ReadResp_Event{Event: out}})
}

func (s *sender) recorded(e *event) (*api.ReadResp_ReadEvent_RecordedEvent, error) {
	r := &api.ReadResp_ReadEvent_RecordedEvent{}
	if err := proto.Unmarshal(e.recorded, r); err != nil {
		return nil, err
	}
	if s.textIDs {
		r.Id = &shared.UUID{Value: &shared.UUID_String_{String_: e.id.String()}}
	}
	return r, nil
}

// follow finds what a link points to, as its stream's readers see it. Without a target the link stands alone; isLink is
// false for a link event whose data is no link.
func (n *Node) follow(link *event) (target *event, isLink bool, err error) {
	number, stream, separated := strings.Cut(string(link.data), "@")
	revision, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil {
		return nil, false, nil
	}
	if !separated || stream == "" || revision < -1 {
		return nil, true, nil // as the real server has it: a number makes it a link, if a broken one
	}
	watermark := n.ring.watermark.Load()
	v, err := n.log.visible(stream, watermark, n.now())
	if err != nil {
		return nil, true, err
	}
	if revision == -1 { // its last one
		revision = v.current
	}
	if v.missing || v.tombstoned || revision < v.from || revision > v.current {
		return nil, true, nil
	}
	p, found, err := n.log.place(stream, revision)
	if err != nil || !found {
		return nil, true, err
	}
	e, err := n.log.event(p.position)
	return &e, true, err
}
