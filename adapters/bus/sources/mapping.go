package sources

import (
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/domain"
)

// mapping is one mapping of a configuration, read strictly: each getter takes a key, and close gives the first value that is
// refused, or else the first key that nobody took, by its full path.
type mapping struct {
	path   string
	values map[string]*yaml.Node
	order  []string
	taken  map[string]bool
	first  *error // shared with the mappings below
}

func newMapping(path string, n *yaml.Node, first *error) *mapping {
	m := &mapping{path: path, values: map[string]*yaml.Node{}, taken: map[string]bool{}, first: first}
	n = followed(n)
	switch {
	case n == nil || n.Kind == 0 || n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return m
	case n.Kind != yaml.MappingNode:
		m.refuse("", "must be a mapping")
		return m
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		if m.values[key] != nil {
			m.refuse(key, "stands twice")
		}
		m.values[key], m.order = n.Content[i+1], append(m.order, key)
	}
	return m
}

func followed(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func (m *mapping) at(key string) string {
	if key == "" {
		return m.path
	}
	return m.path + "." + key
}

func (m *mapping) refuse(key, problem string, args ...any) {
	if *m.first == nil {
		*m.first = domain.Invalid(m.at(key), problem, args...)
	}
}

func (m *mapping) close() error {
	for _, key := range m.order {
		if !m.taken[key] {
			m.refuse(key, "is not known")
		}
	}
	return *m.first
}

func (m *mapping) take(key string) *yaml.Node {
	m.taken[key] = true
	return followed(m.values[key])
}

func (m *mapping) below(key string) *mapping { return newMapping(m.at(key), m.take(key), m.first) }

func (m *mapping) text(key string) string {
	n := m.take(key)
	if n == nil {
		return ""
	}
	return m.scalar(key, n)
}

func (m *mapping) scalar(key string, n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		m.refuse(key, "must be a text")
		return ""
	}
	return n.Value
}

// texts gives a list that is left out or not empty.
func (m *mapping) texts(key string) (all []string) {
	n := m.take(key)
	switch {
	case n == nil:
		return nil
	case n.Kind != yaml.SequenceNode || len(n.Content) == 0:
		m.refuse(key, "must be a list that is not empty")
		return nil
	}
	for _, each := range n.Content {
		all = append(all, m.scalar(key, followed(each)))
	}
	return all
}

// number gives a whole number from least to most, or 0 where it is left out.
func (m *mapping) number(key string, least, most int) int {
	n := m.take(key)
	if n == nil {
		return 0
	}
	v, err := strconv.Atoi(m.scalar(key, n))
	if err != nil || v < least || v > most {
		m.refuse(key, "must be a whole number from %d to %d", least, most)
	}
	return v
}

// duration gives a duration above 0, or otherwise where it is left out.
func (m *mapping) duration(key string, otherwise time.Duration) time.Duration {
	n := m.take(key)
	if n == nil {
		return otherwise
	}
	d, err := time.ParseDuration(m.scalar(key, n))
	if err != nil || d <= 0 {
		m.refuse(key, "must be a duration above 0, such as 10s")
	}
	return d
}
