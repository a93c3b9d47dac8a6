package bus

import (
	"strings"

	"github.com/tenure-dev/tenure/domain"
)

// Topics that are more than one stream.
const (
	All              = "$all" // the whole log, the bus's own cursors apart
	categoryPrefix   = "$ce-" // and the category's name, as EventStoreDB's own projection calls its stream
	longestTopic     = 256    // bytes
	subscriptionForm = "must have 2 to 40 characters of a-z, 0-9 and -, begin with a letter and end with none of -"
)

// topic is what a subscription reads.
type topic struct {
	name     string
	stream   string // empty for several streams
	category string // of several streams; empty for all
}

func parseTopic(name string) (topic, error) {
	if err := checkText("topic", name, longestTopic); err != nil {
		return topic{}, err
	}
	if name == All {
		return topic{name: name}, nil
	}
	if category, is := strings.CutPrefix(name, categoryPrefix); is {
		if category == "" || strings.Contains(category, "-") || strings.HasPrefix(category, "$") {
			return topic{}, domain.Invalid("topic", "names no category")
		}
		return topic{name: name, category: category}, nil
	}
	if strings.HasPrefix(name, "$") {
		return topic{}, domain.Invalid("topic", "is a stream of the event store's own")
	}
	return topic{name: name, stream: name}, nil
}

// has tells whether a topic of several streams has that one.
func (t topic) has(stream string) bool {
	if t.category == "" {
		return true
	}
	category, _ := domain.SplitStream(stream)
	return category == t.category
}

// checkPublished tells whether messages may be published to a topic.
func checkPublished(name string) error {
	if err := checkText("topic", name, longestTopic); err != nil {
		return err
	}
	if category, _ := domain.SplitStream(name); domain.OfTheBus(name) && category != domain.CursorCategory {
		return nil
	}
	return domain.Invalid("topic", "must begin with %s- or %s-: other streams are the kernel's", domain.TopicCategory, domain.PoisonCategory)
}

func checkText(field, text string, limit int) error {
	switch {
	case text == "":
		return domain.Invalid(field, "must not be empty")
	case len(text) > limit:
		return domain.Invalid(field, "must have at most %d bytes", limit)
	case !isText(text):
		return domain.Invalid(field, "must be UTF-8 without NUL")
	}
	return nil
}

// checkSubscription tells whether a subscription may have that name: without a dot, behind which the topic stands in the name of
// its cursor's stream.
func checkSubscription(name string) error {
	good := len(name) >= 2 && len(name) <= 40 && name[0] >= 'a' && name[0] <= 'z' && name[len(name)-1] != '-'
	for _, c := range name {
		good = good && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !good {
		return domain.Invalid("name", subscriptionForm)
	}
	return nil
}
