package domain_test

import (
	"testing"

	"github.com/tenure-dev/tenure/domain"
)

func TestTheBusHasThreeCategoriesOfItsOwn(t *testing.T) {
	for stream, want := range map[string]bool{"topic-a": true, "topic-a-b": true, "poison-mail": true, "bus-mail.$all": true,
		"topic": false, "bus": false, "topics-a": false, "tenant-topic-a": false, "tenant-ten_x": false, "log-epoch": false, "": false, "-topic": false} {
		if domain.OfTheBus(stream) != want {
			t.Errorf("%q: %v", stream, !want)
		}
	}
}
