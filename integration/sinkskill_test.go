package integration

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // of nobody

// cloudEvent is what a receiver reads of one.
type cloudEvent struct {
	ID, Type, Subject, Sequence, Revision string
}

// receiver is another system's endpoint: it verifies and keeps what it gets, and refuses some the first time.
type receiver struct {
	t      *testing.T
	server *httptest.Server
	verify *standardwebhooks.Webhook

	mu      sync.Mutex
	random  *rand.Rand
	got     []cloudEvent // accepted, in the order of their coming
	changed chan struct{}
}

func newReceiver(t *testing.T, seed uint64) *receiver {
	t.Helper()
	verify, err := standardwebhooks.NewWebhook(webhookSecret)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{t: t, verify: verify, random: rand.New(rand.NewPCG(seed, 5)), changed: make(chan struct{})} //nolint:gosec // to be repeated
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return // its sender was killed
	}
	var e cloudEvent
	if err := errors.Join(r.verify.Verify(body, q.Header), json.Unmarshal(body, &e)); err != nil || e.ID != q.Header.Get("webhook-id") {
		r.t.Errorf("a delivery is not what it should be: %v\n%s", err, body)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.random.IntN(5) == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	r.got = append(r.got, e)
	close(r.changed)
	r.changed = make(chan struct{})
	w.WriteHeader(http.StatusNoContent)
}

// await waits until the receiver's events are enough.
func (r *receiver) await(what string, enough func([]cloudEvent) bool) {
	r.t.Helper()
	for {
		r.mu.Lock()
		ok, changed := enough(r.got), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-r.t.Context().Done():
			r.t.Fatalf("%s: it has not come", what)
		}
	}
}

// The control plane is killed between deliveries and the cursor's writes, again and again: the other system gets every event
// that was acknowledged, each stream in its order, and what it gets twice has the id that it had.
func TestASinkLosesNothingWhenTheControlPlaneIsKilled(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	random := rand.New(rand.NewPCG(seed, 6)) //nolint:gosec // to be repeated
	r := newReceiver(t, seed)
	dir := t.TempDir()
	config := filepath.Join(dir, "tenure.yaml")
	settings := fmt.Sprintf(`sinks:
  crm:
    types: [org.registered, "sink.*"]
    from: start
    attempts: 100
    backoff: {first: 1ms, most: 20ms}
    webhook: {url: %q, secrets: [{env: CRM_SECRET}], allow: [127.0.0.0/8]}
`, r.server.URL)
	must(t, os.WriteFile(config, []byte(settings), 0o600))
	registered := map[string]bool{}
	for round := range 3 {
		dev := startDev(t, dir, config)
		for n := range 10 {
			payload := dev.do(t, "registerOrg", object{"name": fmt.Sprintf("Org %d", n), "idempotencyKey": fmt.Sprintf("%d-%d", round, n)})
			registered["org-"+text(payload, "org", "id")] = true
		}
		seen := len(registered) - random.IntN(10)
		r.await(fmt.Sprintf("%d orgs", seen), func(got []cloudEvent) bool { return len(subjects(got)) >= seen })
		dev.kill()
	}
	dev := startDev(t, dir, config)
	r.await("every org", func(got []cloudEvent) bool { return len(subjects(got)) == len(registered) })
	dev.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := map[string]string{}
	for _, e := range r.got {
		place := e.Subject + "/" + e.Revision
		if id, again := ids[place]; again && id != e.ID {
			t.Errorf("TENURE_SEED=%d: %s came as %s and as %s", seed, place, id, e.ID)
		}
		ids[place] = e.ID
		if !registered[e.Subject] || e.Type != "org.registered" || len(e.Sequence) != 20 {
			t.Errorf("TENURE_SEED=%d: nobody wanted %+v", seed, e)
		}
		if _, err := strconv.ParseUint(e.Sequence, 10, 64); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d deliveries of %d events", len(r.got), len(ids))
}

func subjects(all []cloudEvent) []string {
	var names []string
	for _, e := range all {
		names = append(names, e.Subject)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// devProcess is a tenure dev in a process of its own.
type devProcess struct {
	*client
	t   testing.TB
	cmd *exec.Cmd
}

func startDev(t *testing.T, dir, config string) *devProcess {
	t.Helper()
	binary, err := tenureBinary()
	must(t, err)
	cmd := exec.Command(binary, "dev", "--data", filepath.Join(dir, "data"), "--config", config, "--driver", "simulated", //nolint:gosec // our own binary
		"--http", "127.0.0.1:0", "--node", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--log-level", "error")
	cmd.Env = append(os.Environ(), "CRM_SECRET="+webhookSecret)
	cmd.Stderr = testWriter{t}
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	d := &devProcess{t: t, cmd: cmd}
	t.Cleanup(d.kill)
	lines := bufio.NewReader(out)
	must(t, awaitReady(lines))
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	d.client, err = newClient(filepath.Join(dir, "data"))
	must(t, err)
	return d
}

// kill ends the process as it stands.
func (d *devProcess) kill() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
}

// stop ends the process in order, and what it has started.
func (d *devProcess) stop() {
	d.t.Helper()
	if err := errors.Join(d.cmd.Process.Signal(syscall.SIGTERM), d.cmd.Wait()); err != nil {
		d.t.Error(err)
	}
}
