package agent

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenure-dev/tenure/agent/protocol"
	"github.com/tenure-dev/tenure/agent/protocol/agentv1"
	"github.com/tenure-dev/tenure/agent/protocol/agentv1/agentv1connect"
)

func TestHeartbeatsComeAtOnceAndAtTheInterval(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gates := newGates("a1")
		k, _ := begin(t, gates.do)
		k.ask(op("a1", 51, provision, tenant(tenA)))
		synctest.Wait()
		for len(k.inbox) > 0 {
			<-k.inbox
		}
		began := time.Now()
		for range 3 {
			m := <-k.inbox
			if m.GetHeartbeat().GetInFlight() != 1 || m.GetHeartbeat().GetCursorRevision() != 51 || m.GetSession() != k.number {
				t.Errorf("heartbeat %v", m)
			}
		}
		wantSame(t, "time of three", 15*time.Second, time.Since(began))
		close(gates["a1"])
		k.outcome()
	})
}

func TestTheAgentDialsAgainWhenTheGatewayDies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gates := newGates("a1")
		g, d := newGateway(t), &fakeDriver{do: gates.do}
		a := start(t, config(t, g, d))
		k := g.open(tenant(tenA))
		k.ask(op("a1", 51, resize, tenant(tenA)), op("a2", 52, resize, tenant(tenA)))
		synctest.Wait()
		wantSame(t, "connected in a session", true, a.Connected())
		g.die()
		k.hangUp()
		pause(t.Context(), 10*time.Minute) // on the bubble's clock; nothing listens
		wantSame(t, "connected without a gateway", false, a.Connected())
		close(gates["a1"])
		synctest.Wait()
		wantSame(t, "with the driver: what waits is not begun without a session", []string{"a1"}, d.ran())

		g.start()
		k = g.open()
		wantSame(t, "the journal's cursor", int64(51), k.hello.GetCursorRevision())
		wantSame(t, "outcome from the time without a gateway", "a1 done", summary(k.outcome()))
		k.ask(op("a1", 51, resize, tenant(tenA)), op("a2", 52, resize, tenant(tenA))) // open ones come in every session
		wantSame(t, "outcomes", []string{"a1 done", "a2 done"}, k.outcomes(2))
		wantSame(t, "with the driver", []string{"a1", "a2"}, d.ran())
		k.hangUp()
		a.stop()
	})
}

func TestASilentGatewayIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGateway(t)
		a := start(t, config(t, g, &fakeDriver{}))
		silent := g.meet() // and no Welcome
		k := g.open()
		silent.hangUp()
		k.hangUp()
		a.stop()
	})
}

func TestAnOutcomeIsSentAgainUntilItIsRecorded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		k, d := begin(t, nil)
		k.ask(op("a1", 51, provision, tenant(tenA)))
		first := k.outcome()
		began := time.Now()
		again := k.outcome()
		if waited := time.Since(began); waited < 15*time.Second || waited > 25*time.Second {
			t.Errorf("sent again after %s", waited)
		}
		wantSame(t, "finished", first.GetFinishedUnixMicros(), again.GetFinishedUnixMicros())
		k.record("a1")
		pause(t.Context(), time.Minute)
		k.quiet()
		wantSame(t, "with the driver", []string{"a1"}, d.ran())
	})
}

func TestStopEndsTheAgent(t *testing.T) {
	for code, want := range map[string]string{
		protocol.StopStaleSession:    CodeStale,
		protocol.StopUnknownIdentity: CodeUnauthenticated,
		protocol.StopBadSignature:    CodeUnauthenticated,
		protocol.StopUnsupported:     CodeUnavailable,
		"some_later_code":            CodeUnavailable,
	} {
		t.Run(code, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGateway(t)
				a := start(t, config(t, g, &fakeDriver{}))
				g.open().stop(code)
				wantCode(t, a.failed(), want)
			})
			bubble(t, func(t *testing.T) { // before Welcome, too
				g := newGateway(t)
				a := start(t, config(t, g, &fakeDriver{}))
				g.meet().stop(code)
				wantCode(t, a.failed(), want)
			})
		})
	}
}

func TestABusyGatewayIsDialledAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGateway(t)
		a := start(t, config(t, g, &fakeDriver{}))
		g.open().stop(protocol.StopUnavailable)
		g.open().hangUp()
		a.stop()
	})
}

func TestWhatBelongsToAnOlderSessionIsIgnored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, d := newGateway(t), &fakeDriver{}
		g.number = 4
		a := start(t, config(t, g, d))
		k := g.open()
		k.send(&agentv1.GatewayMessage{Session: 4, Message: &agentv1.GatewayMessage_Operation{Operation: op("late", 51, provision, tenant(tenA))}})
		k.ask(op("a1", 52, provision, tenant(tenA)))
		wantSame(t, "outcome", "a1 done", summary(k.outcome()))
		wantSame(t, "with the driver", []string{"a1"}, d.ran())
		k.hangUp()
		a.stop()
	})
}

func TestStoppingEndsWhatRunsWithoutAnOutcome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gates := newGates("a1")
		g, d := newGateway(t), &fakeDriver{do: gates.do}
		cfg := config(t, g, d)
		a := start(t, cfg)
		k := g.open()
		k.ask(op("a1", 51, provision, tenant(tenA)))
		synctest.Wait()
		a.stop()

		a = start(t, cfg)
		k = g.open()
		k.quiet()
		close(gates["a1"])
		k.ask(op("a1", 51, provision, tenant(tenA)))
		wantSame(t, "outcome", "a1 done", summary(k.outcome()))
		wantSame(t, "with the driver", []string{"a1", "a1"}, d.ran())
		k.hangUp()
		a.stop()
	})
}

// The one test on a real network.
func TestASessionOverTCP(t *testing.T) {
	g := &testGateway{t: t, authority: newAuthority(t), talks: make(chan *talk), epoch: epoch1}
	mux := http.NewServeMux()
	mux.Handle(agentv1connect.NewAgentServiceHandler(g))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		Handler: mux, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), ReadHeaderTimeout: time.Second,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{g.leaf}, MinVersion: tls.VersionTLS13},
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.ServeTLS(listener, "", "")
	}()
	defer func() {
		_ = server.Close()
		<-served
	}()

	d := &fakeDriver{}
	cfg := config(t, g, d)
	cfg.Dial, cfg.GatewayURL = nil, "https://"+listener.Addr().String()
	a := start(t, cfg)
	k := g.open()
	k.ask(op("a1", 51, provision, tenant(tenA)))
	wantSame(t, "outcome", "a1 done", summary(k.outcome()))
	a.stop()
	k.hangUp()
}
