package eventnode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/tenure-dev/tenure/adapters/eventnode/operations"
)

// scavenges runs them, one at a time.
type scavenges struct {
	node  *Node
	mu    sync.Mutex
	now   *scavenge // nil if none is under way
	ended bool
	runs  sync.WaitGroup
}

const (
	scavengesPrefix = "$scavenges-"
	// scavengeHistory is how long what was written about a scavenge shows.
	scavengeHistory = `{"$maxAge":2592000}`
)

// start begins a scavenge, or returns the one that is under way.
func (s *scavenges) start() (run *scavenge, begun bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return nil, false, notReady()
	case s.now != nil:
		return s.now, false, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	run = &scavenge{node: s.node, id: uuid.NewString(), cancel: cancel, over: make(chan struct{})}
	s.now = run
	s.runs.Go(func() {
		defer cancel()
		s.watch(ctx, run)
	})
	return run, true, nil
}

// watch runs a scavenge and tells how it went: in the log of the process, and in a stream of its own, as a real server does.
func (s *scavenges) watch(ctx context.Context, run *scavenge) {
	defer close(run.over)
	n := s.node
	begun := n.now()
	n.logger.Info("scavenge begins", "scavenge", run.id)
	err := run.tell(ctx, "$scavengeStarted", map[string]any{"scavengeId": run.id, "nodeEndpoint": n.Addr().String(), "startFromChunk": 0, "threads": 1})
	if err == nil {
		err = run.run(ctx)
	}
	took := n.now().Sub(begun)
	s.mu.Lock()
	s.now = nil
	s.mu.Unlock()
	result, text := "Success", ""
	switch {
	case errors.Is(err, context.Canceled):
		result = "Stopped"
	case err != nil:
		result, text = "Errored", err.Error()
	}
	n.logger.Info("scavenge ends", append(run.progress(), "result", result, "error", text, "took", took)...)
	err = run.tell(context.WithoutCancel(ctx), "$scavengeCompleted", map[string]any{"scavengeId": run.id, "nodeEndpoint": n.Addr().String(),
		"result": result, "error": text, "timeTaken": span24(took), "spaceSaved": run.bytes.Load(), "eventsRemoved": run.events.Load()})
	if err != nil {
		n.logger.Error("the end of a scavenge is not written down", "scavenge", run.id, "err", err)
	}
}

// tell writes an event about the scavenge.
func (s *scavenge) tell(ctx context.Context, typ string, fields map[string]any) error {
	stream := scavengesPrefix + s.id
	data, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	if typ == "$scavengeStarted" {
		if _, err := s.node.writer.submit(ctx, appendOf(metastreamOf(stream), proposedEvent{typ: metadataType, json: true, data: []byte(scavengeHistory)})); err != nil {
			return err
		}
	}
	_, err = s.node.writer.submit(ctx, appendOf(stream, proposedEvent{typ: typ, json: true, data: data}))
	return err
}

// span24 is a duration as the protocol's servers print it.
func span24(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d:%02d.%07d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60, d%time.Second/100)
}

// stop ends the scavenge of that id.
func (s *scavenges) stop(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil || s.now.id != id {
		return false
	}
	s.now.cancel()
	return true
}

// underWay is how many there are, 0 or 1.
func (s *scavenges) underWay() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil {
		return 0
	}
	return 1
}

// end stops what is under way and waits for it.
func (s *scavenges) end() {
	s.mu.Lock()
	s.ended = true
	if s.now != nil {
		s.now.cancel()
	}
	s.mu.Unlock()
	s.runs.Wait()
}

// upkeepService is the Operations service.
type upkeepService struct{ node *Node }

// StartScavenge begins a scavenge of the whole log: there are no chunks to begin at, and one goroutine is all it takes.
func (s *upkeepService) StartScavenge(ctx context.Context, req *operations.StartScavengeReq) (*operations.ScavengeResp, error) {
	switch o := req.GetOptions(); {
	case o.GetThreadCount() < 0:
		return nil, answer(ctx, invalid("thread_count must not be negative."))
	case o.GetStartFromChunk() < 0:
		return nil, answer(ctx, invalid("start_from_chunk must not be negative."))
	}
	run, begun, err := s.node.scavenges.start()
	if err != nil {
		return nil, answer(ctx, err)
	}
	result := operations.ScavengeResp_InProgress
	if begun {
		result = operations.ScavengeResp_Started
	}
	return &operations.ScavengeResp{ScavengeId: run.id, ScavengeResult: result}, nil
}

// StopScavenge ends a scavenge early.
func (s *upkeepService) StopScavenge(ctx context.Context, req *operations.StopScavengeReq) (*operations.ScavengeResp, error) {
	id := req.GetOptions().GetScavengeId()
	if !s.node.scavenges.stop(id) {
		return nil, answer(ctx, &failure{codes.NotFound, "Scavenge id was invalid.", metadata.Pairs("exception", "scavenge-not-found", "scavenge-id", headerText(id))})
	}
	return &operations.ScavengeResp{ScavengeId: id, ScavengeResult: operations.ScavengeResp_Stopped}, nil
}
