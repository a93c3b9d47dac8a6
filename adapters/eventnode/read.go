package eventnode

import (
	"math"

	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"github.com/tenure-dev/tenure/adapters/eventnode/rpc"
)

// Read answers reads of a stream or of $all, once or as a subscription.
func (s *streamsService) Read(req *api.ReadReq, st api.Streams_ReadServer) error {
	r, err := s.node.newRead(req.GetOptions())
	if err == nil {
		err = s.node.allow(st.Context(), readStream, r.name())
	}
	if err != nil {
		return answer(st.Context(), err)
	}
	r.to = st
	if r.queue, err = rpc.SenderOf(st.Context()); err != nil {
		return err
	}
	switch {
	case r.subscribe:
		err = r.subscription(st.Context())
	case r.all:
		err = r.readAll()
	default:
		err = r.readStream()
	}
	return answer(st.Context(), err)
}

// read is one request, checked.
type read struct {
	sender
	all       bool
	backwards bool
	subscribe bool
	count     uint64
	from      bound
	stream    string
	filter    *filter
	positions bool // tell the stream's ends, too
}

// name is what is read, as permissions know it.
func (r *read) name() string {
	if r.all {
		return allStream
	}
	return r.stream
}

// bound is where a read starts. Value is a revision or a position.
type bound struct {
	start, end bool
	value      uint64
	partial    bool // a position before the end of the record there: its prepare part lies below its commit part
}

func (n *Node) newRead(o *api.ReadReq_Options) (*read, error) {
	r := &read{sender: sender{node: n, links: o.GetResolveLinks()}, positions: o.GetControlOption().GetCompatibility() >= 1}
	if err := r.checkCombination(o); err != nil {
		return nil, err
	}
	switch o.GetUuidOption().GetContent().(type) {
	case *api.ReadReq_Options_UUIDOption_Structured:
	case *api.ReadReq_Options_UUIDOption_String_:
		r.textIDs = true
	default:
		return nil, invalid(" `uuidOption` is a required argument of type EventStore.Client.Streams.ReadReq+Types+Options+Types+UUIDOption")
	}
	var err error
	if r.all {
		err = r.fromPosition(o.GetAll())
	} else {
		err = r.fromRevision(o.GetStream())
	}
	if err != nil {
		return nil, err
	}
	if f := o.GetFilter(); f != nil {
		r.filter, err = newFilter(f, r.subscribe)
	}
	return r, err
}

// checkCombination takes the kinds of read that exist: a stream without filter, $all with or without, subscriptions only
// forwards.
func (r *read) checkCombination(o *api.ReadReq_Options) error {
	from, how, direction, filtered := "None", "None", "Forwards", "None"
	switch o.GetStreamOption().(type) {
	case *api.ReadReq_Options_Stream:
		from = "Stream"
	case *api.ReadReq_Options_All:
		from, r.all = "All", true
	}
	switch count := o.GetCountOption().(type) {
	case *api.ReadReq_Options_Count:
		how, r.count = "Count", count.Count
	case *api.ReadReq_Options_Subscription:
		how, r.subscribe = "Subscription", true
	}
	if o.GetReadDirection() != api.ReadReq_Options_Forwards {
		direction, r.backwards = o.GetReadDirection().String(), true
	}
	switch o.GetFilterOption().(type) {
	case *api.ReadReq_Options_NoFilter:
		filtered = "NoFilter"
	case *api.ReadReq_Options_Filter:
		filtered = "Filter"
	}
	known := direction == "Forwards" || direction == "Backwards"
	if from == "None" || how == "None" || filtered == "None" || !known || r.subscribe && r.backwards || !r.all && filtered == "Filter" {
		return invalid("The combination of (%s, %s, %s, %s) is invalid.", from, how, direction, filtered)
	}
	return nil
}

func (r *read) fromPosition(o *api.ReadReq_Options_AllOptions) error {
	switch from := o.GetAllOption().(type) {
	case *api.ReadReq_Options_AllOptions_Start:
		r.from.start = true
	case *api.ReadReq_Options_AllOptions_End:
		r.from.end = true
	case *api.ReadReq_Options_AllOptions_Position:
		commit, prepare := from.Position.GetCommitPosition(), from.Position.GetPreparePosition()
		switch {
		case prepare > commit:
			return invalid("The commit position must be greater than or equal to the prepare position.")
		case commit == 0:
			r.from.start = true
		case commit == math.MaxUint64:
			r.from.end = true
		case commit > math.MaxInt64:
			return invalid("A position is at most %d.", int64(math.MaxInt64))
		default:
			r.from.value, r.from.partial = commit, prepare < commit
		}
	default:
		return invalid("'None' is not a valid EventStore.Client.Streams.ReadReq+Types+Options+Types+AllOptions+AllOptionOneofCase")
	}
	return nil
}

func (r *read) fromRevision(o *api.ReadReq_Options_StreamOptions) error {
	var err error
	if r.stream, err = streamName(o.GetStreamIdentifier().GetStreamName()); err != nil {
		return err
	}
	switch from := o.GetRevisionOption().(type) {
	case *api.ReadReq_Options_StreamOptions_Start:
		r.from.start = true
	case *api.ReadReq_Options_StreamOptions_End:
		r.from.end = true
	case *api.ReadReq_Options_StreamOptions_Revision:
		switch {
		case from.Revision == math.MaxUint64:
			r.from.end = true
		case from.Revision > math.MaxInt64:
			return invalid("A revision is at most %d.", int64(math.MaxInt64))
		default:
			r.from.value = from.Revision
		}
	default:
		return invalid("'None' is not a valid EventStore.Client.Streams.ReadReq+Types+Options+Types+StreamOptions+RevisionOptionOneofCase")
	}
	return nil
}

