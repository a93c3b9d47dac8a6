package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"

	"github.com/tenure-dev/tenure/agent/protocol/agentv1"
)

func TestJoining(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, d := newGateway(t), &fakeDriver{}
		cfg := config(t, g, d)
		cfg.Capabilities, cfg.DriverOptions = []string{"silo"}, map[string]string{"postgres": "postgresql://plane"}
		a := start(t, cfg)
		k := g.meet()
		join := g.joins[0]
		if join.GetPlaneId() != plane || len(join.GetTokenSecret()) != 32 || join.GetDriver() != "fake" || join.GetAgentVersion() != "test" {
			t.Errorf("join %v", join)
		}
		wantSame(t, "public key", join.GetPublicKey(), k.hello.GetPublicKey())
		wantSame(t, "plane", plane, k.hello.GetPlaneId())
		wantSame(t, "capabilities", []string{"silo"}, k.hello.GetCapabilities())
		if k.hello.GetJournalEpoch() != nil || k.hello.GetCursorRevision() != -1 {
			t.Errorf("an agent without a journal says %v, %d", k.hello.GetJournalEpoch(), k.hello.GetCursorRevision())
		}
		k.hangUp()
		a.stop()

		s, err := LoadSettings(cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, "saved plane", plane, s.PlaneID)
		wantSame(t, "saved driver", "fake", s.Driver)
		wantSame(t, "saved options", cfg.DriverOptions, s.DriverOptions)
		for _, name := range []string{settingsFile, identityFile} {
			info, err := os.Stat(filepath.Join(cfg.Dir, name))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}

		again := start(t, cfg) // the same token at every start joins once
		g.meet().hangUp()
		again.stop()
		cfg.JoinToken, cfg.GatewayURL = "", ""
		bare := start(t, cfg)
		g.meet().hangUp()
		bare.stop()
		wantSame(t, "joins", 1, len(g.joins))
	})
}

func TestAnotherGatewayThanTheTokensIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(g *testGateway, cfg *Config){
		"another CA": func(_ *testGateway, cfg *Config) { cfg.JoinToken = newAuthority(t).token() },
		"no CA": func(g *testGateway, _ *Config) {
			g.server.TLSConfig.Certificates[0].Certificate = g.leaf.Certificate[:1]
		},
		"the CA beside a leaf that it did not sign": func(g *testGateway, _ *Config) {
			other := newAuthority(t).leaf
			other.Certificate = [][]byte{other.Certificate[0], g.ca.Raw}
			g.server.TLSConfig.Certificates[0] = other
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGateway(t)
				g.die()
				cfg := config(t, g, &fakeDriver{})
				g.prepare()
				spoil(g, &cfg)
				g.serve()
				err := start(t, cfg).failed()
				wantCode(t, err, CodeUnauthenticated)
				if !errors.Is(err, errPin) || len(g.joins) > 0 {
					t.Errorf("err %v, %d joins", err, len(g.joins))
				}
			})
		})
	}
}

func TestARefusedJoinIsFinalAndOtherFailuresAreNot(t *testing.T) {
	for code, want := range map[connect.Code]string{
		connect.CodeUnauthenticated:    CodeUnauthenticated,
		connect.CodePermissionDenied:   CodeUnauthenticated,
		connect.CodeNotFound:           CodeUnauthenticated,
		connect.CodeInvalidArgument:    CodeInvalid,
		connect.CodeFailedPrecondition: CodeInvalid,
	} {
		t.Run(code.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGateway(t)
				g.join = func(*agentv1.JoinRequest) error { return connect.NewError(code, errors.New("no")) }
				wantCode(t, start(t, config(t, g, &fakeDriver{})).failed(), want)
			})
		})
	}
	t.Run("unavailable, then well", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			g := newGateway(t)
			g.join = func(*agentv1.JoinRequest) error {
				if len(g.joins) < 3 {
					return connect.NewError(connect.CodeUnavailable, errors.New("starting"))
				}
				return nil
			}
			a := start(t, config(t, g, &fakeDriver{}))
			k := g.meet()
			for _, join := range g.joins { // a lost answer costs nothing: the key stays the same
				wantSame(t, "key", k.hello.GetPublicKey(), join.GetPublicKey())
			}
			k.hangUp()
			a.stop()
		})
	})
}

func TestALostIdentityJoinsAgainWithANewTokenAndKeepsTheJournal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, d := newGateway(t), &fakeDriver{}
		cfg := config(t, g, d)
		a := start(t, cfg)
		k := g.open(tenant(tenA))
		k.hangUp()
		a.stop()
		if err := os.Remove(filepath.Join(cfg.Dir, identityFile)); err != nil {
			t.Fatal(err)
		}

		bare := cfg
		bare.JoinToken = ""
		wantCode(t, start(t, bare).failed(), CodeUnauthenticated)

		cfg.JoinToken = g.token()
		a = start(t, cfg)
		k = g.meet()
		wantSame(t, "joins", 2, len(g.joins))
		wantSame(t, "journal's epoch", "one", k.hello.GetJournalEpoch().GetId())
		k.hangUp()
		a.stop()
	})
}

func TestADirectoryBelongsToOnePlaneAndOneAgent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGateway(t)
		cfg := config(t, g, &fakeDriver{})
		a := start(t, cfg)
		k := g.open()
		wantCode(t, start(t, cfg).failed(), CodeConflict)
		k.hangUp()
		a.stop()

		other := cfg
		other.JoinToken = "tjt1.pln_bbbbbbbbbbbbbbbbbbbbbbbbbb" + g.token()[len("tjt1.")+len(plane):]
		wantCode(t, start(t, other).failed(), CodeConflict)
	})
}

func TestWhatAnAgentCannotStartWith(t *testing.T) {
	d := &fakeDriver{}
	for name, cfg := range map[string]Config{
		"no directory":   {Driver: d, GatewayURL: "https://x:1"},
		"no driver":      {Dir: "x", GatewayURL: "https://x:1"},
		"plain http":     {Dir: "x", Driver: d, GatewayURL: "http://x:1"},
		"no host":        {Dir: "x", Driver: d, GatewayURL: "https://"},
		"a broken token": {Dir: "x", Driver: d, GatewayURL: "https://x:1", JoinToken: "tjt1.pln_x"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(cfg)
			wantCode(t, err, CodeInvalid)
		})
	}
	t.Run("neither token nor plane", func(t *testing.T) {
		wantCode(t, start(t, Config{Dir: t.TempDir(), Driver: d, GatewayURL: "https://x:1"}).failed(), CodeInvalid)
	})
	t.Run("no gateway ever", func(t *testing.T) {
		wantCode(t, start(t, Config{Dir: t.TempDir(), Driver: d}).failed(), CodeInvalid)
	})
}

func TestThePlaneKeyIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	first, err := EnsurePlaneKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := EnsurePlaneKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "key", first, second)
	if len(first) != 32 {
		t.Errorf("%d bytes", len(first))
	}
	if err := os.WriteFile(filepath.Join(dir, planeKeyFile), first[:31], 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = EnsurePlaneKey(dir)
	wantCode(t, err, CodeInternal)
}
