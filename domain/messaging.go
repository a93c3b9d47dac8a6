package domain

// The categories of the message bus's streams. Their events are messages to and from others, in whatever form those have: no
// catalog knows them, and no fold, saga or agent is given them.
const (
	TopicCategory  = "topic"  // topic-<name>: what is published
	PoisonCategory = "poison" // poison-<handler>: messages that a handler could not take
	CursorCategory = "bus"    // bus-<subscription>.<topic>: how far a subscription has come
)

// OfTheBus tells the message bus's streams from the kernel's.
func OfTheBus(stream string) bool {
	switch category, _ := SplitStream(stream); category {
	case TopicCategory, PoisonCategory, CursorCategory:
		return category != stream
	}
	return false
}
