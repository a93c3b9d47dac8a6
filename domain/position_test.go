package domain_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/tenure-dev/tenure/domain"
)

func TestPositionsAreReadAsTheyAreWritten(t *testing.T) {
	for text, p := range map[string]domain.Position{
		"1.abc.0":                     {Epoch: domain.Epoch{Number: 1, ID: "abc"}},
		"2.abc.18014398509481984":     {Epoch: domain.Epoch{Number: 2, ID: "abc"}, Commit: 1 << 54},
		"7.a-b_c.9223372036854775807": {Epoch: domain.Epoch{Number: 7, ID: "a-b_c"}, Commit: math.MaxInt64},
	} {
		if got := p.String(); got != text {
			t.Errorf("%+v is written %q, want %q", p, got, text)
		}
		if got, err := domain.ParsePosition(text); err != nil || got != p {
			t.Errorf("%q is read as %+v, %v", text, got, err)
		}
	}
}

func TestWhatIsNoPositionIsInvalid(t *testing.T) {
	for _, odd := range []string{"", ".", "..", "1.a", "1.a.", ".a.1", "1..1", "1.a.1.", "1.a.b.1", "0.a.1", "-1.a.1", "+1.a.1", "01.a.1", "1.a.01",
		"1.a.-1", "1.a.+1", " 1.a.1", "1.a.1 ", "1.a.0x1", "1.a.1_0", "9007199254740993.a.1", "1.a.9223372036854775808",
		"1." + strings.Repeat("a", 200) + ".1", "١.a.1"} {
		p, err := domain.ParsePosition(odd)
		var e *domain.Error
		if !errors.As(err, &e) || e.Code != domain.CodeInvalid || e.Field != "position" || p != (domain.Position{}) {
			t.Errorf("%q is read as %+v, %v", odd, p, err)
		}
	}
}

func FuzzParsePosition(f *testing.F) {
	for _, seed := range []string{"1.abc.0", "2.x.123", "", "1..2", "+1.a.2", "01.a.2", "1.a.9223372036854775808"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := domain.ParsePosition(s); err == nil && p.String() != s {
			t.Errorf("%q is read as %+v and written %q", s, p, p)
		}
	})
}
