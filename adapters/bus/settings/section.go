// Package settings reads the mappings of a configuration strictly, for the parts of the bus that have one.
package settings

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/domain"
)

// Secrets looks up what a configuration only names. The zero value is for one in which nothing may be named: each text stands
// written out.
type Secrets struct {
	Env  func(name string) (value string, ok bool)
	File func(path string) ([]byte, error)
}

// Section is one mapping of a configuration. It is read strictly: each getter takes a key, and Err gives the first value that
// is refused, or else the first key that nobody took, by its full path such as sinks.billing.webhook.url. Wherever a text
// stands, {env: NAME} or {file: PATH} may stand instead, if there are Secrets.
type Section struct {
	path    string
	values  map[string]*yaml.Node
	order   []string
	taken   map[string]bool
	secrets Secrets
	err     *error // shared with the sections below
}

// New reads the mapping at a path; one that is left out or empty is an empty one.
func New(path string, n *yaml.Node, secrets Secrets) *Section {
	if n != nil && n.Kind == yaml.DocumentNode && len(n.Content) == 1 {
		n = n.Content[0]
	}
	return section(path, n, secrets, new(error))
}

func section(path string, n *yaml.Node, secrets Secrets, first *error) *Section {
	s := &Section{path: path, values: map[string]*yaml.Node{}, taken: map[string]bool{}, secrets: secrets, err: first}
	n = followed(n)
	if n == nil || n.Kind == 0 || n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return s
	}
	if n.Kind != yaml.MappingNode {
		s.Refuse("", "must be a mapping")
		return s
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		if s.values[key] != nil {
			s.Refuse(key, "stands twice")
		}
		s.values[key], s.order = n.Content[i+1], append(s.order, key)
	}
	return s
}

func followed(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// Path is the full path of a key.
func (s *Section) Path(key string) string {
	if key == "" {
		return s.path
	}
	return s.path + "." + key
}

// Keys are the keys that stand, in their order.
func (s *Section) Keys() []string { return s.order }

// Refuse makes a problem with a key the section's error, if it is the first.
func (s *Section) Refuse(key, problem string, args ...any) {
	if *s.err == nil {
		*s.err = domain.Invalid(s.Path(key), problem, args...)
	}
}

// First gives the first value that is refused, here or in any section of the same configuration.
func (s *Section) First() error { return *s.err }

// Err gives the first error of this section and of all beside and below it, a key that nobody took included.
func (s *Section) Err() error {
	for _, key := range s.order {
		if !s.taken[key] {
			s.Refuse(key, "is not known")
		}
	}
	return *s.err
}

// Has tells whether a key stands.
func (s *Section) Has(key string) bool { return s.values[key] != nil }

// Text gives a text, or otherwise where the key is left out.
func (s *Section) Text(key, otherwise string) string {
	n := s.Take(key)
	if n == nil {
		return otherwise
	}
	return s.text(key, n)
}

// Texts gives a list of texts.
func (s *Section) Texts(key string) (all []string) {
	n := s.Take(key)
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		s.Refuse(key, "must be a list")
		return nil
	}
	for i, e := range n.Content {
		all = append(all, s.text(key+"["+strconv.Itoa(i)+"]", followed(e)))
	}
	return all
}

// Number gives a whole number from least to most, or otherwise.
func (s *Section) Number(key string, otherwise, least, most int) int {
	n := s.Take(key)
	if n == nil {
		return otherwise
	}
	v, err := strconv.Atoi(s.text(key, n))
	if err != nil || v < least || v > most {
		s.Refuse(key, "must be a whole number from %d to %d", least, most)
	}
	return v
}

// Duration gives a duration above 0 such as 10s, or otherwise.
func (s *Section) Duration(key string, otherwise time.Duration) time.Duration {
	n := s.Take(key)
	if n == nil {
		return otherwise
	}
	d, err := time.ParseDuration(s.text(key, n))
	if err != nil || d <= 0 {
		s.Refuse(key, "must be a duration above 0, such as 10s")
	}
	return d
}

// OneOf gives one of some words, the first where the key is left out.
func (s *Section) OneOf(key string, words ...string) string {
	word := s.Text(key, words[0])
	if !slices.Contains(words, word) {
		s.Refuse(key, "must be one of %s", strings.Join(words, ", "))
	}
	return word
}

// Section gives the mapping below a key, an empty one where it is left out.
func (s *Section) Section(key string) *Section {
	return section(s.Path(key), s.Take(key), s.secrets, s.err)
}

// Take gives a key's value as it stands, nil where it is left out.
func (s *Section) Take(key string) *yaml.Node {
	s.taken[key] = true
	return followed(s.values[key])
}

// text gives a scalar, or the secret that {env: NAME} or {file: PATH} names. Its errors never hold the value.
func (s *Section) text(key string, n *yaml.Node) string {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag != "!!null":
		return n.Value
	case s.secrets.Env == nil:
		s.Refuse(key, "must be a text")
		return ""
	case n.Kind == yaml.MappingNode && len(n.Content) == 2 && n.Content[1].Kind == yaml.ScalarNode:
		value, err := s.secret(n.Content[0].Value, n.Content[1].Value)
		if err != nil {
			s.Refuse(key, "%s", err)
		}
		return value
	}
	s.Refuse(key, "must be a text, {env: NAME} or {file: PATH}")
	return ""
}

func (s *Section) secret(kind, name string) (string, error) {
	switch kind {
	case "env":
		if v, ok := s.secrets.Env(name); ok && v != "" {
			return v, nil
		}
		return "", fmt.Errorf("names the environment variable %s, which is not set", name)
	case "file":
		b, err := s.secrets.File(name)
		if v := strings.TrimRight(string(b), "\r\n"); err == nil && v != "" {
			return v, nil
		}
		return "", fmt.Errorf("names the file %s, which cannot be read or is empty", name)
	}
	return "", fmt.Errorf("must be a text, {env: NAME} or {file: PATH}")
}
