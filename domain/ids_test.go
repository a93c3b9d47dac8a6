package domain_test

import (
	"crypto/sha1"
	"strings"
	"testing"

	"github.com/tenure-dev/tenure/domain"
	"pgregory.net/rapid"
)

// The literals in this file were computed apart from the code under test. Every derived id in every log rests on them.

func TestDerivedIDsAreTheSameForEver(t *testing.T) {
	const start = "9de54cda-78c8-5afc-9d07-bf2f0a602ac5"
	for name, id := range map[string]struct{ got, want string }{
		"of an empty part":        {domain.DeriveUUID("").String(), "0c9dfd64-46c8-5077-acb6-3e7dffdb7eb9"},
		"of two parts":            {domain.DeriveUUID("a", "b").String(), "10f14d54-878d-566e-bbcf-4ef5f2b8aca9"},
		"of both as one":          {domain.DeriveUUID("ab").String(), "d27c325b-6402-5de9-8539-2c65f0da770b"},
		"of a quote":              {domain.DeriveUUID(`a","b`).String(), "7c7b9e5b-7e34-5746-9503-0b7bba0c3460"},
		"of another script":       {domain.DeriveUUID("é").String(), "8d83e970-0f77-58c9-8b1c-c3e93fdd828b"},
		"new tenant":              {domain.NewID(domain.TenantID, "usr_1", "tenant.request", "k-1"), "ten_ohska55a2fnyxblpyq3fsdmddq"},
		"a caller's command":      {domain.CallerCommandID("usr_1", "tenant.suspend", "ten_x", "k-1"), "bec6a35d-e377-51be-9822-0e5f1467c6d5"},
		"a saga's command":        {domain.SagaCommandID("sag_x", "provision", "", false, 1), "4f9cb626-0eb1-5991-bcba-b5d826526d38"},
		"its undoing":             {domain.SagaCommandID("sag_x", "provision", "", true, 1), "af2c25e0-17e1-5feb-86a6-8fc399fb127b"},
		"an item's next attempt":  {domain.SagaCommandID("sag_x", "provision", "i", false, 2), "b55fe83d-e7ca-5145-9fc5-f74c3c7df07f"},
		"an event":                {domain.EventID("5485b0c6-b5a6-5a6e-bf0c-f1112ee011ea", "tenant-ten_x", 0), start},
		"the saga that it starts": {domain.SagaIDFor("onboarding", start), "sag_qb5d4skw55nqfkusihxiam2lwu"},
		"an operation":            {domain.OperationIDFor("5485b0c6-b5a6-5a6e-bf0c-f1112ee011ea"), "op_ksc3brvvuzng5pym6eis5yar5i"},
		"of no UUID":              {domain.OperationIDFor("not a uuid"), "op_zku42ikrhvkltdr3an7qojyqqu"},
	} {
		if id.got != id.want {
			t.Errorf("%s: %s, want %s", name, id.got, id.want)
		}
	}
}

// The name is JSON as Go writes it, which escapes <, > and &: whoever derives ids elsewhere has to do the same.
func TestTheNameOfADerivedIDEscapesAsGoDoes(t *testing.T) {
	const plain = "a856d953-7b67-54e6-86cf-c3ca4e52d0ab" // of ["<&>"] without the escapes
	if got := domain.DeriveUUID("<&>").String(); got == plain || got != "0f48cb6c-f210-5204-825d-e2d7c58716b4" {
		t.Errorf("derived %s", got)
	}
}

func TestTheNamespaceIsThatOfOurDomain(t *testing.T) {
	dns, err := domain.ParseUUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
	if err != nil {
		t.Fatal(err)
	}
	v5 := func(space domain.UUID, name string) (u domain.UUID) {
		sum := sha1.Sum(append(space[:], name...))
		copy(u[:], sum[:])
		u[6], u[8] = u[6]&0x0f|0x50, u[8]&0x3f|0x80
		return u
	}
	if got, want := domain.DeriveUUID("a", "b"), v5(v5(dns, "tenure.dev"), `["a","b"]`); got != want {
		t.Errorf("derived %s, want %s", got, want)
	}
}