// readStream sends up to count events of a stream.
func (r *read) readStream() error {
	watermark := r.node.ring.watermark.Load()
	v, err := r.node.log.visible(r.stream, watermark, r.node.now())
	switch {
	case err != nil:
		return err
	case v.tombstoned:
		return streamDeleted(r.stream)
	case v.missing:
		return r.notFound(r.stream)
	case r.count == 0:
		return nil
	}
	low, high := r.bounds(v)
	if r.positions {
		for _, first := range r.firstPositions(v) {
			if err := r.message(&api.ReadResp{Content: &api.ReadResp_FirstStreamPosition{FirstStreamPosition: uint64(first)}}); err != nil {
				return err
			}
		}
	}
	var p page
	for left := r.count; left > 0 && low <= high; {
		if r.node.stopping() {
			return notReady()
		}
		next, done, err := r.node.log.stream(&p, r.stream, low, high, r.backwards, limit(left))
		if err != nil {
			return err
		}
		for i := range p.events {
			if err := r.event(&p.events[i]); err != nil {
				return err
			}
		}
		left -= uint64(len(p.events))
		if err := r.flush(); err != nil {
			return err
		}
		if done {
			break
		}
		if r.backwards {
			high = next
		} else {
			low = next
		}
	}
	if r.positions {
		return r.message(&api.ReadResp{Content: &api.ReadResp_LastStreamPosition{LastStreamPosition: uint64(v.current)}})
	}
	return nil
}

// bounds are the revisions to read, both included; low is above high if there are none.
func (r *read) bounds(v visible) (low, high int64) {
	switch low, high = v.from, v.current; {
	case r.backwards && r.from.start:
		high = min(high, 0)
	case r.backwards && !r.from.end:
		high = min(high, int64(r.from.value))
	case !r.backwards && r.from.end:
		low = math.MaxInt64
	case !r.backwards && !r.from.start:
		low = max(low, int64(r.from.value))
	}
	return low, high
}

// readPage is the real server's page. It shows in one place: a first page that lies below the stream's bound as a whole
// makes it tell where the stream begins.
const readPage = 32

// firstPositions are where a forward read goes on whose first page is empty: at the stream's bound, and if nothing is there,
// behind the stream's last event. A read that starts at such a place is not told of it.
func (r *read) firstPositions(v visible) (told []int64) {
	if r.backwards || r.from.end {
		return nil
	}
	next := int64(r.from.value)
	if next <= v.from-int64(min(r.count, readPage)) {
		next = v.from
		told = append(told, next)
	}
	if max(next, v.from) > v.current && next != v.current+1 {
		told = append(told, v.current+1)
	}
	return told
}

// readAll sends up to count events of $all: forwards from the position on, backwards those before it.
func (r *read) readAll() error {
	watermark := r.node.ring.watermark.Load()
	low, high := uint64(1), watermark
	switch {
	case r.from.start && r.backwards, r.from.end && !r.backwards, r.count == 0:
		return nil
	case r.from.start, r.from.end:
	case !r.backwards && r.from.value > watermark:
		return nil
	default:
		if err := r.checkPosition(watermark); err != nil {
			return err
		}
		if r.backwards {
			high = r.from.value - 1
		} else {
			low = r.from.value
		}
	}
	var p page
	for left := r.count; left > 0; {
		if r.node.stopping() {
			return notReady()
		}
		size := limit(left)
		if r.filter != nil {
			size = pageEvents // few of them may match
		}
		next, done, err := r.node.log.all(&p, low, high, r.backwards, r.opens(), size)
		if err != nil {
			return err
		}
		for i := 0; i < len(p.events) && left > 0; i++ {
			sent, err := r.pass(&p.events[i])
			if err != nil {
				return err
			}
			if sent {
				left--
			}
		}
		if err := r.flush(); err != nil {
			return err
		}
		if done {
			return nil
		}
		if r.backwards {
			high = next
		} else {
			low = next
		}
		if err := r.to.Context().Err(); err != nil {
			return err
		}
	}
	return nil
}

// opens says whether the records have to be read, or may be sent unseen.
func (r *read) opens() bool { return r.filter != nil || r.links || r.textIDs }

// pass sends an event of $all, if it is part of it and the filter lets it through.
func (r *read) pass(e *event) (bool, error) {
	if e.is(flagHidden) {
		return false, nil
	}
	if r.filter != nil {
		if ok, err := r.filter.matches(e); !ok || err != nil {
			return false, err
		}
	}
	return true, r.event(e)
}

// checkPosition refuses a position at which no record begins: it was made up, or belongs to another database.
func (r *read) checkPosition(watermark uint64) error {
	ok, err := r.node.log.isRecord(r.from.value, watermark)
	if err == nil && !ok {
		err = invalid("Trying to read from an invalid position.")
	}
	return err
}

func limit(left uint64) int { return int(min(left, pageEvents)) }
