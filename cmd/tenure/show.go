package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/domain"
)

func showCommand(k kind) *cobra.Command {
	c := &cobra.Command{Use: "show " + k.called(), Short: "Show one " + k.one, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		format, err := checkOutput(cmd, "table", "json", "yaml")
		if err != nil {
			return err
		}
		api, err := newClient(cmd)
		if err != nil {
			return err
		}
		var answer struct{ Object json.RawMessage }
		if err := api.do(cmd.Context(), k.showQuery(), map[string]any{"key": args[0]}, &answer); err != nil {
			return err
		}
		if isNull(answer.Object) {
			return coded(domain.CodeNotFound, "there is no %s %s", k.one, args[0])
		}
		if format != "table" {
			return writeValue(cmd.OutOrStdout(), format, answer.Object)
		}
		return k.write(cmd.OutOrStdout(), answer.Object)
	}}
	addAPI(c.Flags())
	addOutput(c.Flags(), allFormats)
	return c
}

func (k kind) selection() string { return strings.Join(strings.Fields(k.fields+" "+k.more), " ") }

func (k kind) showQuery() string {
	return fmt.Sprintf("query($key: ID!) { object: %s(%s: $key) { %s } }", k.one, k.key, k.selection())
}

// write writes one object: a line a field, then the lists within it.
func (k kind) write(w io.Writer, object json.RawMessage) error {
	r, err := toRow(object)
	if err != nil {
		return err
	}
	if err := writeObject(w, append(k.columns[:len(k.columns):len(k.columns)], k.details...), r); err != nil {
		return err
	}
	for _, l := range k.lists {
		within := r.all(l.path)
		if len(within) == 0 {
			continue
		}
		fmt.Fprintln(w)
		if err := writeTable(w, l.columns, within); err != nil {
			return err
		}
	}
	return nil
}

// called is what the argument that names one is called.
func (k kind) called() string { return cmp.Or(k.name, "ID") }

func isNull(value json.RawMessage) bool { return len(value) == 0 || string(value) == "null" }
