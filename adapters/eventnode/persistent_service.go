package eventnode

import (
	"context"
	"math"

	ps "github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// persistentService is the PersistentSubscriptions service.
type persistentService struct {
	ps.UnimplementedPersistentSubscriptionsServer
	node *Node
}

// Create makes a group.
func (s *persistentService) Create(ctx context.Context, req *ps.CreateReq) (*ps.CreateResp, error) {
	c, err := s.readCreate(req.GetOptions())
	if err == nil {
		err = s.node.persistent.create(ctx, c)
	}
	return &ps.CreateResp{}, answer(ctx, err)
}

func (s *persistentService) readCreate(o *ps.CreateReq_Options) (*settings, error) {
	c := &settings{}
	var err error
	switch of := o.GetStreamOption().(type) {
	case *ps.CreateReq_Options_All:
		if c.source, err = newSource(true, nil, o.GetGroupName()); err == nil {
			if err = c.startOfAll(of.All); err == nil {
				err = c.readFilter(of.All.GetFilter())
			}
		}
	case *ps.CreateReq_Options_Stream:
		if c.source, err = newStreamSource(of.Stream.GetStreamIdentifier(), o.GetGroupName()); err == nil {
			err = c.startOfStream(of.Stream, "CreateReq")
		}
	default: // a client from before version 21
		//lint:ignore SA1019 it is what such a client sends
		if c.source, err = newStreamSource(o.GetStreamIdentifier(), o.GetGroupName()); err == nil {
			//lint:ignore SA1019 it is what an old client sends
			c.start, err = fromRevision(o.GetSettings().GetRevision())
		}
	}
	if err == nil {
		err = c.checkNames(o.GetSettings() != nil)
	}
	if err != nil {
		return nil, err
	}
	strategy := o.GetSettings().GetConsumerStrategy()
	if strategy == "" {
		//lint:ignore SA1019 the client sends no other
		strategy = o.GetSettings().GetNamedConsumerStrategy().String()
	}
	c.read(o.GetSettings(), strategy)
	return c, nil
}

// Update replaces the settings of a group.
func (s *persistentService) Update(ctx context.Context, req *ps.UpdateReq) (*ps.UpdateResp, error) {
	c, err := s.readUpdate(req.GetOptions())
	if err == nil {
		err = s.node.persistent.update(ctx, c)
	}
	return &ps.UpdateResp{}, answer(ctx, err)
}

func (s *persistentService) readUpdate(o *ps.UpdateReq_Options) (*settings, error) {
	c := &settings{}
	var err error
	switch of := o.GetStreamOption().(type) {
	case *ps.UpdateReq_Options_All:
		if c.source, err = newSource(true, nil, o.GetGroupName()); err == nil {
			err = c.startOfAll(of.All)
		}
	case *ps.UpdateReq_Options_Stream:
		if c.source, err = newStreamSource(of.Stream.GetStreamIdentifier(), o.GetGroupName()); err == nil {
			err = c.startOfStream(of.Stream, "UpdateReq")
		}
	default:
		//lint:ignore SA1019 it is what an old client sends
		if c.source, err = newStreamSource(o.GetStreamIdentifier(), o.GetGroupName()); err == nil {
			//lint:ignore SA1019 it is what an old client sends
			c.start, err = fromRevision(o.GetSettings().GetRevision())
		}
	}
	if err == nil {
		err = c.checkNames(o.GetSettings() != nil)
	}
	if err != nil {
		return nil, err
	}
	c.read(o.GetSettings(), o.GetSettings().GetNamedConsumerStrategy().String())
	return c, nil
}

// checkNames refuses a request that says too little.
func (s *settings) checkNames(hasSettings bool) error {
	if !hasSettings {
		return invalid("The settings are missing.")
	}
	return nil
}

// streamStart and allStart are what the options of a create and those of an update have in common.
type streamStart interface {
	GetRevision() uint64
	GetStart() *shared.Empty
	GetEnd() *shared.Empty
}

type allStart interface {
	GetStart() *shared.Empty
	GetEnd() *shared.Empty
}

func (s *settings) startOfStream(o streamStart, req string) (err error) {
	switch {
	case o.GetStart() != nil:
	case o.GetEnd() != nil:
		s.start.end = true
	case hasRevision(o):
		s.start, err = fromRevision(o.GetRevision())
	default:
		err = unsetStart(req, "StreamOptions", "RevisionOption")
	}
	return err
}

func hasRevision(o streamStart) bool {
	switch o := o.(type) {
	case *ps.CreateReq_StreamOptions:
		return o.GetRevisionOption() != nil
	case *ps.UpdateReq_StreamOptions:
		return o.GetRevisionOption() != nil
	}
	return false
}

func (s *settings) startOfAll(o allStart) error {
	var at interface {
		GetCommitPosition() uint64
		GetPreparePosition() uint64
	}
	req, given := "CreateReq", false
	switch o := o.(type) {
	case *ps.CreateReq_AllOptions:
		at, given = o.GetPosition(), o.GetPosition() != nil
	case *ps.UpdateReq_AllOptions:
		at, given, req = o.GetPosition(), o.GetPosition() != nil, "UpdateReq"
	}
	switch {
	case o.GetStart() != nil:
	case o.GetEnd() != nil:
		s.start.end = true
	case given:
		return s.startAtPosition(at.GetCommitPosition(), at.GetPreparePosition())
	default:
		return unsetStart(req, "AllOptions", "AllOption")
	}
	return nil
}

// Delete ends a group and forgets how far it had come, and what it had parked.
func (s *persistentService) Delete(ctx context.Context, req *ps.DeleteReq) (*ps.DeleteResp, error) {
	o := req.GetOptions()
	source, err := requested(o.GetStreamOption() != nil, o.GetAll(), o.GetStreamIdentifier(), o.GetGroupName(), "DeleteReq")
	if err == nil && o.GetAll() == nil {
		err = source.checkStream()
	}
	if err == nil {
		err = s.node.persistent.delete(ctx, source)
	}
	return &ps.DeleteResp{}, answer(ctx, err)
}

// GetInfo tells how a group is.
func (s *persistentService) GetInfo(ctx context.Context, req *ps.GetInfoReq) (*ps.GetInfoResp, error) {
	o := req.GetOptions()
	source, err := requested(o.GetStreamOption() != nil, o.GetAll(), o.GetStreamIdentifier(), o.GetGroupName(), "GetInfoReq")
	resp := &ps.GetInfoResp{}
	if err == nil {
		err = s.with(source, func(g *group) (err error) {
			resp.SubscriptionInfo, err = g.info()
			return err
		})
	}
	return resp, answer(ctx, err)
}

// List tells how the groups of a stream are, or all groups.
func (s *persistentService) List(ctx context.Context, req *ps.ListReq) (*ps.ListResp, error) {
	p := s.node.persistent
	p.change.RLock()
	defer p.change.RUnlock()
	list := p.all()
	if one, ok := req.GetOptions().GetListOption().(*ps.ListReq_Options_ListForStream); ok {
		o := one.ListForStream
		source, err := requested(o.GetStreamOption() != nil, o.GetAll(), o.GetStream(), "", "ListReq")
		if err != nil {
			return nil, answer(ctx, err)
		}
		had := false
		if list, had = p.of(source.stream); !had {
			return nil, answer(ctx, groupMissing(source))
		}
	} else if req.GetOptions().GetListAllSubscriptions() == nil {
		return nil, answer(ctx, invalid("'None' is not a valid EventStore.Client.PersistentSubscriptions.ListReq+Types+Options+ListOptionOneofCase"))
	}
	resp := &ps.ListResp{}
	for _, g := range list {
		info, err := g.info()
		if err != nil {
			return nil, answer(ctx, err)
		}
		resp.Subscriptions = append(resp.Subscriptions, info)
	}
	return resp, nil
}

// ReplayParked sends parked events again. It does not wait for that.
func (s *persistentService) ReplayParked(ctx context.Context, req *ps.ReplayParkedReq) (*ps.ReplayParkedResp, error) {
	o := req.GetOptions()
	source, err := requested(o.GetStreamOption() != nil, o.GetAll(), o.GetStreamIdentifier(), o.GetGroupName(), "ReplayParkedReq")
	stopAt := int64(math.MaxInt64)
	if limit, limited := o.GetStopAtOption().(*ps.ReplayParkedReq_Options_StopAt); limited {
		stopAt = limit.StopAt
	}
	switch {
	case err != nil:
	case stopAt < 0:
		err = groupFailed(source, "Cannot stop replaying parked message at a negative version.")
	default:
		err = s.with(source, func(g *group) error { return g.startReplay(stopAt) })
	}
	return &ps.ReplayParkedResp{}, answer(ctx, err)
}

// RestartSubsystem drops all consumers and lets all groups begin anew at their checkpoints.
func (s *persistentService) RestartSubsystem(ctx context.Context, _ *shared.Empty) (*shared.Empty, error) {
	return empty, answer(ctx, s.node.persistent.restart())
}

// with does something with a group that nobody changes meanwhile.
func (s *persistentService) with(source source, do func(*group) error) error {
	p := s.node.persistent
	p.change.RLock()
	defer p.change.RUnlock()
	g, err := p.find(source)
	if err != nil {
		return err
	}
	return do(g)
}

func requested(given bool, all *shared.Empty, stream *shared.StreamIdentifier, group, req string) (source, error) {
	if !given {
		return source{}, noStream(req)
	}
	return newSource(all != nil, stream, group)
}

func noStream(req string) error {
	return invalid("'None' is not a valid EventStore.Client.PersistentSubscriptions.%s+Types+Options+StreamOptionOneofCase", req)
}

func groupFailure(s source, code codes.Code, exception, text string, more ...string) error {
	trailer := metadata.Pairs(append([]string{"exception", exception, "stream-name", headerText(s.stream)}, more...)...)
	if s.group != "" {
		trailer.Set("group-name", headerText(s.group))
	}
	return &failure{code, text, trailer}
}

func groupExists(s source) error {
	return groupFailure(s, codes.AlreadyExists, "persistent-subscription-exists", "Subscription group "+s.group+" on stream "+s.stream+" exists.")
}

func groupMissing(s source) error {
	return groupFailure(s, codes.NotFound, "persistent-subscription-does-not-exist", "Subscription group "+s.group+" on stream "+s.stream+" does not exist.")
}

func groupFailed(s source, reason string) error {
	return groupFailure(s, codes.Internal, "persistent-subscription-failed",
		"Subscription group "+s.group+" on stream "+s.stream+" failed: '"+reason+"'", "reason", headerText(reason))
}

func groupFull(s source) error {
	return groupFailure(s, codes.FailedPrecondition, "maximum-subscribers-reached", "Maximum subscriptions reached for subscription group "+s.group+" on stream "+s.stream+".")
}

func groupDropped(s source) error {
	return groupFailure(s, codes.Canceled, "persistent-subscription-dropped", "Subscription group "+s.group+" on stream "+s.stream+" was dropped.")
}
