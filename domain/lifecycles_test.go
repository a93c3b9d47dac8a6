package domain_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenure-dev/tenure/domain"
	. "github.com/tenure-dev/tenure/domain/domaintest"
	"github.com/tenure-dev/tenure/domain/org"
	"github.com/tenure-dev/tenure/domain/plane"
	"github.com/tenure-dev/tenure/domain/reservation"
	"github.com/tenure-dev/tenure/domain/saga"
	"github.com/tenure-dev/tenure/domain/sink"
	"github.com/tenure-dev/tenure/domain/tenant"
	"github.com/tenure-dev/tenure/domain/tier"
)

// sagaDiagram is drawn by hand: a saga's own facts move it, not the two commands that its matrix has.
const sagaDiagram = `stateDiagram-v2
    [*] --> running: started
    running --> undoing: turned
    undoing --> running: tried again
    running --> attention: attention needed
    undoing --> attention: attention needed
    attention --> running: cleared, retry
    attention --> undoing: cleared, cancel
    running --> ended
    undoing --> ended
    ended --> [*]
`

// TestTheLifecyclesInTheDocsAreTheRulebooks prints docs/lifecycles.md from each aggregate's matrix and from the diagrams that
// the aggregates' own specifications keep in their testdata; where one of those changes, GOLDEN=write is run twice.
func TestTheLifecyclesInTheDocsAreTheRulebooks(t *testing.T) {
	var b strings.Builder
	b.WriteString(`<!-- Generated: GOLDEN=write go test ./domain/... writes it anew; twice where a diagram changes. -->
# Lifecycles

Which command is heard in which phase, printed from the rulebooks in ` + "`domain`" + `. *Heard*: the rulebook decides, which may still refuse or
change nothing. *Quiet*: it succeeds and changes nothing. Empty: it is refused as ` + "`not_allowed`" + `. The diagrams have an arrow for each
command that a row of the specification shows to change the phase.
`)
	for _, x := range []struct {
		a     domain.Aggregate
		story string
	}{
		{org.Aggregate, "A customer of the vendor. Tenants requested in a suspended org are born suspended."},
		{tier.Aggregate, "A versioned offer. A deprecated tier takes no new tenants; publishing it again puts it back on offer."},
		{tenant.Aggregate, "Onboarding and offboarding take the tenant's one change slot. Suspending adds a cause and resuming clears one, in every phase in " +
			"which the tenant lives;\nthe phase follows when the plane has confirmed that the causes began or ended. Offboarding a tenant that is still " +
			"being made turns its onboarding\nback; it is deleted when all of it has been undone."},
		{plane.Aggregate, "A data plane: its agent, its capacity ledger, and every operation asked of it. A cordoned plane takes no new reservations; what has " +
			"its place there goes on."},
		{reservation.Aggregate, "One unique value, such as a slug within an org."},
		{sink.Aggregate, "Where events go to another system. A paused sink waits; a disabled one failed for too long, or its receiver is gone. Nothing " +
			"is lost\nmeanwhile: resumed, it goes on from where it stopped."},
		{saga.Aggregate, "A running saga, as operators steer it. Its own facts move it from phase to phase."},
	} {
		m, err := ParseMatrix(x.a.Matrix)
		if err != nil {
			t.Fatal(err)
		}
		diagram := sagaDiagram
		if x.a.Category != saga.Category {
			drawn, err := os.ReadFile(filepath.Join(x.a.Category, "testdata", "diagram.mmd"))
			if err != nil {
				t.Fatal(err)
			}
			diagram = string(drawn)
		}
		b.WriteString("\n## " + strings.ToUpper(x.a.Category[:1]) + x.a.Category[1:] + "\n\n" + x.story + "\n\n```mermaid\n" + diagram + "```\n\n" + m.Table())
	}
	Printed(t, filepath.Join("..", "docs", "lifecycles.md"), b.String())
}

// TestTheMatrixOfEachAggregateIsTheOneThatItsSpecificationKeeps would fail if an aggregate had no specification at all.
func TestTheMatrixOfEachAggregateIsTheOneThatItsSpecificationKeeps(t *testing.T) {
	for _, a := range aggregates {
		kept, err := os.ReadFile(filepath.Join(a.Category, "testdata", "matrix.txt"))
		if err != nil || string(kept) != a.Matrix {
			t.Errorf("%s: %v", a.Category, err)
		}
	}
}
