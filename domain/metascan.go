package domain

import (
	"math"
	"time"
	"unicode/utf8"
)

// scan fills w from metadata as Encode writes it, many times faster than encoding/json: rebuilds decode every event of the log.
// It reports false for everything else (other keys, escapes, white space); what it has filled then is worth nothing.
func (w *wireMeta) scan(b []byte) bool {
	s := scanner{b: b}
	s.object(func(key []byte) {
		switch string(key) {
		case "$correlationId":
			w.Correlation = s.text()
		case "$causationId":
			w.Causation = s.text()
		case "rev":
			w.Rev = int(s.number())
		case "commandId":
			w.CommandID = s.text()
		case "inputHash":
			w.InputHash = s.text()
		case "actor":
			w.Actor = s.text()
		case "org":
			w.Org = s.text()
		case "tenant":
			w.Tenant = s.text()
		case "recordedAt":
			w.RecordedAt = s.time()
		case "traceparent":
			w.Traceparent = s.text()
		case "epoch":
			s.object(func(key []byte) {
				switch string(key) {
				case "number":
					w.Epoch.Number = s.number()
				case "id":
					w.Epoch.ID = s.text()
				default:
					s.bad = true
				}
			})
		default:
			s.bad = true // a saga's answers and what was read are rare
		}
	})
	return !s.bad && len(s.b) == 0
}

// scanner takes JSON apart from the front. Once bad, it stays so.
type scanner struct {
	b   []byte
	bad bool
}

func (s *scanner) take(c byte) bool {
	if s.bad || len(s.b) == 0 || s.b[0] != c {
		return false
	}
	s.b = s.b[1:]
	return true
}

// object calls field for every key, which takes the value.
func (s *scanner) object(field func(key []byte)) {
	s.must(s.take('{'))
	for !s.bad {
		key := s.raw()
		s.must(s.take(':'))
		if s.bad {
			return
		}
		field(key)
		if !s.take(',') {
			s.must(s.take('}'))
			return
		}
	}
}

func (s *scanner) must(ok bool) { s.bad = s.bad || !ok }

// raw takes a string without escapes.
func (s *scanner) raw() []byte {
	s.must(s.take('"'))
	for i := 0; !s.bad && i < len(s.b); i++ {
		switch c := s.b[i]; {
		case c == '"':
			text := s.b[:i]
			s.b = s.b[i+1:]
			s.must(utf8.Valid(text))
			return text
		case c == '\\' || c < ' ':
			s.bad = true
		}
	}
	s.bad = true
	return nil
}

func (s *scanner) text() string { return string(s.raw()) }

// number takes an integer from 0 on.
func (s *scanner) number() (n int64) {
	digits := 0
	for ; digits < len(s.b) && s.b[digits] >= '0' && s.b[digits] <= '9'; digits++ {
		if n > (math.MaxInt64-9)/10 {
			s.bad = true
			return 0
		}
		n = n*10 + int64(s.b[digits]-'0')
	}
	s.must(digits == 1 || digits > 1 && s.b[0] != '0')
	s.b = s.b[digits:]
	return n
}

func (s *scanner) time() (t time.Time) {
	s.must(t.UnmarshalText(s.raw()) == nil)
	return t
}
