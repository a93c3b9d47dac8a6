package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/domain"
)

// startNode runs tenure node and gives its address. It is stopped at the test's end.
func startNode(t testing.TB, dir string, flags ...string) (address string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	out, write := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		exit := run(ctx, append([]string{"node", "--data", dir, "--node", "127.0.0.1:0", "--log-level", "error"}, flags...), noEnv, write, io.Discard)
		_ = write.Close()
		ended <- exit
	}()
	t.Cleanup(func() {
		stop()
		if exit := <-ended; exit != exitOK {
			t.Errorf("tenure node ends with exit code %d", exit)
		}
	})
	var line, url string
	if _, err := fmt.Fscanln(out, &line, &url); err != nil || line != "ready" {
		t.Fatalf("the node says %q, %v", line, err)
	}
	return url
}

func noEnv(string) (string, bool) { return "", false }

func fill(t *testing.T, url string, streams ...string) {
	t.Helper()
	log, err := eventstore.Open(t.Context(), eventstore.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close(context.WithoutCancel(t.Context()))
	next := map[string]int64{}
	for i, stream := range streams {
		event := domain.Proposed{ID: uuid.NewString(), Type: "tenant.tried", Data: fmt.Appendf(nil, `{"n":%d}`, i), Meta: domain.Meta{}.Encode()}
		if _, err := log.Append(t.Context(), stream, next[stream]-1, []domain.Proposed{event}); err != nil {
			t.Fatal(err)
		}
		next[stream]++
	}
}

func TestTheLogIsReadAndFollowed(t *testing.T) {
	url := startNode(t, t.TempDir())
	fill(t, url, "tenant-a", "tenant-b", "tenant-a", "tenant-a")
	for name, c := range map[string]struct {
		args []string
		want []int // the n of the events
	}{
		"a stream":        {[]string{"read", "tenant-a"}, []int{0, 2, 3}},
		"from":            {[]string{"read", "tenant-a", "--from", "1"}, []int{2, 3}},
		"limit":           {[]string{"read", "tenant-a", "--limit", "2"}, []int{0, 2}},
		"behind the end":  {[]string{"read", "tenant-a", "--from", "9"}, nil},
		"all":             {[]string{"read", "$all"}, []int{0, 1, 2, 3}},
		"all with limit":  {[]string{"read", "$all", "--limit", "3"}, []int{0, 1, 2}},
		"tail of all":     {[]string{"tail", "--no-follow", "--from", "0"}, []int{0, 1, 2, 3}},
		"tail":            {[]string{"tail", "tenant-a", "--no-follow", "--lines", "2"}, []int{2, 3}},
		"tail from":       {[]string{"tail", "tenant-b", "--no-follow", "--from", "0"}, []int{1}},
		"tail of no more": {[]string{"tail", "--no-follow"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			exit, stdout, stderr := call(t, nil, append([]string{"log", "--log-level", "error", "--eventstore", url, "-o", "json"}, c.args...)...)
			if exit != exitOK {
				t.Fatalf("exit code %d: %s", exit, stderr)
			}
			var got []int
			for line := range strings.Lines(stdout) {
				var e struct {
					Type string
					Data struct{ N int }
				}
				if err := json.Unmarshal([]byte(line), &e); err != nil || e.Type != "tenant.tried" {
					t.Fatalf("%q: %v", line, err)
				}
				got = append(got, e.Data.N)
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	exit, stdout, _ := call(t, nil, "log", "read", "tenant-b", "--eventstore", url, "--log-level", "error")
	if lines := strings.Split(stdout, "\n"); exit != exitOK || len(lines) != 3 || strings.Join(strings.Fields(lines[0]), " ") != "REVISION POSITION STREAM TYPE TIME DATA" ||
		!strings.HasSuffix(lines[1], `{"n":1}`) {
		t.Errorf("exit code %d and table\n%s", exit, stdout)
	}
	exit, _, stderr := call(t, nil, "log", "read", "tenant-c", "--eventstore", url, "--log-level", "error")
	if exit != exitNotFound {
		t.Errorf("exit code %d of a missing stream", exit)
	}
	wantOneLine(t, stderr, "tenure: not_found: there is no stream tenant-c")
}

func TestATailFollowsUntilItIsInterrupted(t *testing.T) {
	url := startNode(t, t.TempDir())
	fill(t, url, "tenant-a")
	ctx, interrupt := context.WithCancel(t.Context())
	out, write := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"log", "tail", "--from", "0", "-o", "json", "--eventstore", url, "--log-level", "error"}, noEnv, write, io.Discard)
	}()
	events := json.NewDecoder(out)
	for n := range 3 {
		var e struct{ Data struct{ N int } }
		if n > 0 {
			fill(t, url, fmt.Sprintf("tenant-%d", n))
		}
		if err := events.Decode(&e); err != nil {
			t.Fatal(err)
		}
	}
	interrupt()
	if exit := <-ended; exit != exitOK {
		t.Errorf("exit code %d", exit)
	}
}

func TestATakenPortOrDirectoryIsNamed(t *testing.T) {
	dir := t.TempDir()
	url := startNode(t, dir)
	port, _, _ := strings.Cut(strings.TrimPrefix(url, "esdb://"), "?")
	exit, stdout, stderr := call(t, nil, "node", "--data", t.TempDir(), "--node", port)
	if exit != exitUsage || stdout != "" {
		t.Errorf("exit code %d and output %q", exit, stdout)
	}
	wantOneLine(t, stderr, "tenure: conflict: --node: ")
	exit, stdout, stderr = call(t, nil, "node", "--data", dir, "--node", "127.0.0.1:0")
	if exit != exitUsage || stdout != "" {
		t.Errorf("exit code %d and output %q", exit, stdout)
	}
	wantOneLine(t, stderr, "tenure: conflict: --data: ")
}

func TestAnAddressThatIsNoneIsTheCommandLinesFault(t *testing.T) {
	exit, _, stderr := call(t, nil, "log", "read", "s", "--eventstore", "http://x")
	if exit != exitUsage {
		t.Errorf("exit code %d", exit)
	}
	wantOneLine(t, stderr, "tenure: invalid: --eventstore: ")
}

func TestLogsAreJSONLinesWithTheirLevel(t *testing.T) {
	var out bytes.Buffer
	logger := newLogger(&out, slog.LevelInfo)
	logger.Debug("unseen")
	logger.With("part", "node").WithGroup("g").Warn("seen", "n", 1, "error", errors.New("why"), slog.Group("h", "took", time.Second))
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err, out.String())
	}
	if line["level"] != "warn" || line["message"] != "seen" || line["part"] != "node" || line["g.n"] != 1.0 || line["g.error"] != "why" || line["g.h.took"] != "1s" || line["time"] == nil {
		t.Errorf("the line is %v", line)
	}
}
