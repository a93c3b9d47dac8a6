package graphql

import (
	"context"
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/graphql/generated"
	"github.com/tenure-dev/tenure/graphql/view"
)

// joinTokenLife is how long an agent may take to join.
const joinTokenLife = time.Hour

func (m mutation) RegisterPlane(ctx context.Context, in generated.RegisterPlaneInput) (*view.PlanePayload, error) {
	capacity, err1 := units("capacity", in.Capacity)
	labels, err2 := labelsOf(in.Labels)
	if err := domain.FirstError(err1, err2); err != nil {
		mend, err := userErrors(err, "")
		return &view.PlanePayload{Answer: view.Answer{UserErrors: mend}}, err
	}
	isolations := make([]string, len(in.Isolations))
	for i, each := range in.Isolations {
		isolations[i] = word(&each)
	}
	return m.plane(ctx, plane.Register{Registration: plane.Registration{Name: text(in.Name), Region: text(in.Region), Cloud: text(in.Cloud),
		Account: word(in.Account), Labels: labels, Capacity: capacity, Isolations: isolations}},
		form{key: in.IdempotencyKey, expected: in.ExpectedRevision})
}

func (m mutation) CordonPlane(ctx context.Context, in generated.CordonPlaneInput) (*view.PlanePayload, error) {
	return m.plane(ctx, plane.Cordon{PlaneID: in.PlaneID, Reason: domain.Clear(text(in.Reason))},
		form{in.IdempotencyKey, in.ExpectedRevision, "planeId"})
}

func (m mutation) UncordonPlane(ctx context.Context, in generated.UncordonPlaneInput) (*view.PlanePayload, error) {
	return m.plane(ctx, plane.Uncordon{PlaneID: in.PlaneID, Reason: domain.Clear(text(in.Reason))},
		form{in.IdempotencyKey, in.ExpectedRevision, "planeId"})
}

func (m mutation) plane(ctx context.Context, c domain.Command, f form) (*view.PlanePayload, error) {
	o, answer, err := m.do(ctx, c, f)
	return &view.PlanePayload{Answer: answer, ID: o.ID}, err
}

// CreateJoinToken answers the token only if the log holds the hash of this very one: a repeat draws another, which is void.
func (m mutation) CreateJoinToken(ctx context.Context, in generated.CreateJoinTokenInput) (*view.TokenPayload, error) {
	token, hash, err := m.Tokens.NewJoinToken(in.PlaneID)
	if err != nil {
		return nil, err
	}
	o, answer, err := m.do(ctx, plane.IssueJoinToken{PlaneID: in.PlaneID, Hash: hash, Life: joinTokenLife},
		form{in.IdempotencyKey, in.ExpectedRevision, "planeId"})
	p := &view.TokenPayload{PlanePayload: view.PlanePayload{Answer: answer, ID: o.ID}}
	for _, e := range o.Events {
		if issued, ok := e.Payload.(plane.JoinTokenIssued); ok {
			p.ExpiresAt = &issued.ExpiresAt
			if issued.Hash == hash {
				p.Token = &token
			}
		}
	}
	return p, err
}

func labelsOf(list []*view.Label) (map[string]string, error) {
	if list == nil {
		return nil, nil
	}
	all := make(map[string]string, len(list))
	for _, l := range list {
		if _, twice := all[l.Key]; twice {
			return nil, domain.Invalid("labels", "must not name a key twice")
		}
		all[l.Key] = l.Value
	}
	return all, nil
}
