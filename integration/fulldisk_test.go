package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	streams "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"

	"github.com/tenure-dev/tenure/domain"
)

// The disk gets full under a real node, for real: it stops with one clear line, nothing that it acknowledged is lost, and it
// starts clean when there is room again.
func TestTheDiskIsFull(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit func(*testing.T, *nodeProcess) (room func())
		why   string
	}{
		"no file may grow any more": {shortFiles, "file too large"},
		"no space is left":          {smallDisk, "no space left on device"},
	} {
		t.Run(name, func(t *testing.T) { diskFills(t, c.limit, c.why) })
	}
}

// shortFiles keeps the process from writing files of more than 1 or 2 MiB, as the shell counts.
func shortFiles(_ *testing.T, p *nodeProcess) (room func()) {
	p.prefix = []string{"/bin/sh", "-c", `ulimit -f 2048; exec "$0" "$@"`}
	return func() { p.prefix = nil }
}

// smallDisk gives the process a disk of its own, with something on it that can be taken away.
func smallDisk(t *testing.T, p *nodeProcess) (room func()) {
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", p.dir).CombinedOutput(); err != nil { //nolint:gosec // the test's own directory
		t.Skipf("only a user who may mount a disk can fill one: %s", out)
	}
	t.Cleanup(func() {
		if p.cmd != nil {
			p.kill()
		}
		if out, err := exec.Command("umount", p.dir).CombinedOutput(); err != nil { //nolint:gosec // the test's own directory
			t.Errorf("umount: %s", out)
		}
	})
	ballast := filepath.Join(p.dir, "ballast")
	must(t, os.WriteFile(ballast, make([]byte, 26<<20), 0o600))
	return func() { must(t, os.Remove(ballast)) }
}

func diskFills(t *testing.T, limit func(*testing.T, *nodeProcess) func(), why string) {
	p := newNodeProcess(t, 1)
	room := limit(t, p)
	p.start()
	known := newHistory()
	filling, ended := context.WithTimeout(t.Context(), patience)
	defer ended()
	var writers sync.WaitGroup
	for n := range 4 {
		_, client := dial(t, p.addr)
		writers.Go(func() { fillUp(filling, t, client, known, n) })
	}
	stopped(t, p, why)
	ended()
	writers.Wait()

	p.begin() // still without room: it may come up, but if it does not, it says why
	if err := p.ready(); err != nil {
		if !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(err.Error(), why) {
			t.Errorf("without room it does not start, and says: %v", err)
		}
	} else {
		p.stop()
	}
	room()
	p.start()
	_, client := dial(t, p.addr)
	log, err := wholeLog(t.Context(), client)
	must(t, err)
	for _, wrong := range known.check(log, known.hasTried) {
		t.Error(wrong)
	}
	if _, err := appendOne(t.Context(), client, suiteStreams+"after", -1, uuid.New(), "{}"); err != nil {
		t.Errorf("with room again it takes no event: %v", err)
	}
	p.stop()
	binary, err := tenureBinary()
	must(t, err)
	if out := run(t, ".", nil, binary, "log", "check", "--data", p.dir); !strings.HasPrefix(string(out), "whole: ") {
		t.Errorf("the check says %s", out)
	}
	t.Logf("%d events were acknowledged until the disk was full", known.acks)
}

// fillUp appends until it gets an error: the process is ending then, or has ended.
func fillUp(ctx context.Context, t *testing.T, client streams.StreamsClient, known *history, n int) {
	data := `"` + strings.Repeat("x", 16<<10) + `"`
	for i := 0; ; i++ {
		id := domain.DeriveUUID("full", fmt.Sprint(n), fmt.Sprint(i)).String()
		known.try(id)
		e, err := appendOne(ctx, client, fmt.Sprint(suiteStreams, n), int64(i)-1, uuid.MustParse(id), data)
		if errors.Is(err, errExpectation) {
			t.Error("an expectation that holds is refused")
		}
		if err != nil {
			return
		}
		known.ack(n, e)
	}
}

// stopped waits for the end of a process whose disk has failed, and looks at what it says.
func stopped(t *testing.T, p *nodeProcess, why string) {
	t.Helper()
	err := p.wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		t.Errorf("the node ends with %v, not with exit code 1", err)
	}
	said := p.stderr.String()
	clear := false
	for line := range strings.Lines(said) {
		clear = clear || strings.HasPrefix(line, "tenure: ") && strings.Contains(line, why) && strings.Contains(line, p.dir)
	}
	if !clear || strings.Contains(said, "goroutine ") {
		t.Errorf("no line says clearly that %s:\n%s", why, said)
	}
}
