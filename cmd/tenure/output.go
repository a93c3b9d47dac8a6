package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// addOutput adds -o.
func addOutput(flags *pflag.FlagSet, formats string) {
	flags.StringP("output", "o", "table", formats)
}

const allFormats = "table, json or yaml"

// checkOutput gives the format of -o, which must be one of formats.
func checkOutput(cmd *cobra.Command, formats ...string) (string, error) {
	format := text(cmd, "output")
	for _, f := range formats {
		if f == format {
			return format, nil
		}
	}
	return "", usage("--output must be one of %s", strings.Join(formats, ", "))
}

// column is one column of a table, or one line of a single object's.
type column struct {
	title string
	value func(row) string
}

// row is one object as the API answers it.
type row map[string]any

// at makes a column of the value at a path such as tier.key.
func at(title, path string) column {
	return column{title, func(r row) string { return r.at(path) }}
}

// at is the value at a path, empty where something on the way is null.
func (r row) at(path string) string { return show(r.value(path)) }

func (r row) value(path string) any {
	var here any = map[string]any(r)
	for step := range strings.SplitSeq(path, ".") {
		object, ok := here.(map[string]any)
		if !ok {
			return nil
		}
		here = object[step]
	}
	return here
}

// all are the objects of the list at a path.
func (r row) all(path string) (rows []row) {
	list, _ := r.value(path).([]any)
	for _, one := range list {
		if object, ok := one.(map[string]any); ok {
			rows = append(rows, object)
		}
	}
	return rows
}

func show(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []any:
		words := make([]string, len(v))
		for i := range v {
			words[i] = show(v[i])
		}
		return strings.Join(words, ",")
	default:
		return fmt.Sprint(v)
	}
}

func toRow(object json.RawMessage) (r row, err error) {
	d := json.NewDecoder(bytes.NewReader(object))
	d.UseNumber()
	return r, d.Decode(&r)
}

// writeTable writes rows under a line of titles.
func writeTable(w io.Writer, columns []column, rows []row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(cell func(column) string) {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = printable(cell(c))
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	line(func(c column) string { return c.title })
	for _, r := range rows {
		line(func(c column) string { return orDash(c.value(r)) })
	}
	return t.Flush()
}

// writeObject writes one object, a column a line.
func writeObject(w io.Writer, columns []column, r row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range columns {
		fmt.Fprintf(t, "%s\t%s\n", c.title, orDash(printable(c.value(r))))
	}
	return t.Flush()
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// printable shows control characters, which a terminal would obey, as question marks.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, text)
}

// writeValue writes a JSON value, its fields in their order, as json or yaml.
func writeValue(w io.Writer, format string, value any) error {
	compact, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if format == "json" {
		var out bytes.Buffer
		if err := json.Indent(&out, compact, "", "  "); err != nil {
			return err
		}
		out.WriteByte('\n')
		_, err := out.WriteTo(w)
		return err
	}
	var node yaml.Node // JSON is YAML, too
	if err := yaml.Unmarshal(compact, &node); err != nil {
		return err
	}
	plain(&node)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(&node); err != nil {
		return err
	}
	return e.Close()
}

// plain takes JSON's brackets and quotes off, where there is anything to write without them.
func plain(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode || len(n.Content) > 0 {
		n.Style = 0
	}
	for _, child := range n.Content {
		plain(child)
	}
}
