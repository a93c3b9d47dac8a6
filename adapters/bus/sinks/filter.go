package sinks

import (
	"encoding/json"
	"strings"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
)

// filter tells which events a sink sends.
type filter struct {
	own           string // the sink's stream
	types         map[string]bool
	prefixes      []string // with the dot at their end
	orgs, tenants map[string]bool
}

func newFilter(c Config) filter {
	f := filter{own: sink.Aggregate.Stream(c.Name), orgs: set(c.Orgs), tenants: set(c.Tenants)}
	for _, t := range c.Types {
		if p, wild := strings.CutSuffix(t, "*"); wild {
			f.prefixes = append(f.prefixes, p)
			continue
		}
		if f.types == nil {
			f.types = map[string]bool{}
		}
		f.types[t] = true
	}
	return f
}

func set(texts []string) map[string]bool {
	if len(texts) == 0 {
		return nil
	}
	m := make(map[string]bool, len(texts))
	for _, t := range texts {
		m[t] = true
	}
	return m
}

// wants tells whether an event is sent. What a sink says of itself it never sends, and what any sink says of failing to send
// an event of a sink neither: else two broken sinks would feed each other for ever.
func (f *filter) wants(e *domain.Recorded) bool {
	if e.Rev < 1 || f.orgs != nil && !f.orgs[e.Org] || f.tenants != nil && !f.tenants[e.Tenant] || !f.named(e.Type) {
		return false
	}
	switch category, _ := domain.SplitStream(e.Stream); category {
	case sink.CursorCategory:
		return false
	case sink.Category:
		return e.Stream != f.own && !aboutASink(e)
	}
	return true
}

func (f *filter) named(name string) bool {
	if f.types == nil && f.prefixes == nil || f.types[name] {
		return true
	}
	for _, p := range f.prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

func aboutASink(e *domain.Recorded) bool {
	if e.Type != "sink.parked" {
		return false
	}
	var p sink.Parked
	category := ""
	if json.Unmarshal(e.Data, &p) == nil {
		category, _ = domain.SplitStream(p.Stream)
	}
	return category == sink.Category
}

// quiet tells events that never wake a write of the cursor: those of sinks and of their cursors.
func quiet(stream string) bool {
	category, _ := domain.SplitStream(stream)
	return category == sink.Category || category == sink.CursorCategory
}
