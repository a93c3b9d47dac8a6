package sinks

import (
	"cmp"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Config is what all sinks have in common. Parse fills it and its defaults.
type Config struct {
	Name          string
	Types         []string // exact wire names, or a prefix and .*; all when empty
	Orgs, Tenants []string // all when empty
	FromStart     bool     // where a sink without a cursor begins; else with what is appended next
	Personal      Personal
	Attempts      int           // deliveries of one event before it is parked, 1 to 100
	First, Most   time.Duration // the pause after the first failure, and the longest
	DisableAfter  time.Duration // of nothing but failure
	InFlight      int           // streams delivered to side by side, 1 to 256
	Target        Target
}

// Sink is a sink with what its configuration leads to.
type Sink struct {
	Config
	Publisher message.Publisher // must end with the message's context, or have a bound of its own
	Topic     string            // that messages are published to
	Key       []byte            // of hashed personal fields
}

// withDefaults fills what is zero.
func (c Config) withDefaults() Config {
	c.Personal = cmp.Or(c.Personal, Omit)
	c.Attempts, c.InFlight = cmp.Or(c.Attempts, 12), cmp.Or(c.InFlight, 16)
	c.First, c.Most, c.DisableAfter = cmp.Or(c.First, time.Second), cmp.Or(c.Most, 10*time.Minute), cmp.Or(c.DisableAfter, 120*time.Hour)
	return c
}
