package sinks

import (
	"context"
	"sync"
	"time"
)

const (
	deliveryQueue = 4096
	deliveryBatch = 500
	lastRecord    = 5 * time.Second // for what is left when the process stops
)

// record keeps a delivery in the log of deliveries if there is room, and counts it as dropped if not.
func (r *Runner) record(d Delivery) {
	if r.Deliveries == nil {
		return
	}
	select {
	case r.deliveries <- d:
	default:
		r.metrics.drop(1)
	}
}

// keepDeliveries hands deliveries on in batches until ctx ends and the queue is empty.
func (r *Runner) keepDeliveries(ctx context.Context) {
	for {
		select {
		case d := <-r.deliveries:
			r.hand(ctx, d)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastRecord)
			defer cancel()
			for {
				select {
				case d := <-r.deliveries:
					r.hand(last, d)
				default:
					return
				}
			}
		}
	}
}

func (r *Runner) hand(ctx context.Context, first Delivery) {
	batch := []Delivery{first}
	for more := true; more && len(batch) < deliveryBatch; {
		select {
		case d := <-r.deliveries:
			batch = append(batch, d)
		default:
			more = false
		}
	}
	if err := r.Deliveries.Record(ctx, batch); err != nil {
		r.metrics.drop(len(batch))
		r.Logger.WarnContext(ctx, "the log of deliveries is not written", "dropped", len(batch), "error", err)
	}
}

// Ring keeps the last deliveries in memory. It is safe for concurrent use.
type Ring struct {
	Size int // 1,000 when zero
	mu   sync.Mutex
	kept []Delivery
}

// Record implements Deliveries.
func (r *Ring) Record(_ context.Context, batch []Delivery) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	size := r.Size
	if size <= 0 {
		size = 1000
	}
	r.kept = append(r.kept, batch...)
	if n := len(r.kept) - size; n > 0 {
		r.kept = append([]Delivery(nil), r.kept[n:]...)
	}
	return nil
}

// All gives what is kept, oldest first.
func (r *Ring) All() []Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Delivery(nil), r.kept...)
}
