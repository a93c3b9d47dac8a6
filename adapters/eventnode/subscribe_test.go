package eventnode

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestSubscribeToStream(t *testing.T) {
	t.Parallel()
	abc := given(appending("s", expectAny, "a", "b", "c"))
	d := given(appending("s", expectAny, "d"))
	s := ofStream("s")
	const end = " FailedPrecondition stream-deleted"
	playAll(t, []row{
		{"from the start: all, then live", []then{abc, {subscribing("x", s), "confirmed"}, {hearing("x", 4), "a b c caught-up"}, d, {hearing("x", 1), "d"}}},
		{"from a revision, exclusive", []then{abc, {subscribing("x", s, from(1)), "confirmed"}, {hearing("x", 2), "c caught-up"}}},
		{"from the last revision", []then{abc, {subscribing("x", s, from(2)), "confirmed"}, {hearing("x", 1), "caught-up"}, d, {hearing("x", 1), "d"}}},
		{"from beyond: what lies between is not sent", []then{abc, {subscribing("x", s, from(4)), "confirmed"}, {hearing("x", 1), "caught-up"}, d,
			given(appending("s", expectAny, "e", "f")), {hearing("x", 1), "f"}}},
		{"from the end", []then{abc, {subscribing("x", s, fromEnd), "confirmed"}, {hearing("x", 1), "caught-up"}, d, {hearing("x", 1), "d"}}},
		{"a missing stream", []then{{subscribing("x", s), "confirmed"}, {hearing("x", 1), "caught-up"}, d, {hearing("x", 1), "d"}}},
		{"a missing stream, from the end", []then{{subscribing("x", s, fromEnd), "confirmed"}, {hearing("x", 1), "caught-up"}, d, {hearing("x", 1), "d"}}},
		{"a soft-deleted stream", []then{abc, given(deleting("s", expectAny)), {subscribing("x", s), "confirmed"}, {hearing("x", 1), "caught-up"}, d, {hearing("x", 1), "d"}}},
		{"a soft delete says nothing, the new life goes on", []then{abc, {subscribing("x", s, fromEnd), "confirmed"}, given(deleting("s", expectAny)),
			given(appending("s", expectNoStream, "d")), {hearing("x", 2), "caught-up d"}}},
		{"a tombstone is sent, then the end", []then{abc, {subscribing("x", s, from(1)), "confirmed"}, {hearing("x", 2), "c caught-up"}, given(tombstoning("s", expectAny)),
			{hearing("x", 9), "[$streamDeleted ]" + end}}},
		{"the metastream's subscriber does not see the tombstone", []then{{subscribing("x", ofStream("$$s")), "confirmed"}, given(setting("s", `{}`)), given(tombstoning("s", expectAny)),
			given(appending("$$$s", expectAny, "x")), {hearing("x", 2), "caught-up [$metadata {}]"}}},
		{"a bound counts for what is old", []then{abc, given(setting("s", `{"$tb":2}`)), {subscribing("x", s), "confirmed"}, {hearing("x", 2), "c caught-up"}}},
		{"a metastream: the latest, then all", []then{given(setting("s", `{"v":1}`)), given(setting("s", `{"v":2}`)), {subscribing("x", ofStream("$$s")), "confirmed"},
			{hearing("x", 2), `[$metadata {"v":2}] caught-up`}, given(setting("s", `{"v":3}`)), {hearing("x", 1), `[$metadata {"v":3}]`}}},
	})
}

func TestSubscribeToAll(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	appending("s", expectAny, "a", "b", "c")(r)
	messages, _, _ := r.read(ofStream("s"))
	at := func(i int) uint64 { return messages[i].GetEvent().GetCommitPosition() }
	for name, row := range map[string]struct {
		options []option
		want    string
	}{
		"start":                    {nil, "admin a b c caught-up"},
		"a position, exclusive":    {[]option{fromPosition(at(0), at(0))}, "b c caught-up"},
		"the last position":        {[]option{fromPosition(at(2), at(2))}, "caught-up"},
		"end":                      {[]option{fromEnd}, "caught-up"},
		"the largest position":     {[]option{fromPosition(1<<64-1, 1<<64-1)}, "caught-up"},
		"beyond":                   {[]option{fromPosition(1<<40, 1<<40)}, "caught-up"},
		"filtered":                 {[]option{filtered("stream", 32, 1, "s")}, "a b c checkpoint caught-up"},
		"filtered from the end":    {[]option{fromEnd, filtered("stream", 32, 1, "s")}, "caught-up"},
		"a checkpoint every event": {[]option{filtered("stream", 1, 1, "s")}, "checkpoint a checkpoint b checkpoint c checkpoint caught-up"},
		"a checkpoint every three": {[]option{filtered("stream", 1, 3, "s")}, "a b checkpoint c checkpoint caught-up"},
		"the longest interval":     {[]option{filtered("stream", math.MaxUint32, math.MaxUint32, "s")}, "a b c checkpoint caught-up"},
	} {
		subscribing(name, append([]option{ofAll}, row.options...)...)(r)
		if got := hearing(name, len(strings.Fields(row.want)))(r); got != row.want {
			t.Errorf("%s: got %s, want %s", name, got, row.want)
		}
	}
	if got := subscribing("off", ofAll, fromPosition(at(1)+1, at(1)+1))(r); got != "InvalidArgument" {
		t.Errorf("off a record: %s", got)
	}
	appending("s", expectAny, "d")(r)
	deleting("s", expectAny)(r)
	tombstoning("s", expectAny)(r)
	want := "d [$metadata " + softDeletedJSON + "] [$streamDeleted ]"
	for _, name := range []string{"start", "a position, exclusive", "the last position", "end"} {
		if got := hearing(name, 3)(r); got != want {
			t.Errorf("live after %s: got %s, want %s", name, got, want)
		}
	}
}

