package eventnode

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// model is the event store as one would write it if memory never failed and nobody waited: the property below holds the
// node against it.
type model struct {
	streams map[string]*modelStream
	first   map[string]modelPlace // of an id
}

type modelStream struct {
	ids        []string // the events, in order
	tombstoned bool
	bound      int64 // $tb, as the last metadata has it
	metadata   int   // how many metadata events there are
}

type modelPlace struct {
	stream   string
	revision int
}

func (m *model) stream(name string) *modelStream {
	if m.streams[name] == nil {
		m.streams[name] = &modelStream{}
	}
	return m.streams[name]
}

func (m *model) append(name string, expected int64, ids []string) string {
	s := m.stream(name)
	last := int64(len(s.ids)) - 1
	deleted := s.bound == math.MaxInt64
	wrong := fmt.Sprintf("wrong, at %d", last)
	if last < 0 {
		wrong = "wrong, at none"
	}
	if s.tombstoned || expected == expectStreamExists && deleted {
		return "FailedPrecondition stream-deleted"
	}
	if expected == expectStreamExists && last < 0 && s.metadata == 0 {
		return wrong
	}
	repeated := int64(-1)
	switch {
	case expected == expectAny || expected == expectStreamExists:
		known := slices.IndexFunc(ids, func(id string) bool { p, ok := m.first[id]; return !ok || p.stream != name })
		if known > 0 {
			return wrong
		}
		if known < 0 && len(ids) > 0 {
			repeated = int64(m.first[ids[len(ids)-1]].revision)
		}
	case expected > last:
		return wrong
	case expected < last:
		for i, id := range ids {
			at := expected + 1 + int64(i)
			if at <= last && s.ids[at] == id {
				continue
			}
			if i > 0 || expected != expectNoStream || !deleted {
				return wrong
			}
			goto write
		}
		if len(ids) == 0 {
			return wrong
		}
		repeated = expected + int64(len(ids))
	}
	if repeated >= 0 {
		if repeated < s.bound {
			return fmt.Sprintf("at %d, hidden", repeated)
		}
		return fmt.Sprintf("at %d", repeated)
	}
write:
	if deleted {
		s.bound, s.metadata = last+1, s.metadata+1
	}
	for _, id := range ids {
		if _, used := m.first[id]; !used {
			m.first[id] = modelPlace{name, len(s.ids)}
		}
		s.ids = append(s.ids, id)
	}
	if len(s.ids) == 0 {
		return "at none"
	}
	return fmt.Sprintf("at %d", len(s.ids)-1)
}

// remove is a delete or a tombstone. Both are decided as an append of one event that nobody has seen is.
func (m *model) remove(name string, expected int64, forEver bool) string {
	s := m.stream(name)
	last := int64(len(s.ids)) - 1
	deleted := s.bound == math.MaxInt64
	wrong := fmt.Sprintf("FailedPrecondition wrong-expected-version %d/%d", expected, last)
	switch {
	case s.tombstoned || expected == expectStreamExists && deleted:
		return "FailedPrecondition stream-deleted"
	case expected == expectStreamExists && last < 0 && s.metadata == 0,
		expected >= 0 && expected != last,
		expected == expectNoStream && last >= 0 && !deleted,
		!forEver && last < 0 && s.metadata == 0:
		return wrong
	}
	if forEver {
		s.tombstoned = true
	} else {
		s.bound, s.metadata = math.MaxInt64, s.metadata+1
	}
	return "deleted"
}

func (m *model) read(name string) string {
	s := m.stream(name)
	switch {
	case s.tombstoned:
		return "FailedPrecondition stream-deleted"
	case len(s.ids) == 0 || s.bound == math.MaxInt64:
		return "not-found"
	case int(s.bound) >= len(s.ids):
		return "nothing"
	}
	return strings.Join(s.ids[s.bound:], " ")
}

// Whatever is done to a few streams with a few ids, the node answers as the model does, over restarts, too.
func TestNodeAnswersAsTheModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t)
		defer r.node.Close(r.ctx)
		m := &model{streams: map[string]*modelStream{}, first: map[string]modelPlace{}}
		streams := rapid.SampledFrom([]string{"s", "t"})
		expectations := rapid.OneOf(rapid.SampledFrom([]int64{expectAny, expectNoStream, expectStreamExists}), rapid.Int64Range(0, 5))
		ids := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}), 0, 3)
		for i := range rapid.IntRange(5, 30).Draw(rt, "steps") {
			r.batch = rapid.Bool().Draw(rt, "batch")
			stream, expected := streams.Draw(rt, "stream"), expectations.Draw(rt, "expected")
			var got, want string
			switch action := rapid.SampledFrom([]string{"append", "append", "append", "append", "again", "delete", "tombstone", "metadata", "restart"}).Draw(rt, "action"); action {
			case "append":
				events := ids.Draw(rt, "ids")
				got, want = appending(stream, expected, events...)(r), m.append(stream, expected, events)
			case "again": // a repetition of what is there
				s := m.stream(stream)
				from := rapid.IntRange(0, len(s.ids)).Draw(rt, "from")
				events := slices.Clone(s.ids[from:])
				got, want = appending(stream, int64(from)-1, events...)(r), m.append(stream, int64(from)-1, events)
			case "delete":
				got, want = deleting(stream, expected)(r), m.remove(stream, expected, false)
			case "tombstone":
				if rapid.IntRange(0, 3).Draw(rt, "mercy") > 0 {
					continue
				}
				got, want = tombstoning(stream, expected)(r), m.remove(stream, expected, true)
			case "metadata":
				if s := m.stream(stream); !s.tombstoned && s.bound != math.MaxInt64 {
					bound := rapid.Int64Range(0, 6).Draw(rt, "bound")
					s.bound, s.metadata = bound, s.metadata+1
					e := proposed(fmt.Sprintf("metadata %d", i))
					e.Data = fmt.Appendf(nil, `{"$tb":%d}`, bound)
					if got = appendingEvents(metastreamOf(stream), expectAny, e)(r); !strings.HasPrefix(got, "at ") {
						rt.Fatalf("metadata: %s", got)
					}
				}
				got, want = "", ""
			case "restart":
				r.restart()
			}
			if got != want {
				rt.Fatalf("step %d: got %s, want %s", i, got, want)
			}
			if got, want = reading(ofStream(stream))(r), m.read(stream); got != want {
				rt.Fatalf("step %d: read %s, want %s", i, got, want)
			}
		}
	})
}
