package projectionstest

import (
	"time"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/projections"
)

// The events of a small made-up domain: shops, each a stream shop-<id>, and the orders that they take.
type (
	Opened struct {
		Name string   `json:"name"`
		Tags []string `json:"tags,omitempty"`
	}
	Renamed struct {
		Name string `json:"name"`
	}
	Ordered struct {
		Order string    `json:"order"`
		Cents int64     `json:"cents"`
		Due   time.Time `json:"due"`
	}
	Paid struct {
		Order string `json:"order"`
	}
	Voided struct {
		Order string `json:"order"`
	}
	Closed struct{}
	Noted  struct{}
	// Cursed makes the fold of shops panic, and that of orders too if Order is not empty.
	Cursed struct {
		Order string `json:"order"`
	}
	// Unheard means nothing to any projection.
	Unheard struct{}
)

// Catalog is the shops'.
var Catalog = domain.Catalog{
	domain.Fact[Opened]("shop.opened"),
	domain.Fact[Renamed]("shop.renamed"),
	domain.Fact[Ordered]("shop.ordered"),
	domain.Fact[Paid]("shop.paid"),
	domain.Fact[Voided]("shop.voided"),
	domain.Fact[Closed]("shop.closed"),
	domain.Fact[Noted]("shop.noted"),
	domain.Fact[Cursed]("shop.cursed"),
	domain.Fact[Unheard]("shop.unheard"),
}

// Shop is a row of every kind of column.
type Shop struct {
	ID       string
	Name     string `db:",null"`
	Tags     []string
	Owner    domain.Sealed
	Orders   int64
	Cents    int64 `db:"turnover_cents,null"`
	Open     bool
	Last     []Line    `db:",json"`
	LastDue  time.Time `db:",null"`
	Revision int64
}

// Line is one of a shop's last three orders.
type Line struct {
	Order string    `json:"order"`
	Due   time.Time `json:"due"`
}

// Shops has one row a shop. Blessed folds take what is cursed, as a later release would.
func Shops(version int, blessed bool) *projections.Table {
	return projections.Projection[Shop]{
		Name: "shops", Version: version,
		After: func(r *Shop, m domain.Meta) { r.Revision = m.Revision },
		On: []projections.Handler[Shop]{
			projections.On(func(r *Shop, e Opened, m domain.Meta) {
				r.Name, r.Tags, r.Open = e.Name, e.Tags, true
				r.Owner = domain.Sealed{Subject: m.ID(), Key: "k1", Text: []byte(e.Name)}
			}),
			projections.On(func(r *Shop, e Renamed, m domain.Meta) {
				r.Name, r.Tags = e.Name, append(r.Tags, `was "renamed", \ too`)
			}),
			projections.On(func(r *Shop, e Ordered, m domain.Meta) {
				r.Orders, r.Cents, r.LastDue = r.Orders+1, r.Cents+e.Cents, e.Due
				if r.Last = append(r.Last, Line{e.Order, e.Due}); len(r.Last) > 3 {
					copy(r.Last, r.Last[1:]) // in place: a row's slices are its own
					r.Last = r.Last[:3]
				}
			}),
			projections.On(func(r *Shop, e Cursed, m domain.Meta) {
				r.Name = "half done"
				if !blessed {
					panic("cursed")
				}
			}),
			projections.Gone[Shop, Closed](),
			projections.Touch[Shop, Noted](),
			projections.Touch[Shop, Paid](),
			projections.Touch[Shop, Voided](),
			projections.Ignore[Shop, Unheard](),
		},
	}.Table()
}

// Order is a row below a shop's stream.
type Order struct {
	ID    string
	Shop  string
	Cents int64
	Paid  bool
	At    time.Time
}

// Orders has one row an order.
func Orders() *projections.Table {
	return projections.Projection[Order]{
		Name: "orders", Version: 1,
		On: []projections.Handler[Order]{
			projections.OnKey(func(e Ordered) string { return e.Order }, func(r *Order, e Ordered, m domain.Meta) {
				r.Shop, r.Cents, r.At = m.ID(), e.Cents, m.RecordedAt
			}),
			projections.OnKey(func(e Paid) string { return e.Order }, func(r *Order, e Paid, m domain.Meta) { r.Paid = true }),
			projections.GoneKey[Order](func(e Voided) string { return e.Order }),
			projections.OnKey(func(e Cursed) string { return e.Order }, func(r *Order, e Cursed, m domain.Meta) { panic("cursed order") }),
			projections.Ignore[Order, Opened](),
			projections.Ignore[Order, Renamed](),
			projections.Ignore[Order, Closed](),
			projections.Ignore[Order, Noted](),
			projections.Ignore[Order, Unheard](),
		},
	}.Table()
}
