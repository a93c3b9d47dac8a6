package sources

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/tenure-dev/tenure/domain"
)

// member is one name and value of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

var errNoObject = errors.New("not one JSON object")

// object reads exactly one JSON object, in its order; twice is a name that stands twice in it, if any.
func object(data []byte) (members []member, twice string, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, "", errNoObject
	}
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, "", errNoObject
		}
		m := member{name: name.(string)} // of an object, it always is one
		if d.Decode(&m.value) != nil {
			return nil, "", errNoObject
		}
		if seen[m.name] {
			twice = m.name
		}
		seen[m.name], members = true, append(members, m)
	}
	if _, err := d.Token(); err != nil {
		return nil, "", errNoObject
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, "", errNoObject
	}
	return members, twice, nil
}

var sealedType = reflect.TypeFor[domain.Sealed]()

// bind reads JSON into a value strictly: names as they are on the wire, each once and none besides, and no other types. Null
// is as left out. Errors are CodeInvalid and name the field; without names those in skip.
func bind(field string, data json.RawMessage, v reflect.Value, skip ...string) error {
	if string(data) == "null" {
		return nil
	}
	if v.Type() == sealedType {
		text, err := textOf(field, data)
		if err == nil {
			v.Set(reflect.ValueOf(domain.Clear(text)))
		}
		return err
	}
	switch v.Kind() {
	case reflect.String:
		text, err := textOf(field, data)
		v.SetString(text)
		return err
	case reflect.Bool:
		if json.Unmarshal(data, v.Addr().Interface()) != nil {
			return domain.Invalid(field, "must be true or false")
		}
		return nil
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(string(data), 10, 64)
		if err != nil {
			return domain.Invalid(field, "must be a whole number")
		}
		v.SetInt(n)
		return nil
	case reflect.Slice:
		return bindList(field, data, v)
	case reflect.Map:
		return bindMap(field, data, v)
	case reflect.Struct:
		return bindStruct(field, data, v, skip)
	}
	return &domain.Error{Code: domain.CodeInternal, Message: "the input cannot be read", Cause: fmt.Errorf("%s is a %s", field, v.Type())}
}

func textOf(field string, data json.RawMessage) (text string, err error) {
	if json.Unmarshal(data, &text) != nil {
		return "", domain.Invalid(field, "must be a text")
	}
	return text, nil
}

func bindList(field string, data json.RawMessage, v reflect.Value) error {
	var all []json.RawMessage
	if json.Unmarshal(data, &all) != nil {
		return domain.Invalid(field, "must be a list")
	}
	list := reflect.MakeSlice(v.Type(), len(all), len(all))
	for i, each := range all {
		if string(each) == "null" {
			return domain.Invalid(field, "must not hold null")
		}
		if err := bind(field, each, list.Index(i)); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

func bindMap(field string, data json.RawMessage, v reflect.Value) error {
	members, twice, err := object(data)
	switch {
	case err != nil:
		return domain.Invalid(field, "must be an object")
	case twice != "":
		return domain.Invalid(field, "must not hold a name twice")
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(members)))
	for _, m := range members {
		if string(m.value) == "null" {
			return domain.Invalid(field, "must not hold null")
		}
		value := reflect.New(v.Type().Elem()).Elem()
		if err := bind(field, m.value, value); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(m.name), value)
	}
	return nil
}

func bindStruct(field string, data json.RawMessage, v reflect.Value, skip []string) error {
	members, twice, err := object(data)
	if err != nil {
		return domain.Invalid(field, "must be an object")
	}
	known := map[string]reflect.Value{}
	fieldsOf(v, known)
	for _, m := range members {
		path := strings.TrimPrefix(field+"."+m.name, ".")
		value, ok := known[m.name]
		switch {
		case !ok || slices.Contains(skip, m.name):
			return domain.Invalid(shown(field, m.name), "is not known")
		case m.name == twice:
			return domain.Invalid(path, "stands twice")
		}
		if err := bind(path, m.value, value); err != nil {
			return err
		}
	}
	return nil
}

// shown is the path of a name that only the sender knows, unless it is too odd to be repeated.
func shown(field, name string) string {
	if domain.CheckReference("", name) != nil {
		return field
	}
	return strings.TrimPrefix(field+"."+name, ".")
}

// fieldsOf finds a struct's fields by their names on the wire, those of embedded structs among them.
func fieldsOf(v reflect.Value, into map[string]reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case name != "":
			into[name] = v.Field(i)
		case f.Anonymous:
			fieldsOf(v.Field(i), into)
		}
	}
}
