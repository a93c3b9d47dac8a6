package integration

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/anishathalye/porcupine"
)

// Bar 4: what clients are told of concurrent appends is what some order of them, one after another, would have told them.
// The rules of that order are the model below; the histories come from a node behind a proxy that cuts connections (see
// linearnode_test.go), and from stores in memory with a bug each, which the check has to catch.

// request is what a client asks of one stream.
type request struct {
	stream   int
	read     bool   // the stream's last event
	expected int64  // anyRevision, -1 for no stream, or a revision
	id       uint16 // of the event
}

// told is what the client learned. Of a request whose outcome it never learned, unknown is set: it may have happened at any
// time since, or not at all.
type told struct {
	unknown  bool
	wrong    bool   // the expectation does not hold
	revision int64  // of the event appended, or the stream's last one: -1 if there is none
	id       uint16 // read: the last event's
}

// The state of a stream is the ids of its events, two bytes each.
func lastRevision(state string) int64 { return int64(len(state))/2 - 1 }

func idAt(state string, revision int64) uint16 {
	return binary.BigEndian.Uint16([]byte(state[2*revision : 2*revision+2]))
}

func appendedID(state string, id uint16) string {
	return string(binary.BigEndian.AppendUint16([]byte(state), id))
}

// revisionOf is where a stream has an id; -1 if nowhere.
func revisionOf(state string, id uint16) int64 {
	for revision := range lastRevision(state) + 1 {
		if idAt(state, revision) == id {
			return revision
		}
	}
	return -1
}

// streamModel is a stream as the event store promises it.
var streamModel = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		parts := map[int][]porcupine.Operation{}
		for _, o := range all {
			n := o.Input.(request).stream
			parts[n] = append(parts[n], o)
		}
		list := make([][]porcupine.Operation, 0, len(parts))
		for _, part := range parts {
			list = append(list, part)
		}
		return list
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		next, answer := step(state.(string), input.(request))
		t := output.(told)
		return t.unknown || t == answer, next
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
}

// step is what one request does to a stream, and its answer.
func step(state string, r request) (string, told) {
	last := lastRevision(state)
	switch {
	case r.read && last < 0:
		return state, told{revision: -1}
	case r.read:
		return state, told{revision: last, id: idAt(state, last)}
	case r.expected == anyRevision:
		if at := revisionOf(state, r.id); at >= 0 {
			return state, told{revision: at}
		}
	case r.expected < last && idAt(state, r.expected+1) == r.id:
		return state, told{revision: r.expected + 1}
	case r.expected != last:
		return state, told{wrong: true, revision: last}
	}
	return appendedID(state, r.id), told{revision: last + 1}
}

// ---- stores in memory, with and without a bug

// memoryStore is step for several streams; a bug is in what it adds to it.
type memoryStore func(state string, r request, random *rand.Rand) (string, told)

var memoryStores = map[string]memoryStore{
	"no bug": func(state string, r request, _ *rand.Rand) (string, told) { return step(state, r) },
	"the expected revision is ignored": func(state string, r request, _ *rand.Rand) (string, told) {
		if !r.read && r.expected < lastRevision(state) {
			r.expected = anyRevision
		}
		return step(state, r)
	},
	"a repetition is appended again": func(state string, r request, _ *rand.Rand) (string, told) {
		if !r.read && (r.expected == anyRevision || revisionOf(state, r.id) >= 0) {
			return appendedID(state, r.id), told{revision: lastRevision(state) + 1}
		}
		return step(state, r)
	},
	"an acknowledged event is lost": func(state string, r request, random *rand.Rand) (string, told) {
		next, answer := step(state, r)
		if !r.read && random.IntN(5) == 0 {
			next = state
		}
		return next, answer
	},
	"a reader is shown an old end": func(state string, r request, random *rand.Rand) (string, told) {
		if r.read && len(state) > 4 && random.IntN(4) == 0 {
			_, answer := step(state[:len(state)-4], r)
			return state, answer
		}
		return step(state, r)
	},
	"an append is refused and done all the same": func(state string, r request, random *rand.Rand) (string, told) {
		next, answer := step(state, r)
		if !r.read && next != state && random.IntN(10) == 0 {
			answer = told{wrong: true, revision: lastRevision(state)}
		}
		return next, answer
	},
}

// errand is one virtual client's present request.
type errand struct {
	request
	call   int64
	answer *told // once the store has it
	tries  int
}

// imagined is a history of virtual clients over a store, a step at a time in an order that the seed draws. A request may get
// lost before the store has it, or its answer after; the client asks again, or gives up.
func imagined(seed uint64, store memoryStore, clients, streams, operations int) (all []porcupine.Operation) {
	random := rand.New(rand.NewPCG(seed, 3)) //nolint:gosec // to be repeated
	states, known := make([]string, streams), make([][]int64, clients)
	under := make([]*errand, clients)
	for i := range known {
		known[i] = make([]int64, streams)
		for n := range known[i] {
			known[i][n] = -1
		}
	}
	for now, id := int64(0), uint16(0); len(all) < operations; now++ {
		c := random.IntN(clients)
		e := under[c]
		switch {
		case e == nil:
			id++
			under[c] = &errand{request: drawn(random, streams, id, known[c]), call: now}
		case e.answer == nil && random.IntN(12) > 0: // else it is lost on the way there
			next, answer := store(states[e.stream], e.request, random)
			states[e.stream], e.answer = next, &answer
		case e.answer == nil || random.IntN(8) == 0: // lost on the way back
			if e.answer = nil; e.tries == 3 || random.IntN(4) == 0 {
				all = append(all, operation(c, *e, told{unknown: true}, math.MaxInt64))
				under[c] = nil
			}
			e.tries++
		default:
			all = append(all, operation(c, *e, *e.answer, now))
			known[c][e.stream], under[c] = max(known[c][e.stream], e.answer.revision), nil
		}
	}
	for c, e := range under {
		if e != nil {
			all = append(all, operation(c, *e, told{unknown: true}, math.MaxInt64))
		}
	}
	return all
}

// drawn is a client's next request: mostly an append where it believes the stream's end to be.
func drawn(random *rand.Rand, streams int, id uint16, known []int64) request {
	r := request{stream: random.IntN(streams), id: id}
	switch r.expected = known[r.stream]; random.IntN(8) {
	case 0, 1:
		r.read, r.expected, r.id = true, 0, 0
	case 2:
		r.expected = anyRevision
	}
	return r
}

func operation(client int, e errand, answer told, end int64) porcupine.Operation {
	return porcupine.Operation{ClientId: client, Input: e.request, Call: e.call, Output: answer, Return: end}
}

// The check of bar 4 takes what a right store tells, and catches every bug, in every history.
func TestTheCheckOfLinearityCatchesEveryBug(t *testing.T) {
	seed := seedOf(t)
	for name, store := range memoryStores {
		t.Run(name, func(t *testing.T) {
			for n := range uint64(10) {
				want := porcupine.Illegal
				if name == "no bug" {
					want = porcupine.Ok
				}
				if got := porcupine.CheckOperationsTimeout(streamModel, imagined(seed+n, store, 6, 3, 400), patience); got != want {
					t.Errorf("TENURE_SEED=%d: the history is %s, where %s belongs", seed+n, got, want)
				}
			}
		})
	}
}
