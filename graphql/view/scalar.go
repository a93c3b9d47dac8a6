package view

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	gql "github.com/99designs/gqlgen/graphql"

	"github.com/tenure-dev/tenure/domain"
)

// MarshalPosition writes the text form.
func MarshalPosition(p domain.Position) gql.Marshaler { return gql.MarshalString(p.String()) }

// UnmarshalPosition reads it.
func UnmarshalPosition(v any) (domain.Position, error) {
	s, ok := v.(string)
	if !ok {
		return domain.Position{}, domain.Invalid("position", "must be a string")
	}
	return domain.ParsePosition(s)
}

// MarshalString writes a string.
func MarshalString(s string) gql.Marshaler { return gql.MarshalString(s) }

// UnmarshalString takes strings alone, as the specification wants it; gqlgen's own makes one of anything.
func UnmarshalString(v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", errNoString
	}
	return s, nil
}

var errNoString = errors.New("must be a string")

// MarshalTime writes RFC 3339 in UTC to the µs, and null for the zero time.
func MarshalTime(t time.Time) gql.Marshaler {
	if t.IsZero() {
		return gql.Null
	}
	return gql.MarshalString(domain.Micro(t).Format("2006-01-02T15:04:05.000000Z07:00"))
}

// UnmarshalTime reads it. No input of the schema has one.
func UnmarshalTime(v any) (time.Time, error) {
	s, _ := v.(string)
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, domain.Invalid("time", "must be RFC 3339")
	}
	return domain.Micro(t), nil
}

// MarshalAmount writes a JSON number.
func MarshalAmount(n int64) gql.Marshaler {
	return gql.WriterFunc(func(w io.Writer) { _, _ = io.WriteString(w, strconv.FormatInt(n, 10)) })
}

// UnmarshalAmount reads a whole number; its range is the domain's to check.
func UnmarshalAmount(v any) (int64, error) {
	switch n := v.(type) {
	case int64:
		return n, nil
	case int:
		return int64(n), nil
	case json.Number:
		if i, err := n.Int64(); err == nil {
			return i, nil
		}
	}
	return 0, domain.Invalid("amount", "must be a whole number from 0 to %s", fmt.Sprint(domain.MaxAmount))
}
