package eventnode

import (
	"testing"
	"time"
)

// Whatever the clock does, order comes from positions and revisions alone. $maxAge goes by the events' own times, as on a real
// server: nothing lives on before an event of the same stream that is too old, whatever its own time says.
func TestTheClockGoesBack(t *testing.T) {
	t.Parallel()
	back := []then{given(appending("s", expectNoStream, "a")), given(passing(-time.Hour)), {appending("s", 0, "b"), "at 1"}, given(passing(8 * time.Minute)), {appending("s", 1, "c"), "at 2"}}
	after := func(s ...then) []then { return append(append([]then(nil), back...), s...) }
	playAll(t, []row{
		{"a stream is read in the order of its revisions", after(then{reading(ofStream("s")), "a b c"}, then{reading(ofStream("s"), backwards), "c b a"})},
		{"the log is read in the order of its positions", after(then{reading(ofAll, filtered("stream", 32, 1, "s")), "a b c"})},
		{"so does a subscriber", after(given(subscribing("x", ofStream("s"))), then{hearing("x", 4), "a b c caught-up"}, then{appending("s", 2, "d"), "at 3"}, then{hearing("x", 1), "d"})},
		{"a repetition is known", after(then{appending("s", 0, "b"), "at 1"}, then{appending("s", expectAny, "c"), "at 2"})},
		{"so is it after a restart", after(given(restarting), then{reading(ofStream("s")), "a b c"}, then{appending("s", 2, "d"), "at 3"})},
		{"$maxAge hides nothing that is young", after(given(setting("s", `{"$maxAge":600}`)), then{reading(ofStream("s")), "a b c"})},
		{"$maxAge hides what lies before an event that is too old", after(given(setting("s", `{"$maxAge":600}`)), given(passing(3*time.Minute)), then{reading(ofStream("s")), "c"})},
		{"a scavenge takes no more than that", after(given(setting("s", `{"$maxAge":600}`)), given(passing(3*time.Minute)), then{scavenging, "Started"}, then{stored("s"), "2"}, then{reading(ofStream("s")), "c"})},
		{"a clock that stands still", []then{given(appending("s", expectAny, "a", "b")), given(appending("s", 1, "c")), given(setting("s", `{"$maxAge":600}`)), {reading(ofStream("s")), "a b c"}}},
	})
}