func TestNoTwoListsOfPartsShareAnID(t *testing.T) {
	part := rapid.SampledFrom([]string{"", "a", "b", "ab", `"`, `,`, `","`, `\`, "[", "é"})
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.SliceOfN(part, 1, 4).Draw(t, "a"), rapid.SliceOfN(part, 1, 4).Draw(t, "b")
		same := len(a) == len(b)
		for i := range min(len(a), len(b)) {
			same = same && a[i] == b[i]
		}
		if (domain.DeriveUUID(a...) == domain.DeriveUUID(b...)) != same {
			t.Fatalf("%q and %q", a, b)
		}
	})
}

func TestUUIDsAreReadAsTheyAreWritten(t *testing.T) {
	const text = "5485b0c6-b5a6-5a6e-bf0c-f1112ee011ea"
	u, err := domain.ParseUUID(text)
	if err != nil || u.String() != text {
		t.Fatal(u, err)
	}
	if upper, err := domain.ParseUUID(strings.ToUpper(text)); err != nil || upper != u {
		t.Errorf("upper case: %v, %v", upper, err)
	}
	for _, odd := range []string{"", text[1:], text + "0", "{" + text + "}", strings.ReplaceAll(text, "-", ""), strings.ReplaceAll(text, "-", "_"),
		"g" + text[1:], "5485b0c6-b5a6-5a6e-bf0c-f1112ee0-1ea", "-485b0c6-b5a6-5a6e-bf0c-f1112ee011ea"} {
		if _, err := domain.ParseUUID(odd); err == nil {
			t.Errorf("%q is read as a UUID", odd)
		}
	}
}

func TestTheFormOfAnID(t *testing.T) {
	zero, ones := domain.UUID{}, domain.UUID{}
	for i := range ones {
		ones[i] = 0xff
	}
	const (
		lowest  = "org_aaaaaaaaaaaaaaaaaaaaaaaaaa"
		highest = "org_777777777777777777777777" + "74" // 128 bits: 25 digits, and three bits of the last
	)
	if got := domain.ID(domain.OrgID, zero); got != lowest {
		t.Errorf("lowest: %s", got)
	}
	if got := domain.ID(domain.OrgID, ones); got != highest {
		t.Errorf("highest: %s", got)
	}
	for text, want := range map[string]bool{
		lowest: true, highest: true,
		"":                                false,
		"org_":                            false,
		"org":                             false,
		strings.ToUpper(lowest):           false,
		lowest[:len(lowest)-1]:            false,
		lowest + "a":                      false,
		lowest + "======":                 false,
		"ten_" + lowest[4:]:               false,
		"orgaaaaaaaaaaaaaaaaaaaaaaaaaaa":  false,
		"org-" + lowest[4:]:               false,
		lowest[:len(lowest)-1] + "b":      false, // bits beyond the 128th
		lowest[:len(lowest)-1] + "1":      false, // no digit of the alphabet
		lowest[:len(lowest)-1] + "\n":     false,
		lowest + "\n":                     false,
		" " + lowest:                      false,
		"org_" + strings.Repeat("\n", 26): false,
	} {
		if got := domain.IsID(domain.OrgID, text); got != want {
			t.Errorf("IsID of %q: %v", text, got)
		}
	}
}

func FuzzIsID(f *testing.F) {
	f.Add("op_ksc3brvvuzng5pym6eis5yar5i")
	f.Add("op_ksc3brvvuzng5pym6eis5yar5j")
	f.Fuzz(func(t *testing.T, s string) {
		if domain.IsID(domain.OperationID, s) && (len(s) != 29 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567_") != "") {
			t.Errorf("%q passes for an id", s)
		}
	})
}

func FuzzAnyUUIDMakesAnID(f *testing.F) {
	f.Add([]byte("0123456789abcdef"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var u domain.UUID
		copy(u[:], b)
		if id := domain.ID(domain.SagaID, u); !domain.IsID(domain.SagaID, id) {
			t.Errorf("%x is written as %s, which is no id", u, id)
		}
		if back, err := domain.ParseUUID(u.String()); err != nil || back != u {
			t.Errorf("%x comes back as %x (%v)", u, back, err)
		}
	})
}
