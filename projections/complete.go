package projections

import (
	"slices"

	"github.com/tenure-dev/tenure/domain"
)

// Unhandled names the events for which the table has neither a handler nor Ignore, of those catalogs of which it names
// at least one event. Every read model's test expects none.
func (t *Table) Unhandled(catalogs ...domain.Catalog) []string {
	var missing []string
	for _, c := range catalogs {
		named := func(e domain.Entry) bool { _, ok := t.handlers[e.Type]; return ok }
		if !slices.ContainsFunc(c, named) {
			continue
		}
		for _, e := range c {
			if !named(e) {
				missing = append(missing, e.Name)
			}
		}
	}
	return missing
}

// Unfed names the Go types that the table handles and that stand in none of the catalogs: no such event ever comes.
func (t *Table) Unfed(catalogs ...domain.Catalog) []string {
	var dead []string
	for event := range t.handlers {
		in := func(c domain.Catalog) bool {
			return slices.ContainsFunc(c, func(e domain.Entry) bool { return e.Type == event })
		}
		if !slices.ContainsFunc(catalogs, in) {
			dead = append(dead, event.String())
		}
	}
	slices.Sort(dead)
	return dead
}
