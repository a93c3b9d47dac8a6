package eventnode

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	ps "github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
)

func TestCreateGroup(t *testing.T) {
	t.Parallel()
	failed := "Internal persistent-subscription-failed"
	settings := func(change func(*ps.CreateReq_Settings)) step { return creating(with(change)) }
	kept := readers{}
	playAll(t, []row{
		{"on a stream that does not exist", []then{{creating(), "done"}, {creating(), "AlreadyExists persistent-subscription-exists"}, {until("s", "Live: 0 flying, 0 buffered, 0 to retry, 0 parked"), "Live: 0 flying, 0 buffered, 0 to retry, 0 parked"}}},
		{"a batch as large as the buffer", []then{{settings(func(s *ps.CreateReq_Settings) { s.ReadBatchSize = 500 }), failed}, {listing("s"), "NotFound persistent-subscription-does-not-exist"}}},
		{"an unknown strategy", []then{{settings(func(s *ps.CreateReq_Settings) { s.ConsumerStrategy = "Nonsense" }), failed}}},
		{"zero and negative numbers are taken", []then{{settings(func(s *ps.CreateReq_Settings) {
			s.ReadBatchSize, s.LiveBufferSize, s.MaxRetryCount, s.MaxSubscriberCount, s.MinCheckpointCount, s.MaxCheckpointCount = 0, 0, -1, -1, 50, 10
		}), "done"}}},
		{"no start", []then{{creating(func(o *ps.CreateReq_Options) { o.GetStream().RevisionOption = nil }), "InvalidArgument"}}},
		{"no start of $all", []then{{creating(onAll(), func(o *ps.CreateReq_Options) { o.GetAll().AllOption = nil }), "InvalidArgument"}}},
		{"no stream's name", []then{{creating(func(o *ps.CreateReq_Options) { o.GetStream().StreamIdentifier = nil }), "InvalidArgument"}}},
		{"no settings", []then{{creating(func(o *ps.CreateReq_Options) { o.Settings = nil }), "InvalidArgument"}}},
		{"a position beyond the end", []then{{creating(onAll(), startingAtPosition(1<<40)), failed}}},
		{"a position that is none", []then{{creating(onAll(), startingAtPosition(math.MaxInt64+1)), "InvalidArgument"}}},
		{"a position with its prepare part above", []then{{creating(onAll(), func(o *ps.CreateReq_Options) {
			o.GetAll().AllOption = &ps.CreateReq_AllOptions_Position{Position: &ps.CreateReq_Position{CommitPosition: 10, PreparePosition: 20}}
		}), "InvalidArgument"}}},
		{"a bad filter", []then{{creating(onAll("a"), func(o *ps.CreateReq_Options) {
			o.GetAll().GetFilter().Filter = &ps.CreateReq_AllOptions_FilterOptions_EventType{EventType: &ps.CreateReq_AllOptions_FilterOptions_Expression{Regex: "("}}
		}), "InvalidArgument"}}},
		{"a filter of nothing", []then{{creating(onAll("a"), func(o *ps.CreateReq_Options) { o.GetAll().GetFilter().Filter = nil }), "InvalidArgument"}}},
		{"on $all by its name", []then{{creating(func(o *ps.CreateReq_Options) { o.GetStream().StreamIdentifier = identifier(allStream) }), "InvalidArgument"}, {listing(""), "list"}}},
		{"a name that is taken comes before the batch, and behind the strategy", []then{given(creating()),
			{settings(func(s *ps.CreateReq_Settings) { s.ReadBatchSize = 500 }), "AlreadyExists persistent-subscription-exists"},
			{settings(func(s *ps.CreateReq_Settings) { s.ConsumerStrategy = "Nonsense" }), failed}}},
		{"fewer consumers than none", []then{given(settings(func(s *ps.CreateReq_Settings) { s.MaxSubscriberCount = -1 })), {readers{}.connecting("x", "s", 1), "FailedPrecondition maximum-subscribers-reached"}}},
		{"an update that is refused changes nothing", []then{{updating(func(s *ps.UpdateReq_Settings) { s.ReadBatchSize = 500 }), "NotFound persistent-subscription-does-not-exist"}, given(creating()), given(kept.connecting("x", "s", 1)),
			{updating(func(s *ps.UpdateReq_Settings) { s.ReadBatchSize = 500 }), failed}, given(appending("s", expectAny, "a")), {kept.getting("x", 1), "a"}}},
		{"of an old client", []then{given(appending("old", expectAny, "a", "b")), {creating(func(o *ps.CreateReq_Options) {
			//lint:ignore SA1019 that is what is tested
			o.StreamOption, o.StreamIdentifier, o.Settings.Revision = nil, identifier("old"), 1
		}), "done"}, {until("old", "Live: 0 flying, 1 buffered, 0 to retry, 0 parked"), "Live: 0 flying, 1 buffered, 0 to retry, 0 parked"}}},
		{"list", []then{{listing(""), "list"}, {listing("s"), "NotFound persistent-subscription-does-not-exist"}, given(creating()), given(creating(onAll())),
			{listing("s"), "list s::g"}, {listing(""), "list s::g $all::g"}, given(deletingGroup), {listing("s"), "list"}, {deletingGroup, "NotFound persistent-subscription-does-not-exist"},
			{restartingGroups, "done"}, {listing("s"), "NotFound persistent-subscription-does-not-exist"}, {listing(""), "list $all::g"}}},
	})
}

