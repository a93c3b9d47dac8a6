package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tenure-dev/tenure/domain"
)

const (
	apiTimeout = 30 * time.Second
	maxAnswer  = 64 << 20
)

// client speaks to the GraphQL API.
type client struct {
	api, token string
	http       *http.Client
}

// addAPI adds the flags that say where the API is.
func addAPI(flags *pflag.FlagSet) {
	addData(flags, "directory of a running tenure dev, for its address and token")
	flags.String("api", "", "address of the API, such as http://127.0.0.1:8080; its token is TENURE_TOKEN")
}

// newClient takes address and token from --api and TENURE_TOKEN, or from what dev has written. The token of a dev is never sent
// to another address than that dev's own.
func newClient(cmd *cobra.Command) (*client, error) {
	api, token := text(cmd, "api"), tokenOf(cmd)
	if api == "" || token == "" {
		saved, found, err := readClientFile(text(cmd, "data"))
		switch {
		case err != nil && api == "":
			return nil, err
		case api == "" && !found:
			return nil, usage("--data: no tenure dev has run on %s; give it, or --api and TENURE_TOKEN", text(cmd, "data"))
		case api == "":
			api = saved.API
		}
		if token == "" && strings.TrimRight(api, "/") == strings.TrimRight(saved.API, "/") {
			token = saved.Token
		}
	}
	address, err := url.Parse(api)
	if err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https" {
		return nil, usage("--api must be an address such as http://127.0.0.1:8080")
	}
	if token == "" {
		return nil, usage("TENURE_TOKEN is not set, and %s is not the tenure dev of --data", api)
	}
	return &client{address.JoinPath("graphql").String(), token, &http.Client{Timeout: apiTimeout}}, nil
}

// apiError is one of the errors of a GraphQL answer.
type apiError struct {
	Message    string
	Extensions struct{ Code string }
}

// do sends an operation and decodes data into out. It decodes what there is also where it answers an error.
func (c *client) do(ctx context.Context, operation string, variables map[string]any, out any) error {
	body, err := json.Marshal(map[string]any{"query": operation, "variables": variables})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.api, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+c.token)
	response, err := c.http.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return coded(domain.CodeUnavailable, "%s does not answer: %s", c.api, cause(err))
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return coded(domain.CodeUnavailable, "%s broke off its answer: %s", c.api, err)
	}
	var envelope struct {
		Data   json.RawMessage
		Errors []apiError
	}
	if err := json.Unmarshal(answer, &envelope); err != nil || envelope.Data == nil && envelope.Errors == nil {
		if response.StatusCode >= http.StatusInternalServerError {
			return coded(domain.CodeUnavailable, "%s answers %s", c.api, response.Status)
		}
		return usage("--api: %s answers %s and is not a Tenure API", c.api, response.Status)
	}
	if len(envelope.Data) > 0 && string(envelope.Data) != "null" {
		if err := json.Unmarshal(envelope.Data, out); err != nil {
			return coded(domain.CodeInternal, "%s answers what this version does not understand: %s", c.api, err)
		}
	}
	if len(envelope.Errors) > 0 {
		first := envelope.Errors[0]
		code := domain.Code(strings.ToLower(first.Extensions.Code))
		if code == "" {
			code = domain.CodeInternal
		}
		return coded(code, "%s", first.Message)
	}
	return nil
}

// cause is why a request has failed, without the method and address that net/http puts before it.
func cause(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}
