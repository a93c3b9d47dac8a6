package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenure-dev/tenure/domain"
)

func planesJoinCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "join NAME",
		Short: "Register a data plane unless it is, and make a token with which its agent joins",
		Long: `Registers a data plane, and prints a token with which its agent joins: once, within an hour. A data plane
that has this NAME already is the one; where several have it, give --id.

With --token-file the token goes into a file instead, which only the caller may read; a file that is there stays as it is once the
plane's agent has had a session, unless --again is given. So this may run before every start of an agent.`,
		Args: cobra.ExactArgs(1),
		RunE: runPlanesJoin,
	}
	addAPI(c.Flags())
	c.Flags().String("id", "", "of a data plane that is registered")
	c.Flags().String("region", "", "of a new one: where it is (default: default)")
	c.Flags().StringToString("capacity", nil, "of a new one: such as slots=1000, connections=400 (default: 1000 slots)")
	c.Flags().String("token-file", "", "where to put the token")
	c.Flags().Bool("again", false, "make a token though the agent has joined: its directory is lost")
	return c
}

// joined is a plane as far as joining goes.
type joined struct {
	ID    string
	Agent struct{ State string }
}

func runPlanesJoin(cmd *cobra.Command, args []string) error {
	api, err := newClient(cmd)
	if err != nil {
		return err
	}
	plane, err := api.ensurePlane(cmd, args[0])
	if err != nil {
		return err
	}
	file := text(cmd, "token-file")
	if file != "" && plane.Agent.State != "never" && text(cmd, "again") != "true" {
		if _, err := os.Stat(file); err == nil {
			return nil
		}
	}
	var answer struct {
		Change *struct {
			Token      *string
			UserErrors []struct{ Message, Code string }
		}
	}
	err = api.do(cmd.Context(), "mutation($input: CreateJoinTokenInput!) { change: createJoinToken(input: $input) { token userErrors { message code } } }",
		map[string]any{"input": map[string]any{"planeId": plane.ID, "idempotencyKey": rand.Text()}}, &answer)
	switch {
	case answer.Change != nil && len(answer.Change.UserErrors) > 0:
		first := answer.Change.UserErrors[0]
		return coded(domain.Code(strings.ToLower(first.Code)), "%s", first.Message)
	case answer.Change != nil && answer.Change.Token != nil: // with or without the plane as of then
	case err != nil:
		return err
	default:
		return coded(domain.CodeInternal, "the API answers no token")
	}
	if file != "" {
		return secretsError(replaceFile(file, *answer.Change.Token))
	}
	_, err = cmd.OutOrStdout().Write([]byte(*answer.Change.Token + "\n"))
	return err
}

// planeAsks is how often the read models are asked for a plane that was registered just now; each time they are waited for.
const planeAsks = 6

// ensurePlane is the plane of --id, or the one of a name, registered if it is not yet.
func (c *client) ensurePlane(cmd *cobra.Command, name string) (p joined, err error) {
	if id := text(cmd, "id"); id != "" {
		var answer struct{ Plane *joined }
		if err := c.do(cmd.Context(), "query($id: ID!) { plane(id: $id) { id agent { state } } }", map[string]any{"id": id}, &answer); err != nil {
			return p, err
		}
		if answer.Plane == nil {
			return p, coded(domain.CodeNotFound, "there is no data plane %s", id)
		}
		return *answer.Plane, nil
	}
	named, err := c.planesNamed(cmd, name)
	switch {
	case err != nil:
		return p, err
	case len(named) == 1:
		return named[0], nil
	case len(named) > 1:
		return p, usage("--id is missing: %d data planes have the name %s", len(named), name)
	}
	input := map[string]any{"name": name, "idempotencyKey": planeKey(name)}
	if region := text(cmd, "region"); region != "" {
		input["region"] = region
	}
	capacity, err := amounts(cmd, "capacity")
	if err != nil {
		return p, err
	}
	if len(capacity) > 0 {
		input["capacity"] = capacity
	}
	const document = "mutation($input: RegisterPlaneInput!) { change: registerPlane(input: $input) { object: plane { id agent { state } } position repeated userErrors { message code } } }"
	for range planeAsks {
		done, err := c.change(cmd, document, input)
		if err != nil {
			return p, err
		}
		if !isNull(done.Object) {
			return p, json.Unmarshal(done.Object, &p)
		}
	}
	return p, coded(domain.CodeLagging, "the read models do not show the data plane %s yet", name)
}

func (c *client) planesNamed(cmd *cobra.Command, name string) (all []joined, err error) {
	planes, err := c.pages(cmd, kind{many: "planes", fields: "id name agent { state }"}, map[string]any{"first": pageSize})
	for _, object := range planes {
		var p struct {
			joined
			Name string
		}
		if err := json.Unmarshal(object, &p); err != nil {
			return nil, err
		}
		if p.Name == name {
			all = append(all, p.joined)
		}
	}
	return all, err
}

// planeKey makes the same name the same registration.
func planeKey(name string) string {
	sum := sha256.Sum256([]byte(name))
	return "planes-join-" + hex.EncodeToString(sum[:16])
}

// amounts is a flag such as slots=1000; nil where it was not given.
func amounts(cmd *cobra.Command, flag string) (all []any, err error) {
	given, err := cmd.Flags().GetStringToString(flag)
	if err != nil {
		return nil, err
	}
	for unit, n := range given {
		amount, err := strconv.ParseInt(n, 10, 64)
		if err != nil || amount < 0 {
			return nil, usage("--%s: %s must be a whole number, not %q", flag, unit, n)
		}
		all = append(all, map[string]any{"unit": unit, "amount": amount})
	}
	return all, nil
}