// A group that has to read a tombstoned stream, or $all from where no record is, can be made and asked about. Its consumers
// are dropped as soon as they are connected.
func TestGroupThatCannotRead(t *testing.T) {
	t.Parallel()
	gone := given(tombstoning("s", expectAny))
	between := func(r *rig) string {
		appending("s", expectAny, "a")(r)
		return creating(onAll(), startingAtPosition(r.lastEvent()-1))(r)
	}
	offered := func(r *rig) string { r.quiet(); return "done" }
	dropped := "Canceled persistent-subscription-dropped"
	status := func(stream, want string) then { return then{until(stream, want), want} }
	const faulted, live = "Behind, OutstandingPageRequest: 0 flying, 0 buffered, 0 to retry, 0 parked", "Live: 0 flying, 0 buffered, 0 to retry, 0 parked"
	for name, steps := range map[string]func(rs readers) []then{
		"a tombstoned stream": func(rs readers) []then {
			return []then{abc, gone, {creating(), "done"}, {rs.connecting("x", "s", 5), "s::g"}, {rs.getting("x", 1), dropped}, status("s", faulted), {rs.connecting("y", "s", 5), "s::g"}, {rs.getting("y", 1), dropped}, {offered, "done"}, {known(""), ""}}
		},
		"from its end there is nothing to read": func(rs readers) []then {
			return []then{abc, gone, given(creating(startingAtEnd)), {rs.connecting("x", "s", 5), "s::g"}, status("s", live)}
		},
		"one that is tombstoned later, after a restart": func(rs readers) []then {
			return []then{given(creating()), gone, status("s", "Live: 0 flying, 1 buffered, 0 to retry, 0 parked"), {restartingGroups, "done"}, {rs.connecting("x", "s", 5), "s::g"}, {rs.getting("x", 1), dropped}}
		},
		"a position that is no record's": func(rs readers) []then {
			return []then{{between, "done"}, {rs.connecting("x", allStream, 5), "$all::g"}, {rs.getting("x", 1), dropped}, status(allStream, faulted)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, steps(readers{})...)
		})
	}
}

