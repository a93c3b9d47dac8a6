package sources

import (
	"slices"
	"strings"
	"time"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/domain"
)

// Parse reads the mapping of `sources`, in its order; kinds are those of the brokers. The error is CodeInvalid and its
// Field the full path of the key; the brokers' own settings are not looked at yet.
func Parse(root *settings.Section, kinds []string) ([]Config, error) {
	var all []Config
	for _, name := range root.Keys() {
		if err := domain.CheckSlug(root.Path(name), name); err != nil {
			return nil, err
		}
		c := parseSource(name, root.Section(name), kinds)
		if err := root.First(); err != nil {
			return nil, err
		}
		all = append(all, c.withDefaults())
	}
	return all, root.Err()
}

func parseSource(name string, s *settings.Section, kinds []string) Config {
	c := Config{Name: name, Actor: s.Text("actor", ""), Actors: s.Some("actors"), Commands: s.Some("commands"),
		Replies: s.Text("replies", ""), ReplyTo: s.Some("replyTo"), Parked: s.Text("parked", ""), Attempts: s.Number("attempts", 0, 1, 100)}
	if domain.CheckReference("", c.Actor) != nil {
		s.Refuse("actor", "must be given: 1 to 128 of A-Z, a-z, 0-9, dot, underscore, colon and dash")
	}
	for _, a := range c.Actors {
		if domain.CheckReference("", strings.TrimSuffix(a, "*")) != nil {
			s.Refuse("actors", "must be ids, or beginnings of ids with a star behind")
		}
	}
	for _, name := range c.Commands {
		if !slices.Contains(Commands(), name) {
			s.Refuse("commands", "names %q, which is no command that callers may send", name)
		}
	}
	checkTopic(s, "replies", c.Replies)
	checkTopic(s, "parked", c.Parked)
	for _, topic := range c.ReplyTo {
		checkTopic(s, "replyTo", strings.TrimSuffix(topic, "*"))
	}
	c.First, c.Most = s.Backoff(time.Second, time.Minute)
	c.Kind, c.Settings = s.One(kinds)
	return c
}

func checkTopic(s *settings.Section, key, topic string) {
	if s.Has(key) && !topicForm.MatchString(topic) {
		s.Refuse(key, "must be a topic of up to 255 of A-Z, a-z, 0-9 and . _ : / -")
	}
}
