package agent

import (
	"context"
	"slices"

	"github.com/tenure-dev/tenure/agent/protocol/agentv1"
)

// takeInventory reports the tenants that are on the plane and unknown to the log, once a process and after each resync.
// They are kept: absent never means delete. It asks until the plane answers or the session ends, then closes counted.
func (a *Agent) takeInventory(ctx context.Context, s *session) (counted <-chan struct{}) {
	ended := make(chan struct{})
	a.mu.Lock()
	due := a.inventoryDue
	a.mu.Unlock()
	if !due {
		close(ended)
		return ended
	}
	go func() {
		defer close(ended)
		for failures := 1; ; failures++ {
			unclaimed, err := a.unclaimed(ctx)
			if err == nil {
				a.mu.Lock()
				a.inventoryDue = false
				a.mu.Unlock()
				if len(unclaimed) > 0 {
					a.log.Warn("the plane has tenants that the log does not know; they are kept", "tenants", unclaimed)
				}
				s.outbox.put(&agentv1.AgentMessage{Message: &agentv1.AgentMessage_Unclaimed{Unclaimed: &agentv1.Unclaimed{TenantIds: unclaimed}}})
				return
			}
			delay := a.cfg.Reconnect.delay(failures)
			a.log.Warn("the plane's inventory failed, trying again", "in", delay, "error", err)
			if !pause(ctx, delay) {
				return
			}
		}
	}()
	return ended
}

// unclaimed looks at the plane first and at the journal then, so that a tenant that is just being made is known.
func (a *Agent) unclaimed(ctx context.Context) ([]string, error) {
	observed, err := a.cfg.Driver.Observe(ctx)
	if err != nil {
		return nil, err
	}
	var unclaimed []string
	a.journal.look(func(s *journalState) {
		for _, o := range observed {
			if _, known := s.Tenants[o.TenantID]; !known {
				unclaimed = append(unclaimed, o.TenantID)
			}
		}
	})
	slices.Sort(unclaimed)
	return unclaimed, nil
}
