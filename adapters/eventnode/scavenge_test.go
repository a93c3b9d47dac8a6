package eventnode

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tenure-dev/tenure/adapters/eventnode/operations"
)

// scavenging runs a scavenge to its end, through the protocol.
func scavenging(r *rig) string {
	resp, err := operations.StartScavenge(r.ctx, r.conn, &operations.StartScavengeReq{})
	if err != nil {
		return err.Error()
	}
	r.node.scavenges.runs.Wait()
	messages, err, _ := r.read(ofStream(scavengesPrefix+resp.ScavengeId), backwards, count(1))
	if err != nil || len(messages) != 1 {
		return fmt.Sprint(messages, err)
	}
	e := messages[0].GetEvent().GetEvent()
	if e.Metadata["type"] != "$scavengeCompleted" || !strings.Contains(string(e.Data), `"result":"Success"`) {
		return string(e.Data)
	}
	if err := wellFormed(r); err != nil {
		return err.Error()
	}
	return resp.ScavengeResult.String()
}

// wellFormed says whether records, index and ids agree.
func wellFormed(r *rig) error {
	report, err := checkLog(context.Background(), r.node.database)
	if err == nil && len(report.Damages) > 0 {
		err = fmt.Errorf("%v", report.Damages)
	}
	return err
}

// stored lists the revisions of a stream that the disk still has.
func stored(stream string) step {
	return func(r *rig) string {
		var p page
		if _, _, err := r.node.log.stream(&p, stream, 0, deletedRevision, false, pageEvents); err != nil {
			return err.Error()
		}
		var words []string
		for _, e := range p.events {
			if e.is(flagDeleted) {
				words = append(words, "tombstone")
			} else {
				words = append(words, fmt.Sprint(e.revision))
			}
		}
		return strings.Join(words, " ")
	}
}

func TestScavengeRemovesWhatNobodyCanRead(t *testing.T) {
	t.Parallel()
	filled := given(appending("s", expectAny, "a", "b", "c", "d"))
	playAll(t, []row{
		{"nothing is hidden: nothing goes", []then{filled, {scavenging, "Started"}, {stored("s"), "0 1 2 3"}}},
		{"$tb", []then{filled, given(setting("s", `{"$tb":2}`)), {scavenging, "Started"}, {stored("s"), "2 3"}, {reading(ofStream("s")), "c d"}}},
		{"$tb above the end: the last event stays", []then{filled, given(setting("s", `{"$tb":9}`)), {scavenging, "Started"}, {stored("s"), "3"}, {reading(ofStream("s")), "nothing"}}},
		{"$maxCount", []then{filled, given(setting("s", `{"$maxCount":1}`)), {scavenging, "Started"}, {stored("s"), "3"}, {reading(ofStream("s")), "d"}}},
		{"$maxAge", []then{filled, given(setting("s", `{"$maxAge":10}`)), given(passing(8 * time.Second)), given(appending("s", expectAny, "e")), given(passing(8 * time.Second)),
			{scavenging, "Started"}, {stored("s"), "4"}, {reading(ofStream("s")), "e"}, given(passing(time.Minute)), {reading(ofStream("s")), "nothing"}, {appending("s", 4, "f"), "at 5"}}},
		{"soft delete: the revision lives on", []then{filled, given(deleting("s", expectAny)), {scavenging, "Started"}, {stored("s"), "3"}, given(restarting),
			{reading(ofStream("s")), "not-found"}, {appending("s", expectNoStream, "e"), "at 4"}, {reading(ofStream("s")), "e"}}},
		{"tombstone: it stays", []then{filled, given(tombstoning("s", expectAny)), {scavenging, "Started"}, {stored("s"), "tombstone"}, given(restarting),
			{appending("s", expectAny, "e"), "FailedPrecondition stream-deleted"}}},
		{"old metadata", []then{filled, given(setting("s", `{"$tb":1}`)), given(setting("s", `{"$tb":2}`)), {scavenging, "Started"}, {stored("$$s"), "1"}, {reading(ofStream("s")), "c d"}}},
		{"again: nothing more goes", []then{filled, given(setting("s", `{"$tb":2}`)), {scavenging, "Started"}, {scavenging, "Started"}, {stored("s"), "2 3"}}},
	})
}

// What has been scavenged answers as what was never there, and never as an error.
func TestScavengedRevisionsAndIDs(t *testing.T) {
	t.Parallel()
	scavenged := func(s ...then) []then {
		return append([]then{given(appending("s", expectAny, "a", "b", "c", "d")), given(setting("s", `{"$tb":2}`)), {scavenging, "Started"}}, s...)
	}
	playAll(t, []row{
		{"a repetition with its revision", scavenged(then{appending("s", expectNoStream, "a", "b"), "wrong, at 3"}, then{appending("s", 0, "b"), "wrong, at 3"})},
		{"a repetition of what is there", scavenged(then{appending("s", 1, "c"), "at 2"})},
		{"an id is free again", scavenged(then{appending("s", expectAny, "a"), "at 4"})},
		{"$tb taken back shows what is left", scavenged(given(setting("s", `{}`)), then{reading(ofStream("s")), "c d"}, then{reading(ofStream("s"), withPositions, count(2)), "first=2 c d last=3"})},
		{"$maxAge over a gap", scavenged(given(setting("s", `{"$maxAge":10}`)), then{reading(ofStream("s")), "c d"}, given(passing(time.Minute)), then{reading(ofStream("s")), "nothing"})},
		{"a link to it stands alone", append([]then{given(appendingEvents("l", expectAny, linkTo("0@s")))}, scavenged(then{reading(ofStream("l"), resolving), "0@s->?"})...)},
		{"after a restart", scavenged(given(restarting), then{reading(ofStream("s")), "c d"}, then{appending("s", 0, "x"), "wrong, at 3"}, then{appending("s", 3, "e"), "at 4"})},
	})
}

