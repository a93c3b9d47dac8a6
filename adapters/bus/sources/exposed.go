package sources

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/tenure-dev/tenure/domain"
	"github.com/tenure-dev/tenure/domain/org"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/domain/tier"
)

// exposure is a command that callers may send.
type exposure struct {
	aggregate domain.Aggregate
	name      string // on the wire
	target    string // the input's field that says what the command is for; empty for a command that creates something
	derived   string // the field that the Bus fills with the id of what is created: no part of the input
}

// exposed is what the API exposes as mutations, but plane.issueJoinToken: its answer is a secret, which no broker shall hold.
var exposed = []exposure{
	{org.Aggregate, "org.register", "", "orgId"},
	{org.Aggregate, "org.rename", "orgId", ""},
	{tier.Aggregate, "tier.publish", "tierKey", ""},
	{tier.Aggregate, "tier.deprecate", "tierKey", ""},
	{tenant.Aggregate, "tenant.request", "", "tenantId"},
	{tenant.Aggregate, "tenant.suspend", "tenantId", ""},
	{tenant.Aggregate, "tenant.resume", "tenantId", ""},
	{tenant.Aggregate, "tenant.offboard", "tenantId", ""},
	{plane.Aggregate, "plane.register", "", "planeId"},
	{plane.Aggregate, "plane.cordon", "planeId", ""},
	{plane.Aggregate, "plane.uncordon", "planeId", ""},
	{saga.Aggregate, "saga.retry", "saga", ""},
	{saga.Aggregate, "saga.cancel", "saga", ""},
}

// Commands are the wire names of the commands that a source may take, sorted.
func Commands() []string {
	var names []string
	for _, e := range exposed {
		names = append(names, e.name)
	}
	slices.Sort(names)
	return names
}

// kind is an exposed command with its Go type.
type kind struct {
	exposure
	input reflect.Type
}

func kinds() (map[string]kind, error) {
	all := map[string]kind{}
	for _, e := range exposed {
		entry, ok := domain.NewRegistry(e.aggregate.Commands).Named(e.name)
		if !ok {
			return nil, fmt.Errorf("sources: %s is no command of %s", e.name, e.aggregate.Category)
		}
		all[e.name] = kind{e, entry.Type}
	}
	return all, nil
}

// command reads the input of a command: its wire form, but that text which is sealed in the log stands in clear.
func (k kind) command(data []byte) (domain.Command, error) {
	v := reflect.New(k.input).Elem()
	if err := bind("", data, v, k.derived); err != nil {
		return nil, err
	}
	return v.Interface().(domain.Command), nil
}
