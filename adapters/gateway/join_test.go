package gateway

import (
	"bytes"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tenure-dev/tenure/agent/protocol"
	"github.com/tenure-dev/tenure/agent/protocol/agentv1"
	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/plane"
)

func TestJoin(t *testing.T) {
	h := newHouse(t)
	token, key := h.token(), newKey()
	wrong := token.Secret
	wrong[0]++
	refused := func(what string, secret []byte, want connect.Code) {
		t.Helper()
		if err := h.join(secret, newKey()); codeOf(err) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("a wrong secret", wrong[:], connect.CodeUnauthenticated)
	refused("half a secret", token.Secret[:16], connect.CodeInvalidArgument)
	for range 2 {
		if err := h.join(token.Secret[:], key); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.log.count(t, is[plane.AgentJoined](nil)); n != 1 {
		t.Errorf("joined %d times", n)
	}
	refused("a used token", token.Secret[:], connect.CodeUnauthenticated)

	late := h.token()
	h.clock.advance(t, time.Hour)
	refused("an expired token", late.Secret[:], connect.CodeUnauthenticated)

	again, other := h.token(), newKey()
	if err := h.join(again.Secret[:], other); err != nil {
		t.Fatal(err)
	}
	k := h.dial()
	k.hello(pln, key, key, nil)
	k.stopped(protocol.StopUnknownIdentity)
	h.session(other)
}

func TestJoinOfAnUnknownPlane(t *testing.T) {
	h := newHouse(t)
	token := h.token()
	_, err := h.client().Join(t.Context(), connect.NewRequest(&agentv1.JoinRequest{PlaneId: domain.ID(domain.PlaneID, domain.DeriveUUID("nowhere")),
		TokenSecret: token.Secret[:], PublicKey: public(newKey())}))
	if codeOf(err) != connect.CodeNotFound {
		t.Error(err)
	}
	h.log.down.Store(true)
	if err := h.join(token.Secret[:], newKey()); codeOf(err) != connect.CodeUnavailable {
		t.Errorf("while the log is away: %v", err)
	}
}

func TestHelloIsChecked(t *testing.T) {
	h := newHouse(t)
	key := h.joined()
	for name, tc := range map[string]struct {
		hello func(k *talk)
		code  string
	}{
		"another's signature": {func(k *talk) { k.hello(pln, key, newKey(), nil) }, protocol.StopBadSignature},
		"another nonce":       {func(k *talk) { k.nonce = bytes.Repeat([]byte{1}, 32); k.hello(pln, key, key, nil) }, protocol.StopBadSignature},
		"another key":         {func(k *talk) { other := newKey(); k.hello(pln, other, other, nil) }, protocol.StopUnknownIdentity},
		"no plane's id":       {func(k *talk) { k.hello("pln_x", key, key, nil) }, protocol.StopUnknownIdentity},
		"an unknown plane":    {func(k *talk) { k.hello(domain.ID(domain.PlaneID, domain.DeriveUUID("no")), key, key, nil) }, protocol.StopUnknownIdentity},
		"the log away":        {func(k *talk) { h.log.down.Store(true); k.hello(pln, key, key, nil) }, protocol.StopUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			k := h.dial()
			tc.hello(k)
			k.stopped(tc.code)
			h.log.down.Store(false)
		})
	}
	t.Run("no Hello", func(t *testing.T) {
		k := h.dial()
		k.heartbeat()
		if m, err := k.stream.Receive(); codeOf(err) != connect.CodeInvalidArgument {
			t.Error(m, err)
		}
	})
	if n := h.log.count(t, is[plane.SessionOpened](nil)); n != 0 {
		t.Errorf("%d sessions were opened", n)
	}
}

func TestTheCAComesOutTheSame(t *testing.T) {
	clock := newHandClock()
	seed := bytes.Repeat([]byte{7}, 32)
	one, err := NewCA(seed, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	clock.now = clock.now.Add(1000 * time.Hour)
	two, _ := NewCA(seed, clock.Now)
	other, _ := NewCA(bytes.Repeat([]byte{8}, 32), clock.Now)
	if protocol.CAFingerprint(one.Certificate) != protocol.CAFingerprint(two.Certificate) {
		t.Error("the same seed made two CAs")
	}
	if protocol.CAFingerprint(one.Certificate) == protocol.CAFingerprint(other.Certificate) {
		t.Error("two seeds made one CA")
	}
	if _, err := NewCA(seed[:31], clock.Now); err == nil {
		t.Error("a short seed was taken")
	}
}

func TestTheLeafIsRenewed(t *testing.T) {
	clock := newHandClock()
	ca, err := NewCA(make([]byte, 32), clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	serials := map[string]bool{}
	for range 90 { // days
		c, err := ca.TLS().GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Leaf.CheckSignatureFrom(ca.Certificate); err != nil {
			t.Fatal(err)
		}
		if err := c.Leaf.VerifyHostname(protocol.ServerName); err != nil {
			t.Fatal(err)
		}
		if left := c.Leaf.NotAfter.Sub(clock.Now()); left < leafLife/3-time.Second || clock.Now().Before(c.Leaf.NotBefore) {
			t.Fatalf("a leaf with %v left", left)
		}
		serials[c.Leaf.SerialNumber.String()] = true
		clock.now = clock.now.Add(24 * time.Hour)
	}
	if len(serials) != 5 { // one in 20 days
		t.Errorf("%d leaves in 90 days", len(serials))
	}
}