// Readers and subscribers may begin at the position of an event that is gone.
func TestPositionsOutliveTheirEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	appending("s", expectAny, "a", "b", "c")(r)
	messages, err, _ := r.read(ofStream("s"))
	if err != nil {
		t.Fatal(err)
	}
	position := messages[1].GetEvent().GetCommitPosition()
	setting("s", `{"$maxCount":1}`)(r)
	if got := scavenging(r) + ": " + stored("s")(r); got != "Started: 2" {
		t.Fatal(got)
	}
	byType := filtered("type", 32, 1, "T")
	if got := reading(ofAll, fromPosition(position, position), byType)(r); got != "c" {
		t.Error(got)
	}
	if got := reading(ofAll, backwards, fromPosition(position, position), byType)(r); got != "nothing" {
		t.Error(got)
	}
	subscribing("live", ofAll, fromPosition(position, position), byType)(r)
	if got := hearing("live", 1)(r); got != "c" {
		t.Error(got)
	}
	if got := reading(ofAll, fromPosition(position+1, position+1))(r); got != "InvalidArgument" {
		t.Errorf("a position that never was: %s", got)
	}
}

// A log of which nine tenths are hidden shrinks by far more than seven.
func TestScavengeGivesTheSpaceBack(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	r := startRig(t, &rig{fs: fs})
	const streams, events = 8, 250
	for s := range streams {
		names := make([]string, events)
		for i := range names {
			var noise [150]byte // 300 as text
			rand.Read(noise[:])
			names[i] = fmt.Sprintf("%x", noise)
		}
		stream := fmt.Sprintf("s-%d", s)
		for i := 0; i < events; i += 25 {
			appending(stream, expectAny, names[i:i+25]...)(r)
		}
		setting(stream, fmt.Sprintf(`{"$maxCount":%d}`, events/10))(r)
	}
	r.restart()
	before := diskUsage(t, fs)
	if got := scavenging(r); got != "Started" {
		t.Fatal(got)
	}
	r.restart()
	if after := diskUsage(t, fs); after > before*3/10 {
		t.Errorf("%d bytes of %d are left", after, before)
	}
	if messages, err, _ := r.read(ofStream("s-7")); err != nil || len(messages) != events/10 {
		t.Error(len(messages), err)
	}
}

func diskUsage(t testing.TB, fs vfs.FS) (bytes int64) {
	t.Helper()
	names, err := fs.List("log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := fs.Stat(fs.PathJoin("log", name))
		if err != nil {
			t.Fatal(err)
		}
		bytes += info.Size()
	}
	return bytes
}

// The power fails at any moment of a scavenge: what can be read is all there, and the next one completes the work.
func TestCrashDuringAScavenge(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	r := startRig(t, &rig{fs: disk})
	for s := range 12 {
		stream := fmt.Sprintf("s%d", s)
		for e := range 3 {
			names := make([]string, 60)
			for i := range names {
				names[i] = fmt.Sprintf("%s-%d-%d", stream, e, i)
			}
			appending(stream, expectAny, names...)(r)
		}
		setting(stream, `{"$maxCount":2}`)(r)
	}
	run, _, err := r.node.scavenges.start()
	if err != nil {
		t.Fatal(err)
	}
	for ; run.events.Load() == 0; runtime.Gosched() {
		select {
		case <-run.over:
			t.Fatal("nothing was removed")
		default:
		}
	}
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	<-run.over
	after := startRig(t, &rig{fs: crashed})
	if err := wellFormed(after); err != nil {
		t.Error("after the crash:", err)
	}
	for range 2 {
		for s := range 12 {
			stream := fmt.Sprintf("s%d", s)
			if got, want := reading(ofStream(stream))(after), fmt.Sprintf("%s-2-58 %s-2-59", stream, stream); got != want {
				t.Fatalf("%s: %s", stream, got)
			}
		}
		if got := scavenging(after) + ": " + stored("s3")(after); got != "Started: 178 179" {
			t.Error(got)
		}
	}
}

func TestScavengeIsStartedAndStoppedByName(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.node.scavenges.now = &scavenge{id: "x", cancel: func() {}}
	resp, err := operations.StartScavenge(r.ctx, r.conn, &operations.StartScavengeReq{Options: &operations.StartScavengeReq_Options{ThreadCount: 1}})
	if err != nil || resp.ScavengeId != "x" || resp.ScavengeResult != operations.ScavengeResp_InProgress {
		t.Error("one under way:", resp, err)
	}
	resp, err = operations.StopScavenge(r.ctx, r.conn, &operations.StopScavengeReq{Options: &operations.StopScavengeReq_Options{ScavengeId: "x"}})
	if err != nil || resp.ScavengeResult != operations.ScavengeResp_Stopped {
		t.Error("stopped:", resp, err)
	}
	if _, err = operations.StopScavenge(r.ctx, r.conn, &operations.StopScavengeReq{}); refusal(err, nil) != "NotFound" {
		t.Error("an unknown one:", err)
	}
	if _, err = operations.StartScavenge(r.ctx, r.conn, &operations.StartScavengeReq{Options: &operations.StartScavengeReq_Options{ThreadCount: -1}}); refusal(err, nil) != "InvalidArgument" {
		t.Error("a bad thread count:", err)
	}
}

func linkTo(target string) *api.AppendReq_ProposedMessage {
	link := proposed(target)
	link.Metadata["type"] = linkType
	return link
}
