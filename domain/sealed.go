package domain

import (
	"encoding/json"
	"errors"
	"reflect"
)

// Sealed is text that no event, row or log line holds in the clear: personal fields and free text such as reasons. It is
// ciphertext under the key of a subject, a person or an org; destroying that key erases it everywhere at once. Folds and
// rows carry it closed; only the edges open it, through a Sealer. The zero value is the absent text.
type Sealed struct {
	Subject string // whose key
	Key     string // the key's id
	Text    []byte // ciphertext, base64 in JSON
	clear   *string
}

// Clear makes text that the Bus has yet to seal. Marshalling it fails, so that it cannot slip into the log.
func Clear(text string) Sealed {
	if text == "" {
		return Sealed{}
	}
	return Sealed{clear: &text}
}

// IsZero tells whether there is no text at all.
func (s Sealed) IsZero() bool { return s.clear == nil && s.Key == "" && len(s.Text) == 0 }

// Unsealed gives the text of a value that Clear made.
func (s Sealed) Unsealed() (string, bool) {
	if s.clear == nil {
		return "", false
	}
	return *s.clear, true
}

type wireSealed struct {
	Subject string `json:"subject"`
	Key     string `json:"key"`
	Text    []byte `json:"text"`
}

// MarshalJSON writes null for the absent text and refuses clear text.
func (s Sealed) MarshalJSON() ([]byte, error) {
	if s.clear != nil {
		return nil, errors.New("text is not sealed")
	}
	if s.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(wireSealed{s.Subject, s.Key, s.Text})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Sealed) UnmarshalJSON(b []byte) error {
	*s = Sealed{}
	if string(b) == "null" {
		return nil
	}
	var w wireSealed
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	s.Subject, s.Key, s.Text = w.Subject, w.Key, w.Text
	return nil
}

// MapSealed gives a copy of a struct in which every clear Sealed, at any depth of nested structs, is replaced by f's.
func MapSealed(v any, f func(clear string) (Sealed, error)) (any, error) {
	c := reflect.New(reflect.TypeOf(v)).Elem()
	c.Set(reflect.ValueOf(v))
	if err := mapSealed(c, f); err != nil {
		return nil, err
	}
	return c.Interface(), nil
}

var sealedType = reflect.TypeFor[Sealed]()

func mapSealed(v reflect.Value, f func(string) (Sealed, error)) error {
	if v.Type() == sealedType {
		text, isClear := v.Interface().(Sealed).Unsealed()
		if !isClear {
			return nil
		}
		s, err := f(text)
		if err == nil {
			v.Set(reflect.ValueOf(s))
		}
		return err
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() {
			continue
		}
		if err := mapSealed(v.Field(i), f); err != nil {
			return err
		}
	}
	return nil
}
