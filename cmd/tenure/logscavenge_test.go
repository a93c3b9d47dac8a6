package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLogIsScavengedWhileItRuns(t *testing.T) {
	url := startNode(t, t.TempDir())
	fill(t, url, "tenant-a", "tenant-b", "tenant-a")
	exit, stdout, stderr := call(t, nil, "log", "scavenge", "--eventstore", url)
	if exit != exitOK || !strings.HasPrefix(stdout, "started ") || !strings.Contains(stdout, "\ndone in 00:00:0") {
		t.Errorf("exit code %d: %s%s", exit, stdout, stderr)
	}
	exit, stdout, stderr = call(t, nil, "log", "scavenge", "--eventstore", url, "--stop", "none")
	if exit != exitNotFound || stdout != "" {
		t.Errorf("an unknown id: exit code %d: %s%s", exit, stdout, stderr)
	}
	if exit, _, stderr = call(t, nil, "log", "scavenge", "--eventstore", "nonsense"); exit != exitUsage || !strings.Contains(stderr, "--eventstore") {
		t.Errorf("no address: exit code %d: %s", exit, stderr)
	}
}

func TestLogCheckSaysWhatIsWrong(t *testing.T) {
	data := t.TempDir()
	if exit, _, stderr := call(t, nil, "log", "check", "--data", data); exit != exitNotFound {
		t.Errorf("nothing there: exit code %d: %s", exit, stderr)
	}
	t.Run("node", func(t *testing.T) {
		fill(t, startNode(t, data), "tenant-a", "tenant-a")
		if exit, _, stderr := call(t, nil, "log", "check", "--data", data); exit != exitUsage || !strings.Contains(stderr, "in use") {
			t.Errorf("a node runs: exit code %d: %s", exit, stderr)
		}
	})
	exit, stdout, stderr := call(t, nil, "log", "check", "--data", data, "-o", "json")
	var got checked
	if err := json.Unmarshal([]byte(stdout), &got); exit != exitOK || err != nil || got.Events < 3 || got.Streams < 2 || got.End == 0 {
		t.Errorf("exit code %d: %s%s", exit, stdout, stderr)
	}
	if exit, stdout, stderr = call(t, nil, "log", "check", "--data", data); exit != exitOK || !strings.HasPrefix(stdout, "whole: ") {
		t.Errorf("exit code %d: %s%s", exit, stdout, stderr)
	}
	tables, err := filepath.Glob(filepath.Join(data, "log", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal("there is no table", err)
	}
	content, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	content[10] ^= 4
	if err := os.WriteFile(tables[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
	exit, stdout, stderr = call(t, nil, "log", "check", "--data", data)
	if exit != exitFailed || !strings.Contains(stdout+stderr, strings.TrimSuffix(filepath.Base(tables[0]), ".sst")) {
		t.Errorf("a damaged table: exit code %d: %s%s", exit, stdout, stderr)
	}
}
