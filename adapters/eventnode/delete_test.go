package eventnode

import "testing"

func TestSoftDelete(t *testing.T) {
	t.Parallel()
	abc := given(appending("s", expectAny, "a", "b", "c"))
	soft := given(deleting("s", expectAny))
	const wrong = "FailedPrecondition wrong-expected-version "
	playAll(t, []row{
		{"a stream that never was, whatever is expected", []then{{deleting("s", expectAny), wrong + "-2/-1"}, {deleting("s", expectNoStream), wrong + "-1/-1"},
			{deleting("s", expectStreamExists), wrong + "-4/-1"}, {deleting("s", 0), wrong + "0/-1"}}},
		{"another revision", []then{abc, {deleting("s", 7), wrong + "7/2"}, {deleting("s", 1), wrong + "1/2"}, {deleting("s", expectNoStream), wrong + "-1/2"}}},
		{"no expectation", []then{abc, {deleting("s", unset), "InvalidArgument"}}},
		{"an empty name", []then{{deleting("", expectAny), "InvalidArgument"}}},
		{"$all", []then{{deleting("$all", expectAny), "PermissionDenied access-denied"}}},
		{"hides all events and replaces the metadata", []then{abc, given(setting("s", `{"$maxCount":2}`)), {deleting("s", 2), "deleted"},
			{reading(ofStream("s")), "not-found"}, {reading(ofStream("s"), backwards), "not-found"}, {reading(ofStream("$$s")), "[$metadata " + softDeletedJSON + "]"}}},
		{"again: any, no stream and the revision", []then{abc, soft, {deleting("s", expectAny), "deleted"}, {deleting("s", expectNoStream), "deleted"}, {deleting("s", 2), "deleted"}}},
		{"again: stream exists", []then{abc, soft, {deleting("s", expectStreamExists), "FailedPrecondition stream-deleted"}}},
		{"a stream with only metadata", []then{given(setting("s", `{}`)), {deleting("s", expectAny), "deleted"}}},
		{"a metastream", []then{given(setting("s", `{}`)), {deleting("$$s", expectAny), "deleted"}}},
		{"$all keeps the events", []then{abc, soft, {reading(ofAll, filtered("stream", 32, 1, "s")), "a b c"}}},
	})
}

func TestTombstone(t *testing.T) {
	t.Parallel()
	ab := given(appending("s", expectAny, "a", "b"))
	gone := given(tombstoning("s", expectAny))
	const wrong, refused = "FailedPrecondition wrong-expected-version ", "FailedPrecondition stream-deleted"
	playAll(t, []row{
		{"a stream that never was: any", []then{{tombstoning("s", expectAny), "deleted"}, {appending("s", expectAny, "a"), refused}}},
		{"a stream that never was: no stream", []then{{tombstoning("s", expectNoStream), "deleted"}}},
		{"a stream that never was: stream exists or a revision", []then{{tombstoning("s", expectStreamExists), wrong + "-4/-1"}, {tombstoning("s", 0), wrong + "0/-1"}}},
		{"another revision", []then{ab, {tombstoning("s", 7), wrong + "7/1"}, {tombstoning("s", expectNoStream), wrong + "-1/1"}}},
		{"no expectation", []then{ab, {tombstoning("s", unset), "InvalidArgument"}}},
		{"an empty name", []then{{tombstoning("", expectAny), "InvalidArgument"}}},
		{"$all", []then{{tombstoning("$all", expectAny), "PermissionDenied access-denied"}}},
		{"a soft-deleted stream", []then{ab, given(deleting("s", expectAny)), {tombstoning("s", expectNoStream), "deleted"}}},
		{"everything is refused afterwards", []then{ab, given(setting("s", `{}`)), gone, {reading(ofStream("s")), refused}, {reading(ofStream("s"), backwards), refused},
			{reading(ofStream("$$s")), refused}, {deleting("s", expectAny), refused}, {tombstoning("s", expectAny), refused},
			{subscribing("x", ofStream("s")), refused}, {subscribing("y", ofStream("$$s")), refused}}},
		{"also after a restart", []then{ab, gone, given(restarting), {appending("s", 1, "c"), refused}, {reading(ofStream("s")), refused}, {setting("s", `{}`), refused}}},
		{"$all keeps everything, the tombstone included", []then{ab, gone, {reading(ofAll, filtered("stream", 32, 1, "s")), "a b [$streamDeleted ]"}}},
	})
}