// While live, a checkpoint follows every N-th event since the subscription, whether it matches or not.
func TestLiveCheckpointsCountEveryEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	subscribing("x", ofAll, fromEnd, filtered("stream", 1, 3, "w"))(r)
	hearing("x", 1)(r)
	for i := range 4 {
		appending("noise", expectAny, fmt.Sprint("n", i))(r)
	}
	appending("w", expectAny, "w1")(r)
	appending("$system", expectAny, "y1")(r)
	appending("w", expectAny, "w2")(r)
	if got := hearing("x", 4)(r); got != "checkpoint w1 checkpoint w2" {
		t.Error(got)
	}
}

// A checkpoint says that everything up to it has been seen: whoever resumes there loses nothing and sees nothing twice.
func TestResumeFromAnyCheckpoint(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 40 {
		appending("noise", expectAny, fmt.Sprint("n", i))(r)
		if i%7 == 0 {
			appending("w", expectAny, fmt.Sprint("w", i))(r)
		}
	}
	f := filtered("stream", 2, 2, "w")
	subscribing("x", ofAll, f)(r)
	seen, last := []string{}, uint64(0)
	type resume struct {
		position uint64
		seen     int
	}
	var resumes []resume
	for done := false; !done; {
		m, err := r.subs["x"].stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		switch c := m.Content.(type) {
		case *api.ReadResp_Event:
			seen, last = append(seen, describe(m)), c.Event.GetCommitPosition()
		case *api.ReadResp_Checkpoint_:
			if p := c.Checkpoint.CommitPosition; p < last || len(resumes) > 0 && p <= resumes[len(resumes)-1].position {
				t.Fatalf("checkpoint %d after event %d and checkpoints %v", p, last, resumes)
			}
			resumes = append(resumes, resume{c.Checkpoint.CommitPosition, len(seen)})
		case *api.ReadResp_CaughtUp_:
			done = true
		}
	}
	if len(seen) != 6 || len(resumes) < 10 {
		t.Fatalf("%d events, %d checkpoints", len(seen), len(resumes))
	}
	for i, at := range resumes {
		name := fmt.Sprint(i)
		subscribing(name, ofAll, fromPosition(at.position, at.position), f)(r)
		var got []string
		for word := ""; word != "caught-up"; {
			if word = hearing(name, 1)(r); word != "checkpoint" && word != "caught-up" {
				got = append(got, word)
			}
		}
		r.subs[name].cancel()
		if strings.Join(got, " ") != strings.Join(seen[at.seen:], " ") {
			t.Errorf("resumed at checkpoint %d: %v", i, got)
		}
	}
}

// A subscriber that stops receiving falls behind the ring and is taken back to catching up. It loses nothing.
func TestSlowSubscribersLoseNothing(t *testing.T) {
	t.Parallel()
	r := startRig(t, &rig{fs: vfs.NewMem(), ring: 8})
	all := map[string][]option{"stream": {ofStream("s")}, "all": {ofAll, fromEnd}, "filtered": {ofAll, fromEnd, filtered("stream", 32, 1, "s")}}
	for name, options := range all {
		subscribing(name, options...)(r)
	}
	const events = 200
	filling := bytes.Repeat([]byte("x"), 20_000) // more in all than a connection buffers
	for i := range events {
		e := proposed(fmt.Sprint(i))
		e.CustomMetadata = filling
		appendingEvents("s", int64(i)-1, e)(r)
	}
	for name := range all {
		next, caughtUp := 0, 0
		for next < events {
			switch word := hearing(name, 1)(r); word {
			case "caught-up":
				caughtUp++
			case "checkpoint":
			case fmt.Sprint(next):
				next++
			default:
				t.Fatalf("%s: %s instead of event %d", name, word, next)
			}
		}
		for caughtUp < 2 {
			if hearing(name, 1)(r) == "caught-up" {
				caughtUp++
			}
		}
	}
}

func TestCloseEndsSubscriptionsWithUnavailable(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	subscribing("stream", ofStream("s"))(r)
	subscribing("all", ofAll, fromEnd)(r)
	if err := r.node.Close(r.ctx); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"stream": "caught-up Unavailable", "all": "caught-up Unavailable"} {
		if got := hearing(name, 9)(r); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if _, err := r.api.Append(context.Background()); err != nil && status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
}
