package integration

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	streams "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"github.com/tenure-dev/tenure/adapters/eventstore"
	"github.com/tenure-dev/tenure/adapters/eventstore/proxytest"
	"github.com/tenure-dev/tenure/domain"
)

func TestAppendsAreLinearizable(t *testing.T) { linearizable(t, seedOf(t), 3, 300) }

func TestSoakAppendsAreLinearizable(t *testing.T) {
	if os.Getenv("TENURE_SOAK") == "" {
		t.Skip("TENURE_SOAK is not set: make soak")
	}
	linearizable(t, seedOf(t), 200, 1000)
}

// linearizable takes so many histories of so many requests each, over one node.
func linearizable(t *testing.T, seed uint64, histories, requests int) {
	node := startStore(t)
	var all score
	cuts, unknown := int64(0), 0
	for n := range histories {
		seed := seed + uint64(n)
		c := newCutClients(t, node, seed)
		history := c.run(requests)
		cuts += c.proxy.Cuts.Load()
		for _, o := range history {
			if o.Output.(told).unknown {
				unknown++
			}
		}
		var wrong []string
		got, info := porcupine.CheckOperationsVerbose(streamModel, history, patience)
		if got != porcupine.Ok {
			wrong = []string{fmt.Sprintf("a history of %d requests is %s: %s", len(history), got, picture(t, seed, info))}
		}
		all.trial(t, fmt.Sprintf("TENURE_SEED=%d", seed), wrong)
	}
	t.Logf("%d connections were cut, %d outcomes never known", cuts, unknown)
	if cuts == 0 || unknown == 0 {
		t.Error("nothing was disturbed")
	}
	scoreOf(t, all)
}

// picture draws a history that is not linearizable.
func picture(t *testing.T, seed uint64, info porcupine.LinearizationInfo) string {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("tenure-linear-%d.html", seed))
	if err := porcupine.VisualizePath(streamModel, info, path); err != nil {
		t.Error(err)
	}
	return path
}

const (
	linearClients = 8
	linearStreams = 4
)

// cutClients are clients of one node whose connections are cut again and again.
type cutClients struct {
	t      *testing.T
	proxy  *proxytest.Proxy
	log    *eventstore.Log
	client streams.StreamsClient
	seed   uint64
	began  time.Time
	ids    atomic.Uint32
	left   atomic.Int64

	mu  sync.Mutex
	all []porcupine.Operation
}

func newCutClients(t *testing.T, node *storeNode, seed uint64) *cutClients {
	c := &cutClients{t: t, seed: seed, began: time.Now(), proxy: proxytest.New(t, seed, node.addr)}
	var err error
	if c.log, err = eventstore.Open(t.Context(), eventstore.Config{URL: "esdb://" + c.proxy.Addr() + "?tls=false"}); err != nil {
		t.Fatal(err)
	}
	_, c.client = dial(t, c.proxy.Addr())
	return c
}

func (c *cutClients) run(requests int) []porcupine.Operation {
	c.left.Store(int64(requests))
	c.proxy.Cutting.Store(true)
	var clients sync.WaitGroup
	for n := range linearClients {
		random := rand.New(rand.NewPCG(c.seed, uint64(n))) //nolint:gosec // to be repeated
		clients.Go(func() { c.live(n, random) })
	}
	clients.Wait()
	c.proxy.Cutting.Store(false)
	if err := c.log.Close(c.t.Context()); err != nil {
		c.t.Error(err)
	}
	return c.all
}

func (c *cutClients) stream(n int) string { return fmt.Sprint("linear-", c.seed, "-", n) }

func (c *cutClients) event(id uint16) string {
	return domain.DeriveUUID("linear", fmt.Sprint(c.seed), fmt.Sprint(id)).String()
}

// live makes one request after another. One whose outcome is unknown is made again, as the same request, until there is an
// answer, or until the client gives up.
func (c *cutClients) live(n int, random *rand.Rand) {
	known := make([]int64, linearStreams)
	for i := range known {
		known[i] = -1
	}
	for c.left.Add(-1) >= 0 && c.t.Context().Err() == nil {
		e := errand{request: drawn(random, linearStreams, uint16(c.ids.Add(1)), known), call: c.clock()}
		for answered := false; !answered; {
			answer, err := c.ask(e.request)
			switch {
			case err == nil:
				known[e.stream] = max(known[e.stream], answer.revision)
				c.note(operation(n, e, answer, c.clock()))
				answered = true
			case e.read: // it has changed nothing, whatever became of it
				answered = true
			case random.IntN(3) == 0:
				c.note(operation(n, e, told{unknown: true}, math.MaxInt64))
				answered = true
			}
		}
	}
}

func (c *cutClients) clock() int64 { return time.Since(c.began).Nanoseconds() }

func (c *cutClients) note(o porcupine.Operation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, o)
}

// ask makes a request once. An error says that the outcome is unknown.
func (c *cutClients) ask(r request) (told, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	switch {
	case r.read:
		return c.last(ctx, r)
	case r.expected == anyRevision:
		e, err := appendOne(ctx, c.client, c.stream(r.stream), anyRevision, uuid.MustParse(c.event(r.id)), fmt.Sprint(r.id))
		return told{revision: e.revision}, err
	}
	done, err := c.log.Append(ctx, c.stream(r.stream), r.expected, []domain.Proposed{{ID: c.event(r.id), Type: "x.done", Data: []byte(fmt.Sprint(r.id)),
		Meta: domain.Meta{Rev: 1, CommandID: fmt.Sprint(r.id)}.Encode()}})
	var conflict *domain.Error
	if domain.CodeOf(err) == domain.CodeConflict && errors.As(err, &conflict) {
		return told{wrong: true, revision: conflict.Actual}, nil
	}
	return told{revision: done.Revision}, err
}

func (c *cutClients) last(ctx context.Context, r request) (told, error) {
	for e, err := range c.log.ReadBackwards(ctx, c.stream(r.stream), eventstore.End, 1) {
		if err != nil {
			return told{}, err
		}
		var id uint16
		_, err = fmt.Sscan(string(e.Data), &id)
		return told{revision: e.Revision, id: id}, err
	}
	return told{revision: -1}, nil
}
