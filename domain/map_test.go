package domain_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tenure-dev/tenure/domain"
	"pgregory.net/rapid"
)

func TestAPersistentMapAgreesWithAPlainOneAndOldVersionsStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m domain.Map[int]
		plain := map[string]int{}
		type version struct {
			m     domain.Map[int]
			plain map[string]int
		}
		var versions []version
		for i := range rapid.IntRange(0, 300).Draw(t, "steps") {
			key := fmt.Sprint(rapid.IntRange(0, 120).Draw(t, "key"))
			if rapid.Bool().Draw(t, "remove") {
				m = m.Without(key)
				delete(plain, key)
			} else {
				m = m.With(key, i)
				plain[key] = i
			}
			versions = append(versions, version{m, maps.Clone(plain)})
		}
		for _, v := range versions {
			if diff := cmp.Diff(v.plain, maps.Collect(v.m.All())); diff != "" || v.m.Len() != len(v.plain) {
				t.Fatalf("a version differs from its model (-model +map):\n%s", diff)
			}
			for k, want := range v.plain {
				if got, ok := v.m.Get(k); !ok || got != want {
					t.Fatalf("Get(%s) = %d, %v; want %d", k, got, ok, want)
				}
			}
		}
	})
}