func TestGroupStarts(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		choices []choice
		want    string
	}{
		"at the start":               {nil, "a b c d"},
		"at a revision, inclusive":   {[]choice{startingAt(1)}, "b c d"},
		"ahead of the stream":        {[]choice{startingAt(3)}, "d"},
		"at the end, unseen by any":  {[]choice{startingAtEnd}, "d"},
		"of $all, filtered":          {[]choice{onAll("s")}, "a b c d"},
		"of $all at the end":         {[]choice{onAll("s"), startingAtEnd}, "d"},
		"the largest revision":       {[]choice{startingAt(math.MaxUint64)}, "d"},
		"the largest position":       {[]choice{onAll("s"), startingAtPosition(math.MaxUint64)}, "d"},
		"behind what is hidden":      {[]choice{startingAt(0)}, "a b c d"},
		"with pages of one event":    {[]choice{with(func(s *ps.CreateReq_Settings) { s.ReadBatchSize, s.HistoryBufferSize = 1, 3 })}, "a b c d"},
		"with pages of no event yet": {[]choice{with(func(s *ps.CreateReq_Settings) { s.ReadBatchSize, s.HistoryBufferSize = 0, 1 })}, "a b c d"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rs := readers{}
			stream := "s"
			if creation(row.choices...).Options.GetAll() != nil {
				stream = allStream
			}
			play(t, abc, then{creating(row.choices...), "done"}, given(appending("s", expectAny, "d")),
				then{rs.connecting("x", stream, 10), stream + "::g"}, then{rs.getting("x", len(strings.Fields(row.want))), row.want},
				given(appending("s", expectAny, "e")), then{rs.getting("x", 1), "e"})
		})
	}
}

