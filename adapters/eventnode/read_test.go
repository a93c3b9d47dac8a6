package eventnode

import (
	"strings"
	"testing"

	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
)

func linking(stream, name, target string) step {
	e := proposed(name)
	e.Metadata["type"], e.Data = linkType, []byte(target)
	return appendingEvents(stream, expectAny, e)
}

func TestReadStream(t *testing.T) {
	t.Parallel()
	abcde := given(appending("s", expectAny, "a", "b", "c", "d", "e"))
	s := ofStream("s")
	start := func(o *api.ReadReq_Options) {
		o.GetStream().RevisionOption = &api.ReadReq_Options_StreamOptions_Start{Start: empty}
	}
	playAll(t, []row{
		{"a missing stream", []then{{reading(s), "not-found"}, {reading(s, backwards), "not-found"}, {reading(s, from(3)), "not-found"}}},
		{"$all as a name", []then{{reading(ofStream("$all")), "not-found"}}},
		{"an empty name", []then{{reading(ofStream("")), "InvalidArgument"}}},
		{"forwards", []then{abcde, {reading(s), "a b c d e"}, {reading(s, from(2)), "c d e"}, {reading(s, from(2), count(2)), "c d"}}},
		{"forwards from above the last", []then{abcde, {reading(s, from(5)), "nothing"}, {reading(s, from(1<<63-1)), "nothing"}, {reading(s, fromEnd), "nothing"}}},
		{"backwards", []then{abcde, {reading(s, backwards), "e d c b a"}, {reading(s, backwards, from(2)), "c b a"}, {reading(s, backwards, from(500), count(2)), "e d"}}},
		{"backwards from the start", []then{abcde, {reading(s, backwards, start), "a"}}},
		{"count 0", []then{abcde, {reading(s, count(0)), "nothing"}}},
		{"a count beyond all", []then{abcde, {reading(s, count(1<<64-1)), "a b c d e"}}},
		{"nowhere to start", []then{abcde, {reading(s, fromNowhere), "InvalidArgument"}}},
		{"a revision beyond the largest", []then{abcde, {reading(s, from(1<<63)), "InvalidArgument"}}},
		{"ends on request", []then{abcde, {reading(s, withPositions), "a b c d e last=4"}, {reading(s, withPositions, from(1), count(2)), "b c last=4"},
			{reading(s, withPositions, backwards, count(2)), "e d last=4"}, {reading(s, withPositions, from(50)), "first=5 last=4"}}},
		{"ends on request, below the bound", []then{abcde, given(setting("s", `{"$maxCount":2}`)), {reading(s, withPositions, count(2)), "first=3 d e last=4"},
			{reading(s, withPositions, count(9)), "d e last=4"}}},
		{"a start that nothing lies behind is not told again", []then{abcde, {reading(s, withPositions, from(5)), "last=4"}, {reading(s, withPositions, from(6)), "first=5 last=4"},
			{reading(s, withPositions, from(1<<63-1)), "first=5 last=4"}}},
		{"ends on request, all of it below the bound", []then{abcde, given(setting("s", `{"$tb":5}`)), {reading(s, withPositions), "first=5 last=4"},
			{reading(s, withPositions, count(2)), "first=5 last=4"}, {reading(s, withPositions, from(5)), "last=4"}}},
		{"ends on request, the bound beyond the last", []then{abcde, given(setting("s", `{"$tb":20}`)), {reading(s, withPositions), "first=5 last=4"},
			{reading(s, withPositions, count(2)), "first=20 first=5 last=4"}}},
		{"ends of a missing stream", []then{{reading(s, withPositions), "not-found"}}},
	})
}

// Only some kinds of read exist, and each needs all its parts.
func TestReadCombinations(t *testing.T) {
	t.Parallel()
	noFilter := func(o *api.ReadReq_Options) { o.FilterOption = nil }
	noIDs := func(o *api.ReadReq_Options) { o.UuidOption = nil }
	noCount := func(o *api.ReadReq_Options) { o.CountOption = nil }
	nothing := func(o *api.ReadReq_Options) {}
	s, f := ofStream("s"), filtered("type", 32, 1, "T")
	for name, do := range map[string]step{
		"no stream":                         reading(nothing),
		"no filter option":                  reading(s, noFilter),
		"no form of ids":                    reading(s, noIDs),
		"neither count nor subscription":    reading(s, noCount),
		"a stream with a filter":            reading(s, f),
		"a subscription backwards":          subscribing("x", s, backwards),
		"a subscription to all backwards":   subscribing("x", ofAll, backwards),
		"a filtered stream subscription":    subscribing("x", s, f),
		"a subscription without ids":        subscribing("x", s, noIDs),
		"a subscription from nowhere":       subscribing("x", s, fromNowhere),
		"a filter without expression":       reading(ofAll, f, func(o *api.ReadReq_Options) { o.GetFilter().Filter = nil }),
		"a filter without window":           reading(ofAll, f, func(o *api.ReadReq_Options) { o.GetFilter().Window = nil }),
		"a window of 0":                     reading(ofAll, filtered("type", 0, 1, "T")),
		"checkpoints every 0":               subscribing("x", ofAll, filtered("type", 32, 0, "T")),
		"an expression that is none":        reading(ofAll, filtered("type", 32, 1, "/(")),
		"prepare above commit":              reading(ofAll, fromPosition(10, 20)),
		"all from nowhere":                  reading(ofAll, fromNowhere),
		"a position that nothing begins at": reading(ofAll, fromPosition(65, 65)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, then{do, "InvalidArgument"})
		})
	}
}

