package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// kind is one kind of object of the API.
type kind struct {
	one, many string // the queries
	key       string // the argument that names one
	fields    string // what is asked of each in a list
	more      string // what is asked besides of a single one
	columns   []column
	details   []column // of a single one, after the columns
	filters   []filter
	name      string // what one is called by; ID if empty
	lists     []list // of objects within a single one
}

// list is a list of objects within another.
type list struct {
	path    string
	columns []column
}

// filter is a flag that narrows a list.
type filter struct{ flag, arg, typ, usage string }

func tenantsCommand() *cobra.Command {
	tenants := kind{
		one: "tenant", many: "tenants", key: "id",
		fields: `id slug name phase region tier { key version isolation } plane { id name } org { id name } saga { id name state }
			rejection { code step } revision createdAt updatedAt`,
		more: "causes { kind reference reason }",
		columns: []column{at("ID", "id"), at("SLUG", "slug"), at("PHASE", "phase"), at("TIER", "tier.key"), at("VERSION", "tier.version"),
			at("PLANE", "plane.id"), at("ORG", "org.id"), at("SAGA", "saga.id")},
		details: []column{at("NAME", "name"), at("REGION", "region"), at("ISOLATION", "tier.isolation"), at("REJECTED FOR", "rejection.code"),
			at("REJECTED AT", "rejection.step"), at("REVISION", "revision"), at("CREATED", "createdAt"), at("UPDATED", "updatedAt")},
		lists: []list{{"causes", []column{at("CAUSE", "kind"), at("REFERENCE", "reference"), at("REASON", "reason")}}},
		filters: []filter{{"org", "orgId", "ID", "only those of this org"}, {"plane", "planeId", "ID", "only those on this data plane"},
			{"phase", "phase", "TenantPhase", "only those in this phase"}, {"slug", "slug", "String", "only those with this slug"}},
	}
	return group("tenants", "Look at tenants", listCommand(tenants), showCommand(tenants))
}

func sagasCommand() *cobra.Command {
	sagas := kind{
		one: "saga", many: "sagas", key: "id",
		fields: "id name version state step code tenant { id slug } org { id } startedAt finishedAt revision",
		more:   "steps { name state attempt startedAt finishedAt lastError }",
		columns: []column{at("ID", "id"), at("NAME", "name"), at("STATE", "state"), at("STEP", "step"), at("CODE", "code"), at("TENANT", "tenant.id"),
			at("STARTED", "startedAt"), at("FINISHED", "finishedAt")},
		details: []column{at("ORG", "org.id"), at("VERSION", "version"), at("REVISION", "revision")},
		lists: []list{{"steps", []column{at("STEP", "name"), at("STATE", "state"), at("ATTEMPT", "attempt"), at("STARTED", "startedAt"), at("FINISHED", "finishedAt"),
			at("LAST ERROR", "lastError")}}},
		filters: []filter{{"tenant", "tenantId", "ID", "only those about this tenant"}, {"state", "state", "SagaState", "only those in this state"},
			{"kind", "name", "String", "only those of this kind, such as onboarding"}},
	}
	return group("sagas", "Look at sagas, and decide on those that need attention", listCommand(sagas), showCommand(sagas),
		changeCommand(sagas, change{"retry", "retrySaga", "RetrySagaInput", "sagaId", "Let a saga try again"}),
		changeCommand(sagas, change{"cancel", "cancelSaga", "CancelSagaInput", "sagaId", "Turn a saga back: what it has done is undone"}))
}

func planesCommand() *cobra.Command {
	planes := kind{
		one: "plane", many: "planes", key: "id",
		fields: `id name region cloud account isolations phase reason agent { state session version driver } capacity { unit total used }
			revision createdAt updatedAt`,
		more: "labels { key value }",
		columns: []column{at("ID", "id"), at("NAME", "name"), at("REGION", "region"), at("PHASE", "phase"), at("AGENT", "agent.state"),
			at("ISOLATIONS", "isolations"), {"CAPACITY", capacityOf}},
		details: []column{at("REASON", "reason"), at("CLOUD", "cloud"), at("ACCOUNT", "account"), at("DRIVER", "agent.driver"),
			at("AGENT VERSION", "agent.version"), at("SESSION", "agent.session"), at("REVISION", "revision"), at("CREATED", "createdAt"), at("UPDATED", "updatedAt")},
		lists:   []list{{"labels", []column{at("LABEL", "key"), at("VALUE", "value")}}},
		filters: []filter{{"region", "region", "String", "only those in this region"}},
	}
	return group("planes", "Look at data planes, and keep new tenants away from them", listCommand(planes), showCommand(planes), planesJoinCommand(),
		changeCommand(planes, change{"cordon", "cordonPlane", "CordonPlaneInput", "planeId", "Keep new tenants away from a data plane"}),
		changeCommand(planes, change{"uncordon", "uncordonPlane", "UncordonPlaneInput", "planeId", "Let new tenants come to a data plane again"}))
}

// capacityOf is such as slots 12/1000: used and total.
func capacityOf(r row) string {
	var units []string
	for _, c := range r.all("capacity") {
		units = append(units, c.at("unit")+" "+c.at("used")+"/"+c.at("total"))
	}
	return strings.Join(units, ", ")
}

func orgsCommand() *cobra.Command {
	orgs := kind{
		many:    "orgs",
		fields:  "id name slug phase parent { id } revision createdAt updatedAt",
		columns: []column{at("ID", "id"), at("NAME", "name"), at("SLUG", "slug"), at("PHASE", "phase"), at("PARENT", "parent.id"), at("CREATED", "createdAt")},
		filters: []filter{{"parent", "parentId", "ID", "only the parts of this org"}},
	}
	return group("orgs", "Look at orgs", listCommand(orgs))
}

func tiersCommand() *cobra.Command {
	tiers := kind{
		many: "tiers",
		fields: `key version name phase isolation endpoint nodes quotas { unit amount } features targets { unit amount }
			cost { unit amount } revision createdAt updatedAt`,
		columns: []column{at("KEY", "key"), at("VERSION", "version"), at("NAME", "name"), at("PHASE", "phase"), at("ISOLATION", "isolation"),
			{"QUOTAS", amountsOf("quotas")}, {"COST", amountsOf("cost")}},
	}
	return group("tiers", "Look at tiers", listCommand(tiers))
}

// amountsOf is such as connections 20, slots 1.
func amountsOf(name string) func(row) string {
	return func(r row) string {
		var units []string
		for _, a := range r.all(name) {
			units = append(units, a.at("unit")+" "+a.at("amount"))
		}
		return strings.Join(units, ", ")
	}
}