func TestAcksAndNacks(t *testing.T) {
	t.Parallel()
	begin := func(rs readers, choices ...choice) []then {
		return []then{abc, given(creating(choices...)), {rs.connecting("x", "s", 3), "s::g"}, {rs.getting("x", 3), "a b c"}}
	}
	state := func(want string) then { return then{until("s", want), want} }
	for name, rest := range map[string]func(rs readers) []then{
		"no more than the buffer's size is out": func(rs readers) []then {
			return []then{given(appending("s", expectAny, "d", "e")), state("Live: 3 flying, 2 buffered, 0 to retry, 0 parked"), given(rs.acking("x", "b")), {rs.getting("x", 1), "d"}}
		},
		"retry counts, and goes before what is new, in order": func(rs readers) []then {
			return []then{given(appending("s", expectAny, "d")), given(rs.nacking("x", retry, "c", "a")), {rs.getting("x", 2), "a~1 c~1"}, given(rs.nacking("x", ps.ReadReq_Nack_Unknown, "a")), {rs.getting("x", 1), "a~2"}}
		},
		"skip and stop forget": func(rs readers) []then {
			return []then{given(rs.nacking("x", ps.ReadReq_Nack_Skip, "a")), given(rs.nacking("x", ps.ReadReq_Nack_Stop, "b")), state("Live: 1 flying, 0 buffered, 0 to retry, 0 parked")}
		},
		"park keeps a link": func(rs readers) []then {
			return []then{given(rs.nacking("x", park, "b")), state("Live: 2 flying, 0 buffered, 0 to retry, 1 parked"),
				{reading(ofStream("$persistentsubscription-s::g-parked")), "1@s"}, {reading(ofStream("$persistentsubscription-s::g-parked"), resolving), "1@s->b"},
				{func(r *rig) string {
					messages, _, _ := r.read(ofStream("$persistentsubscription-s::g-parked"))
					return string(messages[0].GetEvent().GetEvent().GetCustomMetadata())
				}, "{\n  \"added\": \"2026-03-01T12:00:00Z\",\n  \"reason\": \"Client explicitly NAK'ed message.\\nwhy\",\n  \"subscriptionEventNumber\": 1\n}"}}
		},
		"a consumer that leaves leaves its events to others": func(rs readers) []then {
			return []then{given(rs.leaving("x")), state("Live: 0 flying, 0 buffered, 3 to retry, 0 parked"), given(rs.connecting("y", "s", 5)), {rs.getting("y", 3), "a~1 b~1 c~1"}}
		},
		"what has taken too long comes back": func(rs readers) []then {
			return []then{given(after(30*time.Second - 1)), state("Live: 3 flying, 0 buffered, 0 to retry, 0 parked"), given(rs.acking("x", "b")), state("Live: 2 flying, 0 buffered, 0 to retry, 0 parked"),
				given(after(1)), {rs.getting("x", 2), "a~1 c~1"}}
		},
		"an id that is not out is nobody's": func(rs readers) []then {
			return []then{given(rs.acking("x", "a")), given(rs.acking("x", "a")), given(rs.nacking("x", retry, "a")), state("Live: 2 flying, 0 buffered, 0 to retry, 0 parked")}
		},
		"a tombstone is an event": func(rs readers) []then {
			return []then{given(rs.acking("x", "a")), given(tombstoning("s", expectAny)), {rs.getting("x", 1), "$streamDeleted"}}
		},
		"a soft delete shows nothing": func(rs readers) []then {
			return []then{given(rs.acking("x", "a")), given(deleting("s", expectAny)), given(appending("s", expectAny, "d")), {rs.getting("x", 1), "d"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rs := readers{}
			play(t, append(begin(rs), rest(rs)...)...)
		})
	}
	t.Run("after the last retry an event is parked", func(t *testing.T) {
		t.Parallel()
		rs := readers{}
		play(t, append(begin(rs, with(func(s *ps.CreateReq_Settings) {
			s.MaxRetryCount, s.MessageTimeout = 1, &ps.CreateReq_Settings_MessageTimeoutMs{}
		})), given(rs.nacking("x", retry, "a")), then{rs.getting("x", 1), "a~1"}, given(rs.nacking("x", retry, "a")), state("Live: 2 flying, 0 buffered, 0 to retry, 1 parked"),
			given(after(0)), then{rs.getting("x", 2), "b~1 c~1"}, given(after(0)), state("Live: 0 flying, 0 buffered, 0 to retry, 3 parked"))...)
	})
}

func TestCheckpoints(t *testing.T) {
	t.Parallel()
	counts := with(func(s *ps.CreateReq_Settings) {
		s.MinCheckpointCount, s.MaxCheckpointCount = 2, 4
	})
	seven := given(appending("s", expectAny, "a", "b", "c", "d", "e", "f", "g"))
	stored := reading(ofStream("$persistentsubscription-s::g-checkpoint"))
	begin := func(rs readers) []then {
		return []then{seven, given(creating(counts)), given(rs.connecting("x", "s", 10)), {rs.getting("x", 7), "a b c d e f g"}}
	}
	flying := func(n int) then {
		want := fmt.Sprintf("Live: %d flying, 0 buffered, 0 to retry, 0 parked", n)
		return then{until("s", want), want}
	}
	for name, rest := range map[string]func(rs readers) []then{
		"at once after the largest count": func(rs readers) []then {
			return []then{given(rs.acking("x", "a", "b", "c")), flying(4), {stored, "not-found"}, given(rs.acking("x", "d", "e")), {checkpointed("4"), `"4"`}}
		},
		"by time on a tick, if there are enough": func(rs readers) []then {
			return []then{given(rs.acking("x", "a")), flying(6), given(after(time.Hour)), {stored, "not-found"}}
		},
		"the first as soon as there are enough, the next not before its time": func(rs readers) []then {
			return []then{given(rs.acking("x", "a", "b")), flying(5), given(after(0)), {checkpointed("1"), `"1"`}, given(rs.acking("x", "c", "d")), flying(3),
				given(after(2*time.Second - 1)), {stored, `"1"`}, given(after(1)), {checkpointed("3"), `"1" "3"`}}
		},
		"never beyond what is out": func(rs readers) []then {
			return []then{given(rs.acking("x", "b", "c", "d", "e", "f", "g")), flying(1), given(after(5 * time.Second)), {stored, "not-found"},
				given(rs.acking("x", "a")), {checkpointed("6"), `"6"`}}
		},
		"a parked event counts as done, one to retry does not": func(rs readers) []then {
			return []then{given(rs.nacking("x", park, "a")), given(rs.acking("x", "b")), given(rs.nacking("x", retry, "c")), {rs.getting("x", 1), "c~1"}, given(rs.acking("x", "d", "e", "f")),
				{until("s", "Live: 2 flying, 0 buffered, 0 to retry, 1 parked"), "Live: 2 flying, 0 buffered, 0 to retry, 1 parked"}, given(after(5 * time.Second)), {checkpointed("1"), `"1"`}}
		},
		"a restart goes on behind it": func(rs readers) []then {
			return []then{given(rs.acking("x", "a", "b", "c", "d", "f")), {checkpointed("3"), `"3"`}, {restartingGroups, "done"}, {rs.getting("x", 1), "Canceled persistent-subscription-dropped"},
				given(rs.connecting("y", "s", 10)), {rs.getting("y", 3), "e f g"}, given(restarting), given(rs.connecting("z", "s", 10)), {rs.getting("z", 3), "e f g"}}
		},
		"an update, too, and the settings count": func(rs readers) []then {
			return []then{given(rs.acking("x", "a", "b", "c", "d")), {checkpointed("3"), `"3"`}, {updating(func(s *ps.UpdateReq_Settings) { s.MaxSubscriberCount = 1 }), "done"},
				{rs.getting("x", 1), "Canceled persistent-subscription-dropped"}, given(rs.connecting("y", "s", 10)), {rs.connecting("z", "s", 10), "FailedPrecondition maximum-subscribers-reached"}, {rs.getting("y", 3), "e f g"}}
		},
		"a deleted group takes it along": func(rs readers) []then {
			return []then{given(rs.acking("x", "a", "b", "c", "d")), {checkpointed("3"), `"3"`}, {deletingGroup, "done"}, {rs.getting("x", 1), "Canceled persistent-subscription-dropped"},
				{rs.connecting("y", "s", 10), "NotFound persistent-subscription-does-not-exist"}, {stored, "not-found"}, given(creating()), given(rs.connecting("z", "s", 10)), {rs.getting("z", 2), "a b"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rs := readers{}
			play(t, append(begin(rs), rest(rs)...)...)
		})
	}
	t.Run("a group from the end without one goes on live", func(t *testing.T) {
		t.Parallel()
		rs := readers{}
		play(t, given(creating(startingAtEnd)), abc, given(restarting), given(rs.connecting("x", "s", 10)), given(appending("s", expectAny, "d")), then{rs.getting("x", 1), "d"})
	})
}

func TestReplayParked(t *testing.T) {
	t.Parallel()
	state := func(want string) then { return then{until("s", want), want} }
	begin := func(rs readers) []then {
		return []then{abc, given(creating()), given(rs.connecting("x", "s", 10)), {rs.getting("x", 3), "a b c"}, given(rs.nacking("x", park, "a", "b", "c")),
			state("Live: 0 flying, 0 buffered, 0 to retry, 3 parked")}
	}
	t.Run("a negative end is refused before a group is looked for", func(t *testing.T) {
		t.Parallel()
		play(t, then{replaying(upTo(-1)), "Internal persistent-subscription-failed"}, then{replaying(everything()), "NotFound persistent-subscription-does-not-exist"})
	})
	for name, rest := range map[string]func(rs readers) []then{
		"up to a revision, then the rest": func(rs readers) []then {
			return []then{{replaying(upTo(2)), "done"}, {rs.getting("x", 2), "->a ->b"}, state("Live: 2 flying, 0 buffered, 0 to retry, 1 parked"), {replaying(everything()), "done"}, {rs.getting("x", 1), "->c"},
				{reading(ofStream(metastreamOf("$persistentsubscription-s::g-parked"))), "[$metadata {\"$tb\":3," + linkAccess + "}]"}}
		},
		"up to 0 nothing, and all later": func(rs readers) []then {
			return []then{{replaying(upTo(0)), "done"}, {replaying(everything()), "done"}, {rs.getting("x", 3), "->a ->b ->c"}}
		},
		"a negative end": func(rs readers) []then {
			return []then{{replaying(upTo(-1)), "Internal persistent-subscription-failed"}, state("Live: 0 flying, 0 buffered, 0 to retry, 3 parked")}
		},
		"the link's id counts; parked again": func(rs readers) []then {
			return []then{given(replaying(upTo(1))), {rs.getting("x", 1), "->a"}, given(rs.nacking("x", retry, "->a")), {rs.getting("x", 1), "->a~1"}, given(rs.nacking("x", park, "->a")),
				state("Live: 0 flying, 0 buffered, 0 to retry, 3 parked"), {reading(ofStream("$persistentsubscription-s::g-parked"), resolving), "1@s->b 2@s->c 0@s->a"}}
		},
		"what is gone is passed over": func(rs readers) []then {
			return []then{given(setting("s", `{"$tb":2}`)), given(replaying(everything())), {rs.getting("x", 1), "->c"}, state("Live: 1 flying, 0 buffered, 0 to retry, 0 parked")}
		},
		"what is to be tried again waits behind what is replayed": func(rs readers) []then {
			return []then{given(rs.leaving("x")), given(appending("s", expectAny, "d", "e")), given(rs.connecting("y", "s", 2)), {rs.getting("y", 2), "d e"}, given(replaying(upTo(1))),
				state("Live: 2 flying, 0 buffered, 1 to retry, 2 parked"), given(rs.nacking("y", retry, "d")), {rs.getting("y", 1), "->a"}, given(rs.acking("y", "->a")), {rs.getting("y", 1), "d~1"}}
		},
		"a restart keeps what was replayed and not acknowledged": func(rs readers) []then {
			return []then{given(replaying(everything())), {rs.getting("x", 3), "->a ->b ->c"}, given(rs.acking("x", "->b")), state("Live: 2 flying, 0 buffered, 0 to retry, 0 parked"),
				given(restarting), state("Live: 0 flying, 3 buffered, 0 to retry, 2 parked"), {reading(ofStream("$persistentsubscription-s::g-parked"), resolving), "0@s->a 2@s->c"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rs := readers{}
			play(t, append(begin(rs), rest(rs)...)...)
		})
	}
}

// Trap of real servers: a filtered group that goes on behind an event that its filter had skipped loses the next match.
func TestFilteredGroupGoesOnBehindASkippedEvent(t *testing.T) {
	t.Parallel()
	rs := readers{}
	play(t,
		given(creating(onAll("a"), startingAtEnd, with(func(s *ps.CreateReq_Settings) { s.MinCheckpointCount, s.MaxCheckpointCount = 1, 2 }))),
		given(rs.connecting("x", allStream, 10)),
		given(appending("a", expectAny, "a1")), then{rs.getting("x", 1), "a1"}, given(rs.acking("x", "a1")),
		given(appending("n", expectAny, "n1", "n2", "n3", "n4")),
		then{func(r *rig) string { // the checkpoint is that of n4
			messages, _, _ := r.read(ofStream("n"))
			at := messages[3].GetEvent().GetCommitPosition()
			for want := fmt.Sprintf("C:%d/P:%d", at, at); ; r.node.persistent.tick() {
				r.clock.advance(2 * time.Second)
				resp, err := r.groups().GetInfo(r.ctx, infoOf(allStream, "g"))
				if err != nil || resp.SubscriptionInfo.LastCheckpointedEventPosition == want {
					return done(err, nil)
				}
			}
		}, "done"},
		given(appending("a", expectAny, "a2", "a3")),
		given(restarting),
		given(rs.connecting("y", allStream, 10)),
		then{rs.getting("y", 2), "a2 a3"},
	)
}

// A group falls behind when its buffer is full, reads on when there is room, and loses nothing.
func TestGroupFallsBehindAndCatchesUp(t *testing.T) {
	t.Parallel()
	rs := readers{}
	r := newRig(t)
	creating(with(func(s *ps.CreateReq_Settings) { s.ReadBatchSize, s.HistoryBufferSize = 2, 5 }))(r)
	const events = 40
	for i := range events {
		appending("s", expectAny, fmt.Sprint(i))(r)
	}
	if got := until("s", "Behind: 0 flying, 5 buffered, 0 to retry, 0 parked")(r); !strings.HasPrefix(got, "Behind: 0 flying, 5") {
		t.Fatal(got)
	}
	if got := known("39")(r); got != "39" { // it has heard of all that it has no room for
		t.Error("known:", got)
	}
	rs.connecting("x", "s", 3)(r)
	for i := range events {
		if got := rs.getting("x", 1)(r); got != fmt.Sprint(i) {
			t.Fatalf("event %d: %s", i, got)
		}
		rs.acking("x", fmt.Sprint(i))(r)
	}
	if got := until("s", "Live: 0 flying, 0 buffered, 0 to retry, 0 parked")(r); got != "Live: 0 flying, 0 buffered, 0 to retry, 0 parked" {
		t.Error(got)
	}
}

// The buffer is filled with pages of the batch's size, of 100 events at most, for as long as there is room for more than a batch.
func TestGroupReadsPages(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 400 {
		names = append(names, fmt.Sprint(i))
	}
	sized := func(batch, buffer int32) choice {
		return with(func(s *ps.CreateReq_Settings) { s.ReadBatchSize, s.HistoryBufferSize = batch, buffer })
	}
	for name, row := range map[string]struct {
		choices []choice
		want    string
	}{
		"half a buffer":      {[]choice{sized(10, 20)}, "10"},
		"nearly all of it":   {[]choice{sized(10, 41)}, "40"},
		"a large batch":      {[]choice{sized(200, 500)}, "300"},
		"no batch":           {[]choice{sized(0, 50)}, "50"},
		"of $all":            {[]choice{onAll(), sized(10, 20)}, "10"},
		"of $all, filtered":  {[]choice{onAll("s"), sized(10, 20)}, "10"},
		"filtered, one page": {[]choice{onAll("s"), sized(20, 390)}, "380"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stream := "s"
			if creation(row.choices...).Options.GetAll() != nil {
				stream = allStream
			}
			want := "Behind: 0 flying, " + row.want + " buffered, 0 to retry, 0 parked"
			play(t, given(appending("s", expectAny, names...)), given(creating(row.choices...)), then{until(stream, want), want})
		})
	}
}

// A parked event is a link to what its consumer saw as the event; one of which nothing but a link was seen leaves that.
func TestGroupParksLinks(t *testing.T) {
	t.Parallel()
	link := func(data string) *api.AppendReq_ProposedMessage {
		e := proposed(data)
		e.Metadata["type"] = linkType
		return e
	}
	links := given(appendingEvents("s", expectAny, link("0@t"), link("9@t"), link("none")))
	parked := reading(ofStream("$persistentsubscription-s::g-parked"))
	resolve := with(func(s *ps.CreateReq_Settings) { s.ResolveLinks = true })
	state := func(n int) then {
		want := fmt.Sprintf("Live: 0 flying, 0 buffered, 0 to retry, %d parked", n)
		return then{until("s", want), want}
	}
	for name, steps := range map[string]func(rs readers) []then{
		"followed": func(rs readers) []then {
			return []then{links, given(creating(resolve)), given(rs.connecting("x", "s", 5)), {rs.getting("x", 3), "->a ->? none"}, given(rs.nacking("x", park, "->a", "->?", "none")), state(3), {parked, "0@t 9@t 2@s"}}
		},
		"not followed": func(rs readers) []then {
			return []then{links, given(creating()), given(rs.connecting("x", "s", 5)), {rs.getting("x", 3), "0@t 9@t none"}, given(rs.nacking("x", park, "0@t", "9@t", "none")), state(3), {parked, "0@s 1@s 2@s"},
				given(replaying(upTo(1))), {rs.getting("x", 1), "->0@t"}}
		},
		"followed as they appear, where one to nothing counts as broken": func(rs readers) []then {
			return []then{given(creating(resolve)), given(rs.connecting("x", "s", 5)), links, {rs.getting("x", 3), "->a ->? ->?"}, given(rs.nacking("x", park, "->?")),
				{until("s", "Live: 2 flying, 0 buffered, 0 to retry, 1 parked"), "Live: 2 flying, 0 buffered, 0 to retry, 1 parked"}, {parked, "none"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, append([]then{given(appending("t", expectAny, "a"))}, steps(readers{})...)...)
		})
	}
}

func TestGroupLinks(t *testing.T) {
	t.Parallel()
	link := proposed("0@s")
	link.Metadata["type"] = linkType
	gone := proposed("9@s")
	gone.Metadata["type"] = linkType
	onLinks := func(o *ps.CreateReq_Options) { o.GetStream().StreamIdentifier = identifier("l") }
	resolve := with(func(s *ps.CreateReq_Settings) { s.ResolveLinks = true })
	rs := readers{}
	state := "Live: 0 flying, 0 buffered, 0 to retry, 0 parked"
	play(t, abc, given(appendingEvents("l", expectAny, link, gone)), given(creating(onLinks, resolve)), given(rs.connecting("x", "l", 10)),
		then{rs.getting("x", 2), "->a ->?"}, given(rs.acking("x", "->a", "->?")), then{until("l", state), state})
}

func TestCloseEndsConsumersWithUnavailable(t *testing.T) {
	t.Parallel()
	r, rs := newRig(t), readers{}
	creating()(r)
	rs.connecting("x", "s", 10)(r)
	if err := r.node.Close(r.ctx); err != nil {
		t.Fatal(err)
	}
	if got := rs.getting("x", 1)(r); got != "Unavailable" {
		t.Error(got)
	}
}

// A stored configuration that nobody can read is not one of ours: the one before it counts.
func TestConfigurationSurvivesStrangers(t *testing.T) {
	t.Parallel()
	rs := readers{}
	all := creation(onAll("s"), with(func(s *ps.CreateReq_Settings) { s.MaxSubscriberCount, s.ExtraStatistics = 1, true }))
	play(t, given(creating()), given(func(r *rig) string { _, err := r.groups().Create(r.ctx, all); return done(err, nil) }),
		given(appending(configStream, expectAny, "no config")), given(restarting), then{listing(""), "list s::g $all::g"}, abc,
		then{rs.connecting("x", allStream, 10), "$all::g"}, then{rs.connecting("y", allStream, 10), "FailedPrecondition maximum-subscribers-reached"}, then{rs.getting("x", 3), "a b c"})
}

// Many groups without anything to do cost the committer and each other nothing.
func TestManyGroups(t *testing.T) {
	t.Parallel()
	r, rs := newRig(t), readers{}
	for i := range 100 {
		creating(func(o *ps.CreateReq_Options) {
			o.GetStream().StreamIdentifier, o.GroupName = identifier(fmt.Sprint("stream ", i)), fmt.Sprint(i)
		})(r)
	}
	creating()(r)
	restarting(r)
	if got := len(strings.Fields(listing("")(r))); got < 100 {
		t.Error(got)
	}
	rs.connecting("x", "s", 1)(r)
	appending("s", expectAny, "a")(r)
	if got := rs.getting("x", 1)(r); got != "a" {
		t.Error(got)
	}
}
