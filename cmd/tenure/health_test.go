package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenure-dev/tenure/adapters/eventnode/nodetest"
	"github.com/tenure-dev/tenure/agent"
	"github.com/tenure-dev/tenure/agent/drivers"
)

func TestHealthIsWhatReadyzAnswers(t *testing.T) {
	ready := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || !ready {
			http.Error(w, "it stands\nstill", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	everywhere := "0.0.0.0:" + address[strings.LastIndex(address, ":")+1:]
	for name, row := range map[string]struct {
		env  map[string]string
		args []string
	}{
		"by --url":                   {nil, []string{"--url", server.URL + "/readyz"}},
		"by --http":                  {nil, []string{"--http", address}},
		"by the server's variable":   {map[string]string{"TENURE_HTTP": address}, nil},
		"of one that is everywhere":  {map[string]string{"TENURE_HTTP": everywhere}, nil},
		"--url goes before the rest": {map[string]string{"TENURE_HTTP": "127.0.0.1:1"}, []string{"--url", server.URL + "/readyz"}},
	} {
		ready = true
		if exit, stdout, stderr := call(t, row.env, append([]string{"health"}, row.args...)...); exit != exitOK || stdout != "ok\n" {
			t.Errorf("%s: exit code %d, output %q, %s", name, exit, stdout, stderr)
		}
		ready = false
		exit, stdout, stderr := call(t, row.env, append([]string{"health"}, row.args...)...)
		if exit != exitFailed || stdout != "" || !strings.Contains(stderr, "503 Service Unavailable: it stands still") {
			t.Errorf("%s: exit code %d, output %q", name, exit, stdout)
		}
		wantOneLine(t, stderr, "tenure: internal: http://127.0.0.1:")
	}
	server.Close()
	exit, _, stderr := call(t, nil, "health", "--http", address)
	if exit != exitFailed {
		t.Errorf("nobody answers: exit code %d", exit)
	}
	wantOneLine(t, stderr, "tenure: internal: http://"+address+"/readyz does not answer")
}

func TestHealthOfANodeWithTLSTakesItsCertificateAlone(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of handshakes that are meant to fail
	server.StartTLS()
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "https://")
	own := filepath.Join(t.TempDir(), "own.crt")
	if err := os.WriteFile(own, pemOf(server.Certificate().Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	another, _, _ := nodetest.SelfSigned(t, t.TempDir(), 1)
	if exit, _, stderr := call(t, nil, "health", "--http", address, "--tls-cert", own); exit != exitOK {
		t.Error(stderr)
	}
	for name, args := range map[string][]string{"another": {"--tls-cert", another, "--http", address}, "none": {"--url", server.URL}} {
		if exit, _, stderr := call(t, nil, append([]string{"health"}, args...)...); exit != exitFailed {
			t.Errorf("%s: exit code %d, %s", name, exit, stderr)
		}
	}
	for want, args := range map[string][]string{"--url must be": {"--url", "localhost"}, "--http must be": {"--http", "8080"},
		"--timeout must be": {"--timeout", "0s"}, "--tls-cert: ": {"--tls-cert", own + ".none"}} {
		exit, _, stderr := call(t, nil, append([]string{"health"}, args...)...)
		if exit != exitUsage {
			t.Errorf("%v: exit code %d", args, exit)
		}
		wantOneLine(t, stderr, "tenure: invalid: "+want)
	}
}

// An agent that finds no gateway lives and is not ready; that it becomes ready is to be seen where it has one, in compose.yml.
func TestAnAgentWithoutAGatewayIsNotReady(t *testing.T) {
	probes := freeAddress(t)
	a, err := agent.New(agent.Config{Dir: t.TempDir(), Driver: nobody{}})
	if err != nil {
		t.Fatal(err)
	}
	cmd := agentCommand()
	if err := cmd.ParseFlags([]string{"--http", probes}); err != nil {
		t.Fatal(err)
	}
	server, err := newAgentHTTP(cmd, a, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if exit, _, stderr := call(t, nil, "health", "--http", probes); exit != exitFailed || !strings.Contains(stderr, "no session with the gateway is open") {
		t.Errorf("exit code %d, %s", exit, stderr)
	}
	if exit, stdout, stderr := call(t, nil, "health", "--url", "http://"+probes+"/livez"); exit != exitOK || stdout != "ok\n" {
		t.Errorf("exit code %d, %s", exit, stderr)
	}
	if _, err := newAgentHTTP(cmd, a, slog.New(slog.DiscardHandler)); err == nil || !strings.HasPrefix(err.Error(), "--http: ") {
		t.Errorf("a second one at %s: %v", probes, err)
	}
}

// nobody is a driver that is never called.
type nobody struct{ drivers.Driver }
