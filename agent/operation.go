package agent

import (
	"fmt"
	"maps"
	"regexp"

	"github.com/tenure-dev/tenure/agent/drivers"
	"github.com/tenure-dev/tenure/agent/protocol/agentv1"
)

// kind is what an operation does. Its values stand in journals.
type kind string

const (
	provision         kind = "provision"
	suspend           kind = "suspend"
	resume            kind = "resume"
	resize            kind = "resize"
	deprovision       kind = "deprovision"
	rotateCredentials kind = "rotate_credentials"
)

// level kinds follow the causes' revision and have a lane of their own; all others follow the change number.
func (k kind) level() bool { return k == suspend || k == resume }

// desired is what the log wants of one tenant. It stands in journals.
type desired struct {
	TenantID          string            `json:"tenantId"`
	Isolation         drivers.Isolation `json:"isolation"`
	Limits            map[string]int64  `json:"limits,omitempty"`
	CredentialVersion int64             `json:"credentialVersion"`
	Suspended         bool              `json:"suspended,omitempty"`
	Change            int64             `json:"change,omitempty"`
	Causes            int64             `json:"causes,omitempty"`
	Gone              bool              `json:"gone,omitempty"`
}

func (d desired) driverTenant() drivers.Tenant {
	return drivers.Tenant{
		ID: d.TenantID, Isolation: d.Isolation, Limits: maps.Clone(d.Limits), CredentialVersion: d.CredentialVersion,
	}
}

// operation is one asked effect. It stands in journals.
type operation struct {
	ID       string  `json:"id"`
	Revision int64   `json:"revision"`
	Kind     kind    `json:"kind"`
	Tenant   desired `json:"tenant"`
}

// outcome is how an operation ended. It stands in journals.
type outcome struct {
	OperationID string            `json:"operationId"`
	TenantID    string            `json:"tenantId"`
	Revision    int64             `json:"revision"`
	Finished    int64             `json:"finished"` // µs since 1970 UTC
	Result      result            `json:"result"`
	Class       drivers.Class     `json:"class,omitempty"`
	Code        string            `json:"code,omitempty"`
	Attempts    int               `json:"attempts,omitempty"`
	Learned     map[string]string `json:"learned,omitempty"`
}

type result string

const (
	done       result = "done"
	failed     result = "failed"
	withdrawn  result = "withdrawn"
	superseded result = "superseded"
)

var (
	kinds = map[agentv1.OperationKind]kind{
		agentv1.OperationKind_OPERATION_KIND_PROVISION:          provision,
		agentv1.OperationKind_OPERATION_KIND_SUSPEND:            suspend,
		agentv1.OperationKind_OPERATION_KIND_RESUME:             resume,
		agentv1.OperationKind_OPERATION_KIND_RESIZE:             resize,
		agentv1.OperationKind_OPERATION_KIND_DEPROVISION:        deprovision,
		agentv1.OperationKind_OPERATION_KIND_ROTATE_CREDENTIALS: rotateCredentials,
	}
	isolations = map[agentv1.Isolation]drivers.Isolation{
		agentv1.Isolation_ISOLATION_POOL:   drivers.Pool,
		agentv1.Isolation_ISOLATION_BRIDGE: drivers.Bridge,
		agentv1.Isolation_ISOLATION_SILO:   drivers.Silo,
	}
	classes = map[drivers.Class]agentv1.FailureClass{
		drivers.User:      agentv1.FailureClass_FAILURE_CLASS_USER,
		drivers.Quota:     agentv1.FailureClass_FAILURE_CLASS_QUOTA,
		drivers.Transient: agentv1.FailureClass_FAILURE_CLASS_TRANSIENT,
		drivers.PlaneDown: agentv1.FailureClass_FAILURE_CLASS_PLANE_DOWN,
		drivers.Bug:       agentv1.FailureClass_FAILURE_CLASS_BUG,
	}
	errorCode = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)
)

// operationOf reads what the gateway asks. What this agent's release does not understand is named by a code.
func operationOf(m *agentv1.Operation) (op operation, code string) {
	op = operation{ID: m.GetId(), Revision: m.GetRevision(), Kind: kinds[m.GetKind()], Tenant: desiredOf(m.GetTenant())}
	switch {
	case op.ID == "" || op.Tenant.TenantID == "":
		return op, "malformed_operation"
	case op.Kind == "":
		return op, "unknown_kind"
	case op.Tenant.Isolation == "" && op.Kind != deprovision:
		return op, "unknown_isolation"
	case op.Tenant.CredentialVersion < 1 && (op.Kind == provision || op.Kind == rotateCredentials):
		return op, "malformed_operation"
	}
	if op.Kind.level() {
		op.Tenant.Suspended = op.Kind == suspend
	}
	return op, ""
}

func desiredOf(m *agentv1.DesiredTenant) desired {
	return desired{
		TenantID:          m.GetTenantId(),
		Isolation:         isolations[m.GetIsolation()],
		Limits:            m.GetLimits(),
		CredentialVersion: m.GetCredentialVersion(),
		Suspended:         m.GetSuspended(),
		Change:            m.GetChangeNumber(),
		Causes:            m.GetCausesRevision(),
		Gone:              m.GetGone(),
	}
}

func (o outcome) message() *agentv1.Outcome {
	m := &agentv1.Outcome{OperationId: o.OperationID, TenantId: o.TenantID, FinishedUnixMicros: o.Finished}
	switch o.Result {
	case done:
		m.Outcome = &agentv1.Outcome_Done{Done: &agentv1.Done{Learned: o.Learned}}
	case failed:
		m.Outcome = &agentv1.Outcome_Failed{Failed: &agentv1.Failed{
			Class: classes[o.Class], Code: o.Code, Attempts: int32(o.Attempts), //nolint:gosec // bounded by Retry.Attempts
		}}
	case withdrawn:
		m.Outcome = &agentv1.Outcome_Withdrawn{Withdrawn: &agentv1.Withdrawn{}}
	case superseded:
		m.Outcome = &agentv1.Outcome_Superseded{Superseded: &agentv1.Superseded{Code: o.Code}}
	}
	return m
}

func (o operation) String() string {
	return fmt.Sprintf("%s %s of %s", o.Kind, o.ID, o.Tenant.TenantID)
}
