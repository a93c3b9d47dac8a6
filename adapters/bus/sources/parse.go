package sources

import (
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/domain"
)

// Parse reads the mapping below `sources`, in its order; kinds are those of the brokers. The error is CodeInvalid and its
// Field the full path of the key; the brokers' own settings are not looked at yet.
func Parse(n *yaml.Node, kinds []string) ([]Config, error) {
	if n != nil && n.Kind == yaml.DocumentNode && len(n.Content) == 1 {
		n = n.Content[0]
	}
	var first error
	root := newMapping("sources", n, &first)
	var all []Config
	for _, name := range root.order {
		if err := domain.CheckSlug(root.at(name), name); err != nil {
			return nil, err
		}
		c := parseSource(name, root.below(name), kinds)
		if first != nil {
			return nil, first
		}
		all = append(all, c.withDefaults())
	}
	return all, root.close()
}

func parseSource(name string, s *mapping, kinds []string) Config {
	c := Config{Name: name, Actor: s.text("actor"), Actors: s.texts("actors"), Commands: s.texts("commands"),
		Replies: s.text("replies"), ReplyTo: s.texts("replyTo"), Parked: s.text("parked"), Attempts: s.number("attempts", 1, 100)}
	if domain.CheckReference("", c.Actor) != nil {
		s.refuse("actor", "must be given: 1 to 128 of A-Z, a-z, 0-9, dot, underscore, colon and dash")
	}
	for _, a := range c.Actors {
		if domain.CheckReference("", strings.TrimSuffix(a, "*")) != nil {
			s.refuse("actors", "must be ids, or beginnings of ids with a star behind")
		}
	}
	for _, name := range c.Commands {
		if !slices.Contains(Commands(), name) {
			s.refuse("commands", "names %q, which is no command that callers may send", name)
		}
	}
	checkTopic(s, "replies", c.Replies)
	checkTopic(s, "parked", c.Parked)
	for _, topic := range c.ReplyTo {
		checkTopic(s, "replyTo", strings.TrimSuffix(topic, "*"))
	}
	backoff := s.below("backoff")
	c.First, c.Most = backoff.duration("first", time.Second), backoff.duration("most", time.Minute)
	if c.First > c.Most {
		backoff.refuse("most", "must not be shorter than first")
	}
	_ = backoff.close()
	for _, kind := range kinds {
		switch {
		case s.values[kind] == nil:
		case c.Kind != "":
			s.refuse(kind, "stands beside %s: a source has one broker", c.Kind)
		default:
			c.Kind, c.Node = kind, s.take(kind)
		}
	}
	if s.close() == nil && c.Kind == "" {
		s.refuse("", "must have one broker: %s", strings.Join(kinds, ", "))
	}
	return c
}

func checkTopic(s *mapping, key, topic string) {
	if s.values[key] != nil && !topicForm.MatchString(topic) {
		s.refuse(key, "must be a topic of up to 255 of A-Z, a-z, 0-9 and . _ : / -")
	}
}
