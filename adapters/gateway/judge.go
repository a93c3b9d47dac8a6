package gateway

import (
	"context"
	"fmt"
	"time"

	"github.com/tenure-dev/tenure/domain/plane"
)

// After so many heartbeat intervals without a sign an agent's state is unknown, then offline.
const (
	unknownAfter = 3
	offlineAfter = 6
)

// sign notes a sign of life.
func (g *Gateway) sign(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if last := g.seen[s.plane]; last.session <= s.number {
		g.seen[s.plane] = contact{s.number, g.Clock.Now()}
	}
}

// alive judges an agent online that has all that it needs and beats.
func (g *Gateway) alive(ctx context.Context, s *session) {
	select {
	case <-s.resynced:
		g.judge(ctx, s.plane, s.number, plane.Online)
	default:
	}
}

// judgeForEver looks at every plane twice in a heartbeat interval, and judges nobody in the first whole one.
func (g *Gateway) judgeForEver(ctx context.Context) {
	since := g.Clock.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.Clock.After(g.Heartbeat / 2):
		}
		now := g.Clock.Now()
		if now.Sub(since) < g.Heartbeat {
			continue
		}
		planes, err := g.Planes(ctx)
		if err != nil {
			if ctx.Err() == nil {
				g.Logger.Warn("the planes are not known, so no agent is judged", "error", err)
			}
			continue
		}
		for _, id := range planes {
			g.mu.Lock()
			last, seen := g.seen[id]
			g.mu.Unlock()
			if !seen {
				last.at = since
			}
			g.silence(ctx, id, last, now.Sub(last.at))
		}
	}
}

// silence judges an agent that has not been heard for so long.
func (g *Gateway) silence(ctx context.Context, id string, last contact, quiet time.Duration) {
	verdict := plane.Unknown
	switch {
	case quiet < unknownAfter*g.Heartbeat:
		return
	case quiet >= offlineAfter*g.Heartbeat:
		verdict = plane.Offline
	}
	state, _, err := g.state(ctx, id)
	switch {
	case err != nil || state.Agent.Session == 0 || last.session != 0 && state.Agent.Session != last.session:
		return // nobody to judge, or somebody whom another gateway hears
	case state.Agent.State == verdict || state.Agent.State == plane.Offline:
		return
	}
	g.judge(ctx, id, state.Agent.Session, verdict)
}

func (g *Gateway) judge(ctx context.Context, id string, session int64, verdict plane.AgentState) {
	state, revision, err := g.state(ctx, id)
	if err != nil || state.Agent.Session != session || state.Agent.State == verdict {
		return
	}
	c := plane.Judge{PlaneID: id, Session: session, State: verdict}
	if _, err := g.do(ctx, c, "judge", id, fmt.Sprint(session), string(verdict), fmt.Sprint(revision)); err != nil && ctx.Err() == nil {
		g.Logger.Warn("an agent was not judged", "plane", id, "session", session, "state", verdict, "error", err)
		return
	}
	g.Logger.Info("an agent was judged", "plane", id, "session", session, "state", verdict)
}