func TestReadAll(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	appending("s", expectAny, "a", "b")(r)
	appending("s", expectAny)(r) // an invisible record
	appending("t", expectAny, "c")(r)
	appending("$persistentsubscription-$all::g-checkpoint", expectAny, "hidden")(r)
	appending("$persistentsubscription-$all::g-parked", expectAny, "hidden too")(r)
	appending("$persistentsubscription-s::g-parked", expectAny, "d")(r)
	at := map[string]uint64{}
	messages, err, _ := r.read(ofAll)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		at[describe(m)] = m.GetEvent().GetCommitPosition()
	}
	mine := strings.TrimPrefix(strings.Join(described(messages), " "), "admin ")
	if mine != "a b c d" {
		t.Fatalf("all: %s", mine)
	}
	for _, row := range []struct {
		name string
		do   step
		want string
	}{
		{"from a position is inclusive", reading(ofAll, fromPosition(at["b"], at["b"])), "b c d"},
		{"a count", reading(ofAll, fromPosition(at["b"], at["b"]), count(2)), "b c"},
		{"prepare below commit is taken", reading(ofAll, fromPosition(at["b"], 1)), "b c d"},
		{"backwards from a position is exclusive", reading(ofAll, backwards, fromPosition(at["c"], at["c"])), "b a admin"},
		{"backwards from the end", reading(ofAll, backwards, count(2)), "d c"},
		{"forwards from the end", reading(ofAll, fromEnd), "nothing"},
		{"the smallest position is the start", reading(ofAll, fromPosition(0, 0), count(2)), "admin a"},
		{"the largest position is the end", reading(ofAll, backwards, fromPosition(1<<64-1, 1<<64-1), count(1)), "d"},
		{"backwards from the start", reading(ofAll, backwards, fromPosition(0, 0)), "nothing"},
		{"forwards beyond the end", reading(ofAll, fromPosition(1<<40, 1<<40)), "nothing"},
		{"backwards beyond the end", reading(ofAll, backwards, fromPosition(1<<40, 1<<40)), "InvalidArgument"},
		{"off a record", reading(ofAll, fromPosition(at["b"]+1, at["b"]+1)), "InvalidArgument"},
		{"count 0", reading(ofAll, count(0)), "nothing"},
		{"count 0 backwards", reading(ofAll, backwards, count(0)), "nothing"},
		{"bookkeeping of groups on $all is a stream like others", reading(ofStream("$persistentsubscription-$all::g-parked")), "hidden too"},
		{"bookkeeping stays hidden from a filter", reading(ofAll, filtered("stream", 32, 1, "$persistentsubscription")), "d"},
		{"a filter with few matches and a count", reading(ofAll, filtered("stream", 1, 1, "t", "$p"), count(1)), "c"},
	} {
		if got := row.do(r); got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for stream, typ := range map[string]string{"order-1": "Placed"} {
		e := proposed("order")
		e.Metadata["type"] = typ
		appendingEvents(stream, expectAny, e)(r)
	}
	e := proposed("bill")
	e.Metadata["type"] = "Paid"
	appendingEvents("bill-1", expectAny, e)(r)
	e = proposed("turtle")
	e.Metadata["type"] = "Zażółć"
	appendingEvents("żółw٣", expectAny, e)(r)
	linking("links", "1@order-1", "0@order-1")(r)
	for _, row := range []struct {
		name, by string
		x        []string
		want     string
	}{
		{"by prefix of the type", "type", []string{"Pla"}, "order"},
		{"any of several prefixes", "type", []string{"Pla", "Pai"}, "order bill"},
		{"prefixes see case", "type", []string{"pla"}, "nothing"},
		{"by prefix of the stream", "stream", []string{"bill-"}, "bill"},
		{"neither prefix nor expression", "type", nil, "nothing"},
		{"an expression is not anchored", "type", []string{"/aid|lac"}, "order bill"},
		{"the usual way to leave out the system's events", "type", []string{`/^[^\$].*`}, "order bill turtle"},
		{"a letter is one of Unicode's", "type", []string{`/^\w{6}$`}, "order turtle"},
		{"and so is a digit", "stream", []string{`/^\w{4}\d$`}, "turtle"},
		{"an expression with look-around", "type", []string{"/^P(?!aid)"}, "order"},
		{"an expression with a back-reference", "stream", []string{`/(l)\1`}, "bill"},
		{"an expression that ignores case", "type", []string{"/(?i)^PAID$"}, "bill"},
		{"a filter looks at the link, not at its target", "type", []string{"Placed", "$>"}, "order 0@order-1->order"},
		{"and at the link's stream", "stream", []string{"links"}, "0@order-1->order"},
	} {
		if got := reading(ofAll, resolving, filtered(row.by, 32, 1, row.x...))(r); got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	target := given(appending("s", expectAny, "a", "b"))
	links, resolved := ofStream("l"), []option{ofStream("l"), resolving}
	rows := []row{
		{"a link", []then{target, given(linking("l", "x", "1@s")), {reading(resolved...), "1@s->b"}, {reading(links), "1@s"}}},
		{"a stream with an @ in its name", []then{given(appending("a@b", expectAny, "a")), given(linking("l", "x", "0@a@b")), {reading(resolved...), "0@a@b->a"}}},
		{"one level only", []then{target, given(linking("l", "x", "1@s")), given(linking("m", "y", "0@l")), {reading(ofStream("m"), resolving), "0@l->1@s"}}},
		{"a missing stream", []then{given(linking("l", "x", "0@s")), {reading(resolved...), "0@s->?"}}},
		{"a missing revision", []then{target, given(linking("l", "x", "2@s")), {reading(resolved...), "2@s->?"}}},
		{"a truncated target", []then{target, given(setting("s", `{"$tb":1}`)), given(linking("l", "x", "0@s")), {reading(resolved...), "0@s->?"}}},
		{"a soft-deleted target", []then{target, given(deleting("s", expectAny)), given(linking("l", "x", "0@s")), {reading(resolved...), "0@s->?"}}},
		{"a tombstoned target", []then{target, given(tombstoning("s", expectAny)), given(linking("l", "x", "0@s")), {reading(resolved...), "0@s->?"}}},
		{"data that is no link", []then{target, given(linking("l", "x", "nonsense")), {reading(resolved...), "nonsense"}}},
		{"in $all", []then{target, given(linking("l", "x", "0@s")), {reading(ofAll, resolving, filtered("stream", 32, 1, "l")), "0@s->a"}}},
		{"in a subscription, old and new", []then{target, given(linking("l", "x", "0@s")), {subscribing("x", resolved...), "confirmed"}, {hearing("x", 2), "0@s->a caught-up"},
			given(linking("l", "y", "1@s")), {hearing("x", 1), "1@s->b"}}},
	}
	playAll(t, rows)
}

func TestMetadataHidesEvents(t *testing.T) {
	t.Parallel()
	five := given(appending("s", expectAny, "a", "b", "c", "d", "e"))
	s := ofStream("s")
	rows := []row{
		{"$maxCount", []then{five, given(setting("s", `{"$maxCount":2}`)), {reading(s), "d e"}, {reading(s, backwards), "e d"}, {reading(s, from(1), count(1)), "d"},
			{reading(s, backwards, from(2)), "nothing"}, {reading(ofAll, filtered("stream", 32, 1, "s")), "a b c d e"}}},
		{"$maxCount slides", []then{five, given(setting("s", `{"$maxCount":2}`)), given(appending("s", expectAny, "f")), {reading(s), "e f"}}},
		{"a larger $maxCount shows events again", []then{five, given(setting("s", `{"$maxCount":1}`)), given(setting("s", `{"$maxCount":3}`)), {reading(s), "c d e"}}},
		{"$tb", []then{five, given(setting("s", `{"$tb":3}`)), {reading(s), "d e"}, {reading(s, backwards, from(2)), "nothing"}}},
		{"$tb at the end and beyond", []then{five, given(setting("s", `{"$tb":5}`)), {reading(s), "nothing"}, {reading(s, backwards), "nothing"},
			given(setting("s", `{"$tb":1000}`)), {reading(s), "nothing"}, {appending("s", 4, "f"), "at 5"}}},
		{"the larger of two bounds", []then{five, given(setting("s", `{"$tb":1,"$maxCount":2}`)), {reading(s), "d e"}, given(setting("s", `{"$tb":4,"$maxCount":2}`)), {reading(s), "e"}}},
		{"$maxAge", []then{five, given(setting("s", `{"$maxAge":10}`)), given(passing(8e9)), given(appending("s", expectAny, "f")), {reading(s), "a b c d e f"},
			given(passing(3e9)), {reading(s), "f"}, {reading(s, backwards), "f"}, {reading(s, from(1), count(1)), "f"}, given(passing(9e9)), {reading(s), "nothing"}}},
		{"metadata may come first", []then{given(setting("s", `{"$tb":1}`)), five, {reading(s), "b c d e"}}},
		{"the largest $tb is a soft delete", []then{five, given(setting("s", softDeletedJSON)), {reading(s), "not-found"}}},
		{"metadata of a missing stream", []then{{reading(ofStream("$$s")), "not-found"}}},
		{"a metastream shows its last event only", []then{given(setting("s", `{"v":1}`)), given(setting("s", `{"v":2}`)), {reading(ofStream("$$s"), count(1)), `[$metadata {"v":2}]`},
			{reading(ofStream("$$s"), backwards), `[$metadata {"v":2}]`}, {reading(ofStream("$$s"), backwards, from(0)), "nothing"}}},
		{"whatever its own metadata says", []then{given(setting("s", `{"v":1}`)), given(setting("s", `{"v":2}`)), given(setting("$$s", `{"$maxCount":5}`)), {reading(ofStream("$$s")), `[$metadata {"v":2}]`}}},
		{"all of it holds after a restart", []then{five, given(setting("s", `{"$maxCount":2}`)), given(restarting), {reading(s), "d e"}, {appending("s", expectAny, "a"), "at 0, hidden"}}},
	}
	for name, bad := range map[string]string{
		"$maxCount 0": `{"$maxCount":0,"$tb":3}`, "a negative $maxCount": `{"$maxCount":-1,"$tb":3}`, "$maxCount as text": `{"$maxCount":"3","$tb":3}`,
		"a fraction": `{"$maxCount":1.5,"$tb":3}`, "$maxAge 0": `{"$maxAge":0,"$tb":3}`, "a negative $tb": `{"$tb":-1,"$maxCount":1}`, "$cacheControl 0": `{"$cacheControl":0,"$tb":3}`,
		"an ACL that is none": `{"$acl":7,"$tb":3}`, "an ACL with a number": `{"$acl":{"$r":1},"$tb":3}`, "a list": `[{"$tb":3}]`, "no JSON": `nonsense`, "$tmp as text": `{"$tmp":"yes","$tb":3}`,
		"the first of equal keys": `{"$tb":"1","$tb":3}`, "an ACL with null": `{"$acl":{"$r":null},"$tb":3}`, "an ACL with null in a list": `{"$acl":{"$r":["a",null]},"$tb":3}`,
		"an ACL that is null": `{"$acl":null,"$tb":3}`, "the first of equal roles": `{"$acl":{"$r":1,"$r":"a"},"$tb":3}`, "another key in an ACL": `{"$acl":{"r":"a"},"$tb":3}`,
		"a $maxAge that no clock can measure": `{"$maxAge":922337203686,"$tb":3}`, "an object without end": `{"$tb":3`,
	} {
		rows = append(rows, row{"one bad value empties all: " + name, []then{five, {setting("s", bad), "at 0"}, {reading(s), "a b c d e"}}})
	}
	octet := proposed("octet")
	octet.Metadata["content-type"], octet.Data = "application/octet-stream", []byte(`{"$tb":3}`)
	rows = append(rows,
		row{"of equal keys the last counts", []then{five, given(setting("s", `{"$tb":1,"$tb":3}`)), {reading(s), "d e"}}},
		row{"of equal keys the last has to be in range", []then{five, given(setting("s", `{"$maxCount":0,"$maxCount":2}`)), {reading(s), "d e"}}},
		row{"text after the object is not looked at", []then{five, given(setting("s", `{"$tb":3} more}`)), {reading(s), "d e"}}},
		row{"the longest $maxAge", []then{five, given(setting("s", `{"$maxAge":922337203685,"$tb":3}`)), {reading(s), "d e"}}},
		row{"good values of all kinds", []then{five, given(setting("s", `{"$acl":{"$r":["a","b"],"$w":"c"},"$cacheControl":1,"$tmp":true,"x":{"$tb":1},"$tb":3}`)), {reading(s), "d e"}}},
		row{"an event that is not JSON is empty", []then{five, given(appendingEvents("$$s", expectAny, octet)), {reading(s), "a b c d e"}}},
		row{"the type is not looked at", []then{five, given(func(r *rig) string {
			e := proposed("m")
			e.Data = []byte(`{"$tb":3}`)
			return appendingEvents("$$s", expectAny, e)(r)
		}), {reading(s), "d e"}}})
	playAll(t, rows)
}
