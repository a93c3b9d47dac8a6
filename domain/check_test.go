package domain_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tenure-dev/tenure/domain"
)

// refuses checks which texts a check refuses, and that it names the field as invalid and repeats nothing of the text.
func refuses(t *testing.T, check func(field, s string) error, good, bad []string) {
	t.Helper()
	for _, s := range good {
		if err := check("field", s); err != nil {
			t.Errorf("%q is refused: %v", s, err)
		}
	}
	for _, s := range bad {
		var e *domain.Error
		if err := check("field", s); !errors.As(err, &e) || e.Code != domain.CodeInvalid || e.Field != "field" {
			t.Errorf("%q: %v", s, err)
		} else if len(s) > 8 && strings.Contains(e.Message, s) {
			t.Errorf("the message repeats the input: %s", e.Message)
		}
	}
}

func TestSlugs(t *testing.T) {
	refuses(t, domain.CheckSlug,
		[]string{"abc", "a-b", "a--b", "a12", "abc-1", "a" + strings.Repeat("-", 38) + "z", strings.Repeat("a", 40)},
		[]string{"", "a", "ab", "1ab", "-ab", "ab-", "Abc", "aBc", "a_b", "a.b", "a b", " abc", "abc ", "abc\n", "\nabc", "äbc", "abç", "a\x00b", "a/b",
			strings.Repeat("a", 41), "аbc" /* Cyrillic */, "abc\u200b", "a’b", "abc\xff"})
}

func TestReferences(t *testing.T) {
	refuses(t, domain.CheckReference,
		[]string{"a", "A", "0", ".", "_", ":", "-", "INV-2026.01:7_b", strings.Repeat("x", 128)},
		[]string{"", " ", "a b", "a\n", "a\x00", "a/b", "a@b", "é", "a,b", "a\tb", strings.Repeat("x", 129), "a\u2028b"})
}

func TestTexts(t *testing.T) {
	ten := func(field, s string) error { return domain.CheckText(field, s, 10) }
	refuses(t, ten,
		[]string{"", "0123456789", "tab\there", "new\nline", "äöü€", "日本語", "a\u00a0b", "\u0085"},
		[]string{"0123456789a", "日本語日", "a\x00", "\x00", "a\r\n", "\x1b[31m", "a\x7f", "a\xff", "\xc3", "\xed\xa0\x80"})
}

func TestIDs(t *testing.T) {
	const id = "ten_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	refuses(t, func(field, s string) error { return domain.CheckID(field, domain.TenantID, s) },
		[]string{id},
		[]string{"", "ten_", "org" + id[3:], id + "a", id[:29], strings.ToUpper(id), id + "\n", "ten_aaaaaaaaaaaaaaaaaaaaaaaaab"})
}

func TestUnits(t *testing.T) {
	many := domain.Units{}
	for i := range 65 {
		many["a"+strings.Repeat("b", i%38)+string(rune('c'+i/38))+"d"] = 1
	}
	for field, u := range map[string]domain.Units{
		"":          {"slots": 0, "memory-mb": domain.MaxAmount},
		"cost":      many,
		"cost.gpus": {"gpus": -1, "slots": -1}, // the first by name
		"cost.iops": {"gpus": 1, "iops": domain.MaxAmount + 1},
	} {
		err := domain.CheckUnits("cost", u)
		var e *domain.Error
		if errors.As(err, &e); field == "" && err != nil || field != "" && (e == nil || e.Code != domain.CodeInvalid || e.Field != field) {
			t.Errorf("%q: %v", field, err)
		}
	}
	for _, name := range []string{"", "a", "Slots", "a.b", "slots\n", "slots\x00", strings.Repeat("a", 41)} {
		if err := domain.CheckUnits("cost", domain.Units{name: 1}); domain.CodeOf(err) != domain.CodeInvalid {
			t.Errorf("a unit %q: %v", name, err)
		}
	}
	if err := domain.CheckUnits("cost", nil); err != nil {
		t.Error(err)
	}
	if domain.MaxAmount != 9007199254740991 {
		t.Errorf("JSON keeps 2^53-1 exactly, not %d", domain.MaxAmount)
	}
}
