package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/domain"
)

// pageSize is how many objects one request asks for; a list asks until there are no more.
const pageSize = 100

func listCommand(k kind) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List " + k.many, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		format, err := checkOutput(cmd, "table", "json", "yaml")
		if err != nil {
			return err
		}
		api, err := newClient(cmd)
		if err != nil {
			return err
		}
		variables := map[string]any{"first": pageSize}
		for _, f := range k.filters {
			if value := text(cmd, f.flag); value != "" {
				variables[f.arg] = value
			}
		}
		objects, err := api.pages(cmd, k, variables)
		if err != nil {
			return err
		}
		if format != "table" {
			return writeValue(cmd.OutOrStdout(), format, objects)
		}
		rows := make([]row, len(objects))
		for i := range objects {
			if rows[i], err = toRow(objects[i]); err != nil {
				return err
			}
		}
		return writeTable(cmd.OutOrStdout(), k.columns, rows)
	}}
	addAPI(c.Flags())
	addOutput(c.Flags(), allFormats)
	for _, f := range k.filters {
		c.Flags().String(f.flag, "", f.usage)
	}
	return c
}

// listQuery asks for one page.
func (k kind) listQuery() string {
	declared, given := "$first: Int!, $after: String", "first: $first, after: $after"
	for _, f := range k.filters {
		declared += fmt.Sprintf(", $%s: %s", f.arg, f.typ)
		given += fmt.Sprintf(", %s: $%s", f.arg, f.arg)
	}
	return fmt.Sprintf("query(%s) { page: %s(%s) { nodes { %s } pageInfo { hasNextPage endCursor } } }", declared, k.many, given,
		strings.Join(strings.Fields(k.fields), " "))
}

// pages reads a list to its end.
func (c *client) pages(cmd *cobra.Command, k kind, variables map[string]any) ([]json.RawMessage, error) {
	all := []json.RawMessage{} // an empty list is [], not null
	for after := ""; ; {
		var answer struct {
			Page struct {
				Nodes    []json.RawMessage
				PageInfo struct {
					HasNextPage bool
					EndCursor   string
				}
			}
		}
		if err := c.do(cmd.Context(), k.listQuery(), variables, &answer); err != nil {
			return nil, err
		}
		all = append(all, answer.Page.Nodes...)
		info := answer.Page.PageInfo
		if !info.HasNextPage {
			return all, nil
		}
		if info.EndCursor == "" || info.EndCursor == after {
			return nil, coded(domain.CodeInternal, "the API says that more %s follow, and not where", k.many)
		}
		after = info.EndCursor
		variables["after"] = after
	}
}
