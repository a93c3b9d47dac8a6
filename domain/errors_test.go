package domain_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tenure-dev/tenure/domain"
)

func TestTheCodeIsFoundInAChain(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want domain.Code
	}{
		"no error":   {nil, ""},
		"uncoded":    {errors.New("boom"), domain.CodeInternal},
		"coded":      {domain.Invalid("slug", "is odd"), domain.CodeInvalid},
		"wrapped":    {fmt.Errorf("sending: %w", domain.Conflict(1, 2)), domain.CodeConflict},
		"joined":     {errors.Join(errors.New("boom"), domain.NotFound("id", "names nothing")), domain.CodeNotFound},
		"the outer":  {&domain.Error{Code: domain.CodeUnavailable, Cause: domain.Invalid("a", "b")}, domain.CodeUnavailable},
		"nil, typed": {fmt.Errorf("x: %w", error(&domain.Error{Code: domain.CodeStale})), domain.CodeStale},
	} {
		if got := domain.CodeOf(c.err); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestOnlyTheLogSeesTheCause(t *testing.T) {
	cause := errors.New("dial tcp 10.0.0.7: refused")
	for want, e := range map[string]*domain.Error{
		"the log is away":   domain.Unavailable("the log is away", cause),
		"slug is not there": {Code: domain.CodeInternal, Field: "slug", Message: "is not there", Cause: cause},
	} {
		if got := e.Public(); got != want {
			t.Errorf("callers see %q, want %q", got, want)
		}
		if got := e.Error(); got != want+": "+cause.Error() || !errors.Is(e, cause) {
			t.Errorf("the log sees %q", got)
		}
	}
	if e := domain.Invalid("slug", "must be %d", 3); e.Public() != "slug must be 3" || e.Error() != e.Public() || e.Field != "slug" {
		t.Errorf("%q, %q", e.Public(), e.Error())
	}
}

func TestNotAllowedNamesThePhaseAndWhereItIs(t *testing.T) {
	for want, e := range map[string]*domain.Error{
		"place is not allowed while active (allowed: requested, provisioning)": domain.NotAllowed("place", "active", "requested", "provisioning"),
		"place is not allowed while absent (allowed: requested)":               domain.NotAllowed("place", "", "requested"),
		"place is not allowed while moving (allowed: none)":                    domain.NotAllowed("place", "moving"),
	} {
		if e.Code != domain.CodeNotAllowed || e.Public() != want || e.Phase == "" {
			t.Errorf("%+v, want %q", e, want)
		}
	}
}

func TestAConflictNamesBothRevisions(t *testing.T) {
	e := domain.Conflict(domain.NoStream, 4)
	if e.Code != domain.CodeConflict || e.Expected != -1 || e.Actual != 4 || e.Field != "expectedRevision" || !strings.Contains(e.Message, "-1") || !strings.Contains(e.Message, "4") {
		t.Errorf("%+v", e)
	}
}

func TestFirstError(t *testing.T) {
	a, b := errors.New("a"), errors.New("b")
	if domain.FirstError() != nil || domain.FirstError(nil, nil) != nil || domain.FirstError(nil, a, b) != a {
		t.Error("not the first")
	}
}
