package sources

import (
	"cmp"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
)

// Config is what all sources have in common. Parse fills it and its defaults.
type Config struct {
	Name        string
	Actor       string            // as whom commands are given
	Actors      []string          // whom a message may name instead, by the extension actor: ids, or beginnings with a star; nobody when empty
	Commands    []string          // wire names of those that are taken; all that callers may send when empty
	Replies     string            // topic of answers to messages that wish for none of their own; empty for none
	ReplyTo     []string          // topics that a message may wish for, or beginnings with a star; all when empty
	Parked      string            // topic of what cannot be served; tenure.sources.<name>.parked when empty
	Attempts    int               // of one message before it is parked, 1 to 100; 12 when zero
	First, Most time.Duration     // the pause after the first failure, and the longest; 1 s and 1 min when zero
	Kind        string            // of the broker: one of those that Parse was given
	Settings    *settings.Section // its own, not looked at yet
}

// Source is a source with what its configuration leads to.
type Source struct {
	Config
	Subscriber message.Subscriber
	Topic      string            // that is subscribed to
	Publisher  message.Publisher // of answers and of parked messages, by topic; it must heed the message's context or have a bound of its own
}

// withDefaults fills what is zero.
func (c Config) withDefaults() Config {
	c.Parked, c.Attempts = cmp.Or(c.Parked, "tenure.sources."+c.Name+".parked"), cmp.Or(c.Attempts, 12)
	c.First, c.Most = cmp.Or(c.First, time.Second), cmp.Or(c.Most, time.Minute)
	return c
}
