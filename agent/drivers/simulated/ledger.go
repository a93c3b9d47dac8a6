package simulated

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
)

// Effect is one run of an operation that reached the plane.
type Effect struct {
	Operation string `json:"operation"`
	Op        Op     `json:"op"`
	TenantID  string `json:"tenantId"`
	Changed   bool   `json:"changed"`         // false: the plane was so already
	After     *state `json:"after,omitempty"` // the tenant afterwards; nil: there is none
}

// same says whether two runs did the same thing to the same tenant.
func (e Effect) same(o Effect) bool {
	return e.Op == o.Op && e.TenantID == o.TenantID && reflect.DeepEqual(e.After, o.After)
}

// Effects are all runs in order, those of earlier processes on the same Dir included.
func (d *Driver) Effects() []Effect {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.ledger.effects)
}

// Runs says how often an operation reached the plane, and how often it changed something there.
func (d *Driver) Runs(operation string) (all, changing int) {
	for _, e := range d.Effects() {
		if e.Operation == operation {
			all++
			if e.Changed {
				changing++
			}
		}
	}
	return all, changing
}

// Conflicts lists operations that ran twice to different effect. There must never be one.
func (d *Driver) Conflicts() []string {
	first := map[string]Effect{}
	var bad []string
	for _, e := range d.Effects() {
		f, ran := first[e.Operation]
		switch {
		case !ran:
			first[e.Operation] = e
		case !f.same(e) && !slices.Contains(bad, e.Operation):
			bad = append(bad, e.Operation)
		}
	}
	return bad
}

// Overlaps counts the calls that began while another for the same tenant was in progress. An agent must cause none.
func (d *Driver) Overlaps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.overlap
}

// ledger is the list of effects, and its file if there is one.
type ledger struct {
	effects []Effect
	file    *os.File
}

func openLedger(dir string) (*ledger, error) {
	if dir == "" {
		return &ledger{}, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "simulated.jsonl")
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	whole := raw[:bytes.LastIndexByte(raw, '\n')+1]
	l := &ledger{}
	for n, line := range bytes.Split(bytes.TrimSuffix(whole, []byte("\n")), []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		var e Effect
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, n+1, err)
		}
		l.effects = append(l.effects, e)
	}
	if l.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err := l.file.Truncate(int64(len(whole))); err != nil {
		return nil, errors.Join(err, l.file.Close())
	}
	if _, err := l.file.Seek(0, io.SeekEnd); err != nil {
		return nil, errors.Join(err, l.file.Close())
	}
	return l, nil
}

func (l *ledger) append(e Effect) error {
	if l.file != nil {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if _, err := l.file.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	l.effects = append(l.effects, e)
	return nil
}

func (l *ledger) close() error {
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.Close()
}
