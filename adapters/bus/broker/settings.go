package broker

import (
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/domain"
)

// settings is a part of the configuration: every setting that there is, by its name in the file.
type settings interface{ fields() fields }

// fields says where each setting's value is put: *string, *bool, *int, *time.Duration, *[]string, *Value or further settings.
type fields map[string]any

// decode reads settings. What is not there, or is of another type, is refused by name; what is absent keeps its default.
func decode(node *yaml.Node, into settings) error { return decodeBelow("", node, into) }

func decodeBelow(above string, node *yaml.Node, into settings) error {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind != yaml.MappingNode {
		return domain.Invalid(strings.TrimSuffix(above, "."), "must be settings of the form name: value")
	}
	known, given := into.fields(), map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name := node.Content[i].Value
		target, ok := known[name]
		switch {
		case !ok:
			return domain.Invalid(above+name, "is no setting here (there are: %s)", strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		case given[name]:
			return domain.Invalid(above+name, "is given twice")
		}
		given[name] = true
		if err := decodeOne(above+name, node.Content[i+1], target); err != nil {
			return err
		}
	}
	return nil
}

func decodeOne(name string, node *yaml.Node, target any) error {
	must := ""
	switch t := target.(type) {
	case *Value:
		return t.decode(name, node)
	case settings:
		return decodeBelow(name+".", node, t)
	case *time.Duration:
		d, err := time.ParseDuration(node.Value)
		if err != nil || node.Kind != yaml.ScalarNode {
			must = "a duration, such as 10s"
		}
		*t = d
	case *string:
		if node.Kind != yaml.ScalarNode || node.Tag == "!!null" {
			must = "a single value"
		}
		*t = node.Value
	case *[]string:
		if node.Kind != yaml.SequenceNode || node.Decode(t) != nil {
			must = "a list of texts"
		}
	case *bool:
		if node.Tag != "!!bool" || node.Decode(t) != nil {
			must = "true or false"
		}
	case *int:
		if node.Tag != "!!int" || node.Decode(t) != nil {
			must = "a whole number"
		}
	}
	if must != "" {
		return domain.Invalid(name, "must be %s", must)
	}
	return nil
}

// between holds a whole number to a range.
func between(field string, value, least, most int) error {
	if value < least || value > most {
		return domain.Invalid(field, "must be from %d to %d", least, most)
	}
	return nil
}

// lasting holds a duration to a range.
func lasting(field string, value, least, most time.Duration) error {
	if value < least || value > most {
		return domain.Invalid(field, "must be from %s to %s", least, most)
	}
	return nil
}

func required(field, value string) error {
	if value == "" {
		return domain.Invalid(field, "must be given")
	}
	return nil
}

// first is the first error of several checks.
func first(problems ...error) error {
	for _, p := range problems {
		if p != nil {
			return p
		}
	}
	return nil
}
