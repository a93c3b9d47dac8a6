package domain

import (
	"hash/maphash"
	"iter"
	"maps"
	"slices"
)

// Map is a persistent map with string keys: With and Without give a new map and leave the old one as it was, so that a
// state can be evolved tentatively and thrown away. The zero value is empty. Both cost O(log n).
type Map[V any] struct {
	root *mapNode[V]
	size int
}

// mapNode is a leaf with a few entries, or a branch of 16 by the next four bits of the key's hash.
type mapNode[V any] struct {
	kids    *[16]*mapNode[V]
	entries []mapEntry[V]
}

type mapEntry[V any] struct {
	hash  uint64
	key   string
	value V
}

const (
	mapLeaf  = 8  // entries in a leaf before it is split
	mapDepth = 16 // levels of four bits; a leaf at the last one grows instead
)

var mapSeed = maphash.MakeSeed()

// Len is the number of keys.
func (m Map[V]) Len() int { return m.size }

// Get gives the value of a key.
func (m Map[V]) Get(key string) (v V, ok bool) {
	h := maphash.String(mapSeed, key)
	n := m.root
	for rest := h; n != nil && n.kids != nil; rest >>= 4 {
		n = n.kids[rest&15]
	}
	if n != nil {
		for _, e := range n.entries {
			if e.hash == h && e.key == key {
				return e.value, true
			}
		}
	}
	return v, false
}

// With gives the map in which key has the value v.
func (m Map[V]) With(key string, v V) Map[V] {
	root, grew := m.root.with(mapEntry[V]{maphash.String(mapSeed, key), key, v}, 0)
	if grew {
		m.size++
	}
	m.root = root
	return m
}

// Without gives the map without key.
func (m Map[V]) Without(key string) Map[V] {
	root, shrank := m.root.without(maphash.String(mapSeed, key), key, 0)
	if shrank {
		m.root, m.size = root, m.size-1
	}
	return m
}

// All gives every key and value in no order.
func (m Map[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) { m.root.each(yield) }
}

// Keys gives the keys, sorted.
func (m Map[V]) Keys() []string {
	keys := make([]string, 0, m.size)
	for k := range m.All() {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (n *mapNode[V]) with(e mapEntry[V], depth int) (*mapNode[V], bool) {
	switch {
	case n == nil:
		return &mapNode[V]{entries: []mapEntry[V]{e}}, true
	case n.kids != nil:
		kids := *n.kids
		i := e.hash >> (4 * depth) & 15
		kid, grew := kids[i].with(e, depth+1)
		kids[i] = kid
		return &mapNode[V]{kids: &kids}, grew
	}
	for i, old := range n.entries {
		if old.hash == e.hash && old.key == e.key {
			entries := slices.Clone(n.entries)
			entries[i] = e
			return &mapNode[V]{entries: entries}, false
		}
	}
	entries := append(slices.Clip(slices.Clone(n.entries)), e)
	if len(entries) <= mapLeaf || depth >= mapDepth {
		return &mapNode[V]{entries: entries}, true
	}
	branch := &mapNode[V]{kids: new([16]*mapNode[V])}
	for _, each := range entries {
		i := each.hash >> (4 * depth) & 15
		branch.kids[i], _ = branch.kids[i].with(each, depth+1)
	}
	return branch, true
}

func (n *mapNode[V]) without(hash uint64, key string, depth int) (*mapNode[V], bool) {
	switch {
	case n == nil:
		return nil, false
	case n.kids != nil:
		i := hash >> (4 * depth) & 15
		kid, shrank := n.kids[i].without(hash, key, depth+1)
		if !shrank {
			return n, false
		}
		kids := *n.kids
		kids[i] = kid
		return &mapNode[V]{kids: &kids}, true
	}
	for i, e := range n.entries {
		if e.hash == hash && e.key == key {
			if len(n.entries) == 1 {
				return nil, true
			}
			return &mapNode[V]{entries: slices.Delete(slices.Clone(n.entries), i, i+1)}, true
		}
	}
	return n, false
}

func (n *mapNode[V]) each(yield func(string, V) bool) bool {
	if n == nil {
		return true
	}
	for _, e := range n.entries {
		if !yield(e.key, e.value) {
			return false
		}
	}
	if n.kids != nil {
		for _, kid := range n.kids {
			if !kid.each(yield) {
				return false
			}
		}
	}
	return true
}

// Units are amounts in named units: capacity, quotas, limits. A name is a key (CheckSlug); an amount is 0 to 2^53-1.
type Units map[string]int64

// MaxAmount is the highest amount that JSON keeps exactly.
const MaxAmount int64 = 1<<53 - 1

// CheckUnits refuses odd names and amounts, naming FIELD.NAME.
func CheckUnits(field string, u Units) error {
	if len(u) > 64 {
		return Invalid(field, "must not name more than 64 units")
	}
	for _, name := range slices.Sorted(maps.Keys(u)) {
		if !slugForm.MatchString(name) {
			return Invalid(field, "must be named like keys: 3 to 40 of a-z, 0-9 and dash")
		}
		if u[name] < 0 || u[name] > MaxAmount {
			return Invalid(field+"."+name, "must be from 0 to %d", MaxAmount)
		}
	}
	return nil
}
