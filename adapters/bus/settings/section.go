// Package settings reads the mappings of a configuration strictly, for all that have one: the command line's flags, sinks,
// sources, and the targets and brokers of these.
package settings

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/domain"
)

// Secrets looks up what a configuration only names. Both functions are set, or neither: then nothing may be named, and each text
// stands written out.
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
	missing []string // the required keys that do not stand
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
		key := followed(n.Content[i]).Value
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
	if s.path == "" || key == "" {
		return s.path + key
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

// Err gives the first error of this section and of all beside and below it; a key that nobody took is one, and then a required
// one that does not stand.
func (s *Section) Err() error {
	for _, key := range s.order {
		if !s.taken[key] {
			s.Refuse(key, "is not known (there are: %s)", strings.Join(slices.Sorted(maps.Keys(s.taken)), ", "))
		}
	}
	for _, key := range s.missing {
		s.Refuse(key, "must be given")
	}
	return *s.err
}

// Locate gives an error of whoever uses the section's values, and does not know where they stand, the full path of its field.
func (s *Section) Locate(err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*domain.Error](err)
	if !ok {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	located := *e
	located.Field = s.Path(e.Field)
	return &located
}

// Has tells whether a key stands.
func (s *Section) Has(key string) bool { return s.values[key] != nil }

// Text gives a text, or otherwise where the key is left out.
func (s *Section) Text(key, otherwise string) string {
	n := s.take(key)
	if n == nil {
		return otherwise
	}
	return s.text(key, n)
}

// Required gives a text that must be there and not be empty.
func (s *Section) Required(key string) string {
	text := s.Text(key, "")
	if text == "" {
		s.missing = append(s.missing, key)
	}
	return text
}

// Certificates gives certificates in PEM, nil where the key is left out: they are the text, or in the file whose path it is.
func (s *Section) Certificates(key string) []byte {
	text := s.Text(key, "")
	if !s.Has(key) || *s.err != nil {
		return nil
	}
	if strings.Contains(text, "-----BEGIN ") {
		return []byte(text)
	}
	pem, err := s.secrets.File(text)
	if err != nil || len(pem) == 0 {
		s.Refuse(key, "must be certificates in PEM, or the path of a file that holds them")
	}
	return pem
}

// Texts gives a list of texts.
func (s *Section) Texts(key string) (all []string) {
	n := s.take(key)
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

// Some gives a list of texts that is not empty, nil where the key is left out.
func (s *Section) Some(key string) []string {
	all := s.Texts(key)
	if s.Has(key) && len(all) == 0 {
		s.Refuse(key, "must not be empty: leave it out")
	}
	return all
}

// Number gives a whole number from least to most, or otherwise.
func (s *Section) Number(key string, otherwise, least, most int) int {
	n := s.take(key)
	if n == nil {
		return otherwise
	}
	v, err := strconv.Atoi(s.text(key, n))
	if err != nil || v < least || v > most {
		s.Refuse(key, "must be a whole number from %d to %d", least, most)
	}
	return v
}

// Bool gives true or false, or otherwise.
func (s *Section) Bool(key string, otherwise bool) bool {
	n := s.take(key)
	if n == nil {
		return otherwise
	}
	text := strings.ToLower(s.text(key, n))
	if text != "true" && text != "false" {
		s.Refuse(key, "must be true or false")
	}
	return text == "true"
}

// Duration gives a duration above 0 such as 10s, or otherwise.
func (s *Section) Duration(key string, otherwise time.Duration) time.Duration {
	return s.duration(key, otherwise, 1, math.MaxInt64, "above 0")
}

// DurationWithin gives a duration from least to most, or otherwise.
func (s *Section) DurationWithin(key string, otherwise, least, most time.Duration) time.Duration {
	return s.duration(key, otherwise, least, most, fmt.Sprintf("from %s to %s", least, most))
}

func (s *Section) duration(key string, otherwise, least, most time.Duration, within string) time.Duration {
	n := s.take(key)
	if n == nil {
		return otherwise
	}
	d, err := time.ParseDuration(s.text(key, n))
	if err != nil || d < least || d > most {
		s.Refuse(key, "must be a duration %s, such as 10s", within)
	}
	return d
}

// Backoff gives the first pause and the longest of the mapping backoff, or the given ones.
func (s *Section) Backoff(first, most time.Duration) (time.Duration, time.Duration) {
	backoff := s.Section("backoff")
	first, most = backoff.Duration("first", first), backoff.Duration("most", most)
	if first > most {
		backoff.Refuse("most", "must not be shorter than first")
	}
	_ = backoff.Err()
	return first, most
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
	return section(s.Path(key), s.take(key), s.secrets, s.err)
}

// One gives the one of some keys that stands, and the mapping below it. It is asked last: what is wrong with other keys comes
// before there being none.
func (s *Section) One(keys []string) (key string, below *Section) {
	for _, k := range keys {
		switch s.take(k); {
		case !s.Has(k):
		case below != nil:
			s.Refuse(k, "must not stand beside %s", key)
		default:
			key, below = k, s.Section(k)
		}
	}
	if s.Err() == nil && below == nil {
		s.Refuse("", "must have one of %s", strings.Join(keys, ", "))
	}
	return key, below
}

// take gives a key's value as it stands, nil where it is left out.
func (s *Section) take(key string) *yaml.Node {
	s.taken[key] = true
	return followed(s.values[key])
}

// text gives a scalar, or what {env: NAME} or {file: PATH} names, without the line end that closes a file. Its errors never hold
// the value.
func (s *Section) text(key string, n *yaml.Node) string {
	const must = "must be a text, {env: NAME} or {file: PATH}"
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag != "!!null":
		return n.Value
	case s.secrets.Env == nil:
		s.Refuse(key, "must be a text")
		return ""
	case n.Kind != yaml.MappingNode:
		s.Refuse(key, must)
		return ""
	}
	named := section(s.Path(key), n, Secrets{}, s.err)
	env, file := named.Text("env", ""), named.Text("file", "")
	if named.Err() == nil && (env == "") == (file == "") {
		s.Refuse(key, must)
	}
	if *s.err != nil {
		return ""
	}
	if env != "" {
		value, ok := s.secrets.Env(env)
		if !ok || value == "" {
			named.Refuse("env", "names the variable %s, which is not set", env)
		}
		return value
	}
	content, err := s.secrets.File(file)
	value := strings.TrimRight(string(content), "\r\n")
	if err != nil || value == "" {
		named.Refuse("file", "names the file %s, which cannot be read or is empty", file)
	}
	return value
}
