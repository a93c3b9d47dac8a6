package view

import (
	"encoding/base64"
	"encoding/json"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/sink"
)

// MaxPage is how many objects a page has at most.
const MaxPage = 200

// Connection is a page of a list.
type Connection[T any] struct {
	Edges    []*Edge[T]
	PageInfo *PageInfo
}

// Nodes are the page's objects.
func (c *Connection[T]) Nodes() []*T {
	nodes := make([]*T, len(c.Edges))
	for i, e := range c.Edges {
		nodes[i] = e.Node
	}
	return nodes
}

// Edge is one object of a page, and the cursor behind it.
type Edge[T any] struct {
	Node   *T
	Cursor string
}

// PageInfo says where a page stands.
type PageInfo struct {
	HasNextPage     bool
	HasPreviousPage bool
	StartCursor     *string
	EndCursor       *string
}

// The connections of the schema.
type (
	OrgConnection    = Connection[Org]
	OrgEdge          = Edge[Org]
	TierConnection   = Connection[Tier]
	TierEdge         = Edge[Tier]
	TenantConnection = Connection[Tenant]
	TenantEdge       = Edge[Tenant]
	PlaneConnection  = Connection[Plane]
	PlaneEdge        = Edge[Plane]
	SagaConnection   = Connection[Saga]
	SagaEdge         = Edge[Saga]
	SinkConnection   = Connection[Sink]
	SinkEdge         = Edge[Sink]

	ParkedEventConnection  = Connection[sink.Parked]
	ParkedEventEdge        = Edge[sink.Parked]
	SinkDeliveryConnection = Connection[Delivery]
	SinkDeliveryEdge       = Edge[Delivery]
)

// Page is which part of a list is asked for.
type Page struct {
	First int64
	After *string
}

// cursor is where a list goes on. List guards against one list's cursor in another.
type cursor struct {
	List string   `json:"l"`
	Key  []string `json:"k"`
}

func (c cursor) String() string {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings always marshal
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// read checks the page and gives the place behind which it begins, in that many parts; empty ones for the list's start.
func (p Page) read(list string, parts int) ([]string, error) {
	if p.First < 1 || p.First > MaxPage {
		return nil, domain.Invalid("first", "must be from 1 to %d", MaxPage)
	}
	if p.After == nil {
		return make([]string, parts), nil
	}
	var c cursor
	b, err := base64.RawURLEncoding.DecodeString(*p.After)
	if err != nil || json.Unmarshal(b, &c) != nil || c.List != list || len(c.Key) != parts {
		return nil, badCursor()
	}
	return c.Key, nil
}

func badCursor() error { return domain.Invalid("after", "is no cursor of this list") }
