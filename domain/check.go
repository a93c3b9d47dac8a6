package domain

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

var (
	slugForm      = regexp.MustCompile(`^[a-z][a-z0-9-]{1,38}[a-z0-9]$`)
	referenceForm = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)
)

// CheckSlug refuses what is no slug or key: 3 to 40 of a-z, 0-9 and dash, beginning with a letter, not ending with a dash.
func CheckSlug(field, s string) error {
	if s == "" {
		return Invalid(field, "must not be empty")
	}
	if !slugForm.MatchString(s) {
		return Invalid(field, "must be 3 to 40 of a-z, 0-9 and dash, begin with a letter and not end with a dash")
	}
	return nil
}

// CheckReference refuses what is no reference or idempotency key: 1 to 128 of A-Z, a-z, 0-9 and . _ : -
func CheckReference(field, s string) error {
	if s == "" {
		return Invalid(field, "must not be empty")
	}
	if !referenceForm.MatchString(s) {
		return Invalid(field, "must be 1 to 128 of A-Z, a-z, 0-9, dot, underscore, colon and dash")
	}
	return nil
}

// CheckText refuses text that is longer than limit bytes, is not UTF-8, or holds a control character but tab and newline.
func CheckText(field, s string, limit int) error {
	if len(s) > limit {
		return Invalid(field, "must not be longer than %d bytes", limit)
	}
	if !utf8.ValidString(s) {
		return Invalid(field, "must be UTF-8")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' || r == 0x7f }) {
		return Invalid(field, "must not hold control characters")
	}
	return nil
}

// CheckID refuses what is no id with that prefix.
func CheckID(field, prefix, s string) error {
	if s == "" {
		return Invalid(field, "must not be empty")
	}
	if !IsID(prefix, s) {
		return Invalid(field, "must be an id beginning with %s_", prefix)
	}
	return nil
}

// FirstError gives the first of errs that is not nil.
func FirstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckSealed applies CheckText to text that is still in the clear.
func CheckSealed(field string, s Sealed, limit int) error {
	text, _ := s.Unsealed()
	return CheckText(field, text, limit)
}

// CheckReason refuses a reason, as operators give one, of over 2,000 bytes or with control characters.
func CheckReason(s Sealed) error { return CheckSealed("reason", s, 2_000) }
