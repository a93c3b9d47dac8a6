package domain

// DeliveryKind says what a subscription to the log delivers.
type DeliveryKind uint8

// The kinds of delivery.
const (
	DeliveredEvent DeliveryKind = iota // the next event
	CaughtUp                           // everything that was in the log has been delivered; what follows is new
	Checkpoint                         // a place up to which everything has been delivered, though no event stands there
)

// Delivery is one message of a subscription to the log, in log order.
type Delivery struct {
	Kind   DeliveryKind
	Event  Recorded // with DeliveredEvent
	Commit uint64   // the position reached; for an event its own. With CaughtUp it may be 0: unknown
}
