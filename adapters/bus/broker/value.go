package broker

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/domain"
)

// Lookup finds what settings only name. Both functions are required where a setting names something of theirs.
type Lookup struct {
	Env  func(name string) (value string, set bool)
	File func(path string) ([]byte, error)
}

// Value is a text that may be secret: written out, or named as {env: NAME} or {file: PATH}. The zero Value is absent.
type Value struct{ text, env, file string }

// Text is a value written out.
func Text(text string) Value { return Value{text: text} }

func (v *Value) fields() fields { return fields{"env": &v.env, "file": &v.file} }

func (v *Value) decode(name string, node *yaml.Node) error {
	*v = Value{}
	if node.Kind == yaml.ScalarNode {
		return decodeOne(name, node, &v.text)
	}
	if err := decodeBelow(name+".", node, v); err != nil {
		return err
	}
	if (v.env == "") == (v.file == "") {
		return domain.Invalid(name, "must be a text, {env: NAME} or {file: PATH}")
	}
	return nil
}

// resolve gives the text, without the line end that closes a file; an absent value's is empty. Errors name the variable or
// the file, never what it holds.
func (v Value) resolve(field string, from Lookup) (string, error) {
	switch {
	case v.env != "":
		if from.Env == nil {
			return "", domain.Invalid(field, "names a variable where none can be looked up")
		}
		text, set := from.Env(v.env)
		if !set || text == "" {
			return "", domain.Invalid(field, "names the variable %s, which is not set", v.env)
		}
		return text, nil
	case v.file != "":
		if from.File == nil {
			return "", domain.Invalid(field, "names a file where none can be looked up")
		}
		text, err := from.File(v.file)
		if err != nil {
			return "", domain.Invalid(field, "names the file %s, which cannot be read", v.file)
		}
		trimmed := strings.TrimRight(string(text), "\r\n")
		if trimmed == "" {
			return "", domain.Invalid(field, "names the file %s, which is empty", v.file)
		}
		return trimmed, nil
	}
	return v.text, nil
}

// demand is resolve for a value that must be there.
func (v Value) demand(field string, from Lookup) (string, error) {
	text, err := v.resolve(field, from)
	return text, first(err, required(field, text))
}
