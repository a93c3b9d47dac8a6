package main

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/domain"
)

// change is a mutation of one object.
type change struct{ use, mutation, input, id, short string }

// changed is what a mutation answers.
type changed struct {
	Object     json.RawMessage
	Position   *string
	Repeated   bool
	UserErrors []struct {
		Message string
		Code    string
	}
}

// changeCommand makes a change that may be given a reason.
func changeCommand(k kind, m change) *cobra.Command {
	c := inputCommand(k, m, func(cmd *cobra.Command, input map[string]any) error {
		if reason := text(cmd, "reason"); reason != "" {
			input["reason"] = reason
		}
		return nil
	})
	c.Flags().String("reason", "", "why, for the record")
	return c
}

// inputCommand makes a change; fill puts into its input what the flags say, or refuses them.
func inputCommand(k kind, m change, fill func(cmd *cobra.Command, input map[string]any) error) *cobra.Command {
	c := &cobra.Command{Use: m.use + " " + k.called(), Short: m.short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		format, err := checkOutput(cmd, "table", "json", "yaml")
		if err != nil {
			return err
		}
		input := map[string]any{m.id: args[0], "idempotencyKey": cmp.Or(text(cmd, "key"), rand.Text())}
		if err := fill(cmd, input); err != nil {
			return err
		}
		api, err := newClient(cmd)
		if err != nil {
			return err
		}
		done, err := api.change(cmd, m.document(k), input)
		if err != nil {
			return err
		}
		switch {
		case format != "table":
			return writeValue(cmd.OutOrStdout(), format, json.RawMessage(fmt.Sprintf(`{%q: %s, "position": %s, "repeated": %t}`,
				k.one, orNull(done.Object), orNull(quoted(done.Position)), done.Repeated)))
		case isNull(done.Object):
			return nil
		default:
			return k.write(cmd.OutOrStdout(), done.Object)
		}
	}}
	addAPI(c.Flags())
	addOutput(c.Flags(), allFormats)
	c.Flags().String("key", "", "idempotency key: the same change with the same key is made once (default: a random one)")
	return c
}

func (m change) document(k kind) string {
	return fmt.Sprintf("mutation($input: %s!) { change: %s(input: $input) { object: %s { %s } position repeated userErrors { message code } } }",
		m.input, m.mutation, k.one, k.selection())
}

// change sends a mutation. One that stands while the read models are behind is no failure: its object is then null.
func (c *client) change(cmd *cobra.Command, document string, input map[string]any) (changed, error) {
	var answer struct{ Change *changed }
	err := c.do(cmd.Context(), document, map[string]any{"input": input}, &answer)
	done := answer.Change
	if f := (*failure)(nil); errors.As(err, &f) && f.code == domain.CodeLagging && done != nil && done.Position != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "tenure: the change is made; the read models do not show it yet")
		return *done, nil
	}
	if err != nil {
		if f := asFailure(err); f.exit == exitUnavailable {
			f.message += fmt.Sprintf("; to make sure, repeat this with --key %s", input["idempotencyKey"])
			return changed{}, f
		}
		return changed{}, err
	}
	if done == nil {
		return changed{}, coded(domain.CodeInternal, "the API answers nothing")
	}
	if len(done.UserErrors) > 0 {
		first := done.UserErrors[0]
		return changed{}, coded(domain.Code(strings.ToLower(first.Code)), "%s", first.Message)
	}
	return *done, nil
}

func quoted(text *string) json.RawMessage {
	if text == nil {
		return nil
	}
	out, _ := json.Marshal(*text) // a string never fails
	return out
}

func orNull(value json.RawMessage) json.RawMessage {
	if len(value) == 0 {
		return json.RawMessage("null")
	}
	return value
}
