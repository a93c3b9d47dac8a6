package domain_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tenure-dev/tenure/domain"
	. "github.com/tenure-dev/tenure/domain/domaintest"
)

var sealed = domain.Sealed{Subject: "org_x", Key: "k1", Text: []byte("cipher")}

func TestClearTextDoesNotSlipIntoTheLog(t *testing.T) {
	for _, v := range []any{domain.Clear("secret"), struct{ Reason domain.Sealed }{domain.Clear("secret")}, []domain.Sealed{domain.Clear("secret")}} {
		b, err := json.Marshal(v)
		if err == nil || strings.Contains(err.Error(), "secret") || len(b) > 0 {
			t.Errorf("%T is written as %s, %v", v, b, err)
		}
	}
}

func TestSealedTextOnTheWire(t *testing.T) {
	for want, s := range map[string]domain.Sealed{
		`null`: {},
		`{"subject":"org_x","key":"k1","text":"Y2lwaGVy"}`: sealed,
	} {
		b, err := json.Marshal(s)
		if err != nil || string(b) != want {
			t.Errorf("%+v is written as %s, %v", s, b, err)
		}
		back := domain.Sealed{Subject: "stale", Key: "stale"}
		if err := json.Unmarshal(b, &back); err != nil || Diff(s, back) != "" {
			t.Errorf("%s is read as %+v, %v", b, back, err)
		}
	}
	for _, odd := range []string{`"secret"`, `{"text":"not base64!"}`, `[]`, `{"text":7}`} {
		var s domain.Sealed
		if err := json.Unmarshal([]byte(odd), &s); err == nil {
			t.Errorf("%s is read as %+v", odd, s)
		}
	}
}

func TestWhatASealedTextKnowsOfItself(t *testing.T) {
	if s := domain.Clear(""); !s.IsZero() {
		t.Errorf("no text is %+v", s)
	}
	if text, is := domain.Clear("secret").Unsealed(); text != "secret" || !is || domain.Clear("secret").IsZero() {
		t.Errorf("clear text is %q, %v", text, is)
	}
	if text, is := sealed.Unsealed(); text != "" || is || sealed.IsZero() {
		t.Errorf("sealed text opens by itself: %q, %v", text, is)
	}
	if err := domain.CheckSealed("reason", domain.Clear("\x00"), 10); domain.CodeOf(err) != domain.CodeInvalid {
		t.Errorf("clear text is not checked: %v", err)
	}
	if err := domain.CheckSealed("reason", sealed, 1); err != nil {
		t.Errorf("ciphertext is checked as if it were clear: %v", err)
	}
}

func TestMapSealedReachesEveryDepthAndLeavesTheOriginal(t *testing.T) {
	type inner struct{ Note, Other domain.Sealed }
	type middle struct {
		inner
		In inner
	}
	type Embedded struct{ Reason domain.Sealed }
	type command struct {
		Embedded
		Middle middle
		Name   string
		hidden domain.Sealed
	}
	before := command{Embedded: Embedded{domain.Clear("a")}, Middle: middle{In: inner{Note: domain.Clear("b"), Other: sealed}}, Name: "n", hidden: domain.Clear("h")}
	var seen []string
	got, err := domain.MapSealed(before, func(clear string) (domain.Sealed, error) {
		seen = append(seen, clear)
		return domain.Sealed{Subject: "s", Key: "k", Text: []byte(clear)}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	after := before
	after.Reason = domain.Sealed{Subject: "s", Key: "k", Text: []byte("a")}
	after.Middle.In.Note = domain.Sealed{Subject: "s", Key: "k", Text: []byte("b")}
	if diff := Diff(after, got); diff != "" {
		t.Errorf("mapped (-want +got):\n%s", diff)
	}
	if diff := Diff([]string{"a", "b"}, seen); diff != "" {
		t.Errorf("sealed (-want +got):\n%s", diff)
	}
	if text, is := before.Reason.Unsealed(); text != "a" || !is {
		t.Error("the original was changed")
	}
}

func TestMapSealedStopsAtTheFirstError(t *testing.T) {
	lost := errors.New("no key")
	calls := 0
	_, err := domain.MapSealed(struct{ A, B domain.Sealed }{domain.Clear("a"), domain.Clear("b")}, func(string) (domain.Sealed, error) {
		calls++
		return domain.Sealed{}, fmt.Errorf("seal: %w", lost)
	})
	if !errors.Is(err, lost) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

func TestMapSealedOfOtherThings(t *testing.T) {
	refuse := func(string) (domain.Sealed, error) { return domain.Sealed{}, errors.New("called") }
	for _, v := range []any{7, "text", struct{ N int }{7}, struct{ S domain.Sealed }{sealed}, struct{ S domain.Sealed }{}} {
		if got, err := domain.MapSealed(v, refuse); err != nil || Diff(v, got) != "" {
			t.Errorf("%+v became %+v, %v", v, got, err)
		}
	}
}
