package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/domain"
)

func showCommand(k kind) *cobra.Command {
	c := &cobra.Command{Use: "show ID", Short: "Show one " + k.one, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
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

// write writes one object: a line a field, then the list within it.
func (k kind) write(w io.Writer, object json.RawMessage) error {
	r, err := toRow(object)
	if err != nil {
		return err
	}
	if err := writeObject(w, append(k.columns[:len(k.columns):len(k.columns)], k.details...), r); err != nil {
		return err
	}
	within := r.all(k.list)
	if len(within) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return writeTable(w, k.listed, within)
}

func isNull(value json.RawMessage) bool { return len(value) == 0 || string(value) == "null" }
