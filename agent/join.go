package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"time"

	"connectrpc.com/connect"

	"github.com/tenure-dev/tenure/agent/protocol/agentv1"
)

// joinIfNeeded joins with a token that has not been used here before. The same token given again at every start, as
// service files do, is no new join.
func (a *Agent) joinIfNeeded(ctx context.Context) error {
	joined := a.settings.PlaneID
	switch {
	case a.token == nil && joined == "":
		return failf(CodeInvalid, nil, "the agent has not joined a plane yet: give it a join token")
	case a.token == nil && !a.identityIsJoined():
		return failf(CodeUnauthenticated, nil, "the agent's identity is not the one that joined %s: join again with a new token", joined)
	case a.token == nil, tokenHash(a.token.Text()) == a.settings.JoinedWith && a.identityIsJoined():
		return nil
	case joined != "" && joined != a.token.PlaneID:
		return failf(CodeConflict, nil, "%s belongs to %s, and the token is of %s: give the agent another directory",
			a.cfg.Dir, joined, a.token.PlaneID)
	}
	return a.join(ctx)
}

// join repeats the same request until it is answered or refused: a repeated join of one key is one join.
func (a *Agent) join(ctx context.Context) error {
	var ca *x509.Certificate
	gateway := a.connectPinned(a.token.Fingerprint, func(c *x509.Certificate) { ca = c })
	defer gateway.close()
	request := &agentv1.JoinRequest{
		PlaneId:      a.token.PlaneID,
		TokenSecret:  a.token.Secret[:],
		PublicKey:    a.publicKey(),
		AgentVersion: a.cfg.Version,
		Driver:       a.cfg.DriverName,
	}
	for failures := 1; ; failures++ {
		once, cancel := context.WithTimeout(ctx, 30*time.Second)
		answer, err := gateway.Join(once, connect.NewRequest(request))
		cancel()
		if err == nil {
			return a.joined(answer.Msg, ca)
		}
		if refused := refusedJoin(err); refused != nil {
			return refused
		}
		delay := a.cfg.Reconnect.delay(failures)
		a.log.Warn("joining failed, trying again", "in", delay, "error", err)
		if !pause(ctx, delay) {
			return ctx.Err()
		}
	}
}

// refusedJoin is nil when asking again may help.
func refusedJoin(err error) *Error {
	if errors.Is(err, errPin) {
		return failf(CodeUnauthenticated, err, "the agent will not join")
	}
	switch connect.CodeOf(err) {
	case connect.CodeUnauthenticated, connect.CodePermissionDenied:
		return failf(CodeUnauthenticated, err, "the gateway refuses the join token: it is wrong, expired or used; get a new one")
	case connect.CodeNotFound:
		return failf(CodeUnauthenticated, err, "the gateway does not know the token's plane")
	case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeUnimplemented, connect.CodeAlreadyExists:
		return failf(CodeInvalid, err, "the gateway refuses to join this agent")
	default:
		return nil
	}
}

func (a *Agent) joined(answer *agentv1.JoinResponse, ca *x509.Certificate) error {
	if answer.GetPlaneId() != a.token.PlaneID {
		return failf(CodeUnauthenticated, nil, "the gateway joins the agent to %q, and the token is of %s", answer.GetPlaneId(), a.token.PlaneID)
	}
	epoch := epochOf(answer.GetEpoch())
	if err := a.noteEpoch(epoch); err != nil {
		return err
	}
	a.settings.PlaneID = a.token.PlaneID
	a.settings.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}))
	a.settings.JoinedWith = tokenHash(a.token.Text())
	a.settings.JoinedKey = hex.EncodeToString(a.publicKey())
	if err := a.settings.save(a.cfg.Dir); err != nil {
		return err
	}
	a.log.Info("joined", "plane", a.settings.PlaneID, "epoch", epoch.Number)
	return nil
}

// noteEpoch refuses an epoch lower than one seen before, and remembers a new one at the next save.
func (a *Agent) noteEpoch(epoch Epoch) error {
	seen := a.settings.Epoch
	switch {
	case epoch.Number < 1 || epoch.ID == "":
		return errors.New("the gateway named no epoch")
	case epoch.Number < seen.Number:
		return failf(CodeStale, nil,
			"the gateway's log is in epoch %d, and this agent has seen epoch %d: it follows an older copy of the log", epoch.Number, seen.Number)
	}
	a.settings.Epoch = epoch
	return nil
}

func epochOf(e *agentv1.Epoch) Epoch { return Epoch{Number: e.GetNumber(), ID: e.GetId()} }

func (a *Agent) publicKey() ed25519.PublicKey { return a.key.Public().(ed25519.PublicKey) }

// identityIsJoined is false after the identity was lost and made anew.
func (a *Agent) identityIsJoined() bool {
	return a.settings.JoinedKey == hex.EncodeToString(a.publicKey())
}

func tokenHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
