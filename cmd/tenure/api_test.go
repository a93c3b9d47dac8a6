package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/validator/rules"

	"github.com/tenure-dev/tenure/adapters/app"
	"github.com/tenure-dev/tenure/graphql/generated"
)

var withToken = map[string]string{"TENURE_TOKEN": "secret"}

const (
	pageOne = `{"data":{"page":{"nodes":[{"id":"org_1","name":"Acme\u001b[2J","slug":null,"phase":"active","parent":null,"createdAt":"T1"}],
		"pageInfo":{"hasNextPage":true,"endCursor":"c1"}}}}`
	pageTwo = `{"data":{"page":{"nodes":[{"id":"org_2","name":"Umbrella","slug":"umbrella","phase":"active","parent":{"id":"org_1"},"createdAt":"T2"}],
		"pageInfo":{"hasNextPage":false,"endCursor":"c2"}}}}`
	pageNone = `{"data":{"page":{"nodes":[],"pageInfo":{"hasNextPage":false,"endCursor":null}}}}`
	oneSaga  = `{"id":"sag_1","name":"onboarding","version":1,"state":"attention","step":"provision","code":"timed_out","tenant":{"id":"ten_1","slug":"a"},
		"org":{"id":"org_1"},"startedAt":"T1","finishedAt":null,"revision":7,
		"steps":[{"name":"choose plane","state":"done","attempt":1,"startedAt":"T1","finishedAt":"T2","lastError":null}]}`
)

func TestAListIsReadToItsEndAndWritten(t *testing.T) {
	for name, c := range map[string]struct {
		args    []string
		answers []string
		want    string
	}{
		"table": {nil, []string{pageOne, pageTwo}, `
ID     NAME      SLUG      PHASE   PARENT  CREATED
org_1  Acme?[2J  -         active  -       T1
org_2  Umbrella  umbrella  active  org_1   T2
`},
		"json": {[]string{"-o", "json"}, []string{pageTwo}, `
[
  {
    "id": "org_2",
    "name": "Umbrella",
    "slug": "umbrella",
    "phase": "active",
    "parent": {
      "id": "org_1"
    },
    "createdAt": "T2"
  }
]
`},
		"yaml": {[]string{"-o", "yaml"}, []string{pageTwo}, `
- id: org_2
  name: Umbrella
  slug: umbrella
  phase: active
  parent:
    id: org_1
  createdAt: T2
`},
		"nothing":         {nil, []string{pageNone}, "\nID  NAME  SLUG  PHASE  PARENT  CREATED\n"},
		"nothing in json": {[]string{"-o", "json"}, []string{pageNone}, "\n[]\n"},
		"nothing in yaml": {[]string{"-o", "yaml"}, []string{pageNone}, "\n[]\n"},
	} {
		t.Run(name, func(t *testing.T) {
			api := newFakeAPI(t, http.StatusOK, c.answers...)
			exit, stdout, stderr := call(t, withToken, append([]string{"orgs", "list", "--api", api.URL, "--parent", "org_0"}, c.args...)...)
			want := c.want[1:]
			if exit != exitOK || stderr != "" || stdout != want {
				t.Errorf("exit code %d, standard error %q, output\n%s\nwant\n%s", exit, stderr, stdout, want)
			}
			if len(api.asked) != len(c.answers) {
				t.Fatalf("%d requests for %d pages", len(api.asked), len(c.answers))
			}
			for i, asked := range api.asked {
				if asked.Token != "Bearer secret" || asked.Variables["parentId"] != "org_0" || (asked.Variables["after"] == "c1") != (i == 1) {
					t.Errorf("request %d is %v", i, asked)
				}
			}
		})
	}
}

func TestAListWithoutEndIsNotFollowed(t *testing.T) {
	api := newFakeAPI(t, http.StatusOK, pageOne)
	exit, _, stderr := call(t, withToken, "orgs", "list", "--api", api.URL)
	if exit != exitFailed || len(api.asked) != 2 {
		t.Errorf("exit code %d after %d requests", exit, len(api.asked))
	}
	wantOneLine(t, stderr, "tenure: internal: ")
}

func TestOneSagaIsShownWithItsSteps(t *testing.T) {
	api := newFakeAPI(t, http.StatusOK, `{"data":{"object":`+oneSaga+`}}`)
	exit, stdout, stderr := call(t, withToken, "sagas", "show", "sag_1", "--api", api.URL)
	const want = `ID        sag_1
NAME      onboarding
STATE     attention
STEP      provision
CODE      timed_out
TENANT    ten_1
STARTED   T1
FINISHED  -
ORG       org_1
VERSION   1
REVISION  7

STEP          STATE  ATTEMPT  STARTED  FINISHED  LAST ERROR
choose plane  done   1        T1       T2        -
`
	if exit != exitOK || stdout != want {
		t.Errorf("exit code %d, standard error %q, output\n%s", exit, stderr, stdout)
	}
}

func TestAChangeSendsReasonAndKey(t *testing.T) {
	api := newFakeAPI(t, http.StatusOK, `{"data":{"change":{"object":`+oneSaga+`,"position":"p1","repeated":false,"userErrors":[]}}}`)
	for range 2 {
		exit, stdout, stderr := call(t, withToken, "sagas", "retry", "sag_1", "--reason", "mended", "-o", "json", "--api", api.URL)
		if exit != exitOK || !strings.Contains(stdout, `"position": "p1"`) {
			t.Errorf("exit code %d, standard error %q, output\n%s", exit, stderr, stdout)
		}
	}
	if exit, _, _ := call(t, withToken, "sagas", "cancel", "sag_1", "--key", "mine", "--api", api.URL); exit != exitOK {
		t.Errorf("exit code %d", exit)
	}
	var keys []any
	for _, asked := range api.asked {
		keys = append(keys, asked.Variables["input"].(map[string]any)["idempotencyKey"])
	}
	if keys[0] == keys[1] || len(keys[0].(string)) < 20 || keys[2] != "mine" {
		t.Errorf("the keys are %v", keys)
	}
	first := api.asked[0].Variables["input"].(map[string]any)
	if first["sagaId"] != "sag_1" || first["reason"] != "mended" {
		t.Errorf("the input is %v", first)
	}
}

func TestAChangeThatReadModelsDoNotShowYetIsMade(t *testing.T) {
	api := newFakeAPI(t, http.StatusOK, `{"data":{"change":{"object":null,"position":"p1","repeated":false,"userErrors":[]}},
		"errors":[{"message":"behind","extensions":{"code":"PROJECTION_LAGGING"}}]}`)
	exit, stdout, stderr := call(t, withToken, "planes", "cordon", "pln_1", "--api", api.URL)
	if exit != exitOK || stdout != "" || !strings.Contains(stderr, "the change is made") {
		t.Errorf("exit code %d, output %q, standard error %q", exit, stdout, stderr)
	}
}

func TestEveryErrorHasItsExitCode(t *testing.T) {
	show, cordon := []string{"planes", "show", "pln_1"}, []string{"planes", "cordon", "pln_1", "--key", "k"}
	refused := func(code string) string {
		return `{"data":{"change":{"object":null,"position":null,"repeated":false,"userErrors":[{"message":"it says\nwhy","code":"` + code + `"}]}}}`
	}
	failed := func(code string) string {
		return `{"data":null,"errors":[{"message":"it says why","extensions":{"code":"` + code + `"}}]}`
	}
	for name, c := range map[string]struct {
		args   []string
		status int
		answer string
		exit   int
		want   string
	}{
		"null":            {show, 200, `{"data":{"object":null}}`, exitNotFound, "tenure: not_found: there is no plane pln_1"},
		"not found":       {cordon, 200, refused("NOT_FOUND"), exitNotFound, "tenure: not_found: it says why"},
		"not allowed":     {cordon, 200, refused("NOT_ALLOWED"), exitRefused, "tenure: not_allowed: it says why"},
		"invalid":         {cordon, 200, refused("INVALID"), exitRefused, "tenure: invalid: it says why"},
		"unauthenticated": {show, 401, failed("UNAUTHENTICATED"), exitRefused, "tenure: unauthenticated: it says why"},
		"unavailable":     {show, 200, failed("UNAVAILABLE"), exitUnavailable, "tenure: unavailable: it says why"},
		"change unknown":  {cordon, 200, failed("UNAVAILABLE"), exitUnavailable, "tenure: unavailable: it says why; to make sure, repeat this with --key k"},
		"lagging":         {show, 200, failed("PROJECTION_LAGGING"), exitUnavailable, "tenure: projection_lagging: it says why"},
		"internal":        {show, 200, failed("INTERNAL"), exitFailed, "tenure: internal: it says why"},
		"uncoded":         {show, 200, `{"errors":[{"message":"it says why"}]}`, exitFailed, "tenure: internal: it says why"},
		"bad gateway":     {show, 502, "<html>", exitUnavailable, "tenure: unavailable: "},
		"no API":          {show, 404, "<html>", exitUsage, "tenure: invalid: --api: "},
	} {
		t.Run(name, func(t *testing.T) {
			api := newFakeAPI(t, c.status, c.answer)
			exit, stdout, stderr := call(t, withToken, append(c.args, "--api", api.URL)...)
			if exit != c.exit || stdout != "" {
				t.Errorf("exit code %d and output %q, want %d and none", exit, stdout, c.exit)
			}
			wantOneLine(t, stderr, c.want)
		})
	}
	gone := newFakeAPI(t, 200, "{}")
	gone.Close()
	exit, _, stderr := call(t, withToken, append(show, "--api", gone.URL)...)
	if exit != exitUnavailable {
		t.Errorf("exit code %d of an API that is away", exit)
	}
	wantOneLine(t, stderr, "tenure: unavailable: "+gone.URL+"/graphql does not answer: ")
}

func TestAddressAndTokenComeFromDevAndTheTokenGoesNowhereElse(t *testing.T) {
	api, other := newFakeAPI(t, http.StatusOK, pageNone), newFakeAPI(t, http.StatusOK, pageNone)
	dir := writeClient(t, app.Client{API: api.URL, Token: "devs"})
	for name, c := range map[string]struct {
		env   map[string]string
		args  []string
		exit  int
		token string
	}{
		"dev's":                 {nil, nil, exitOK, "Bearer devs"},
		"token by variable":     {withToken, nil, exitOK, "Bearer secret"},
		"data by variable":      {map[string]string{"TENURE_DATA": dir}, nil, exitOK, "Bearer devs"},
		"dev's address by flag": {nil, []string{"--api", api.URL + "/"}, exitOK, "Bearer devs"},
		"another's address":     {nil, []string{"--api", other.URL}, exitUsage, ""},
	} {
		t.Run(name, func(t *testing.T) {
			api.asked = nil
			exit, _, stderr := call(t, c.env, append([]string{"tiers", "list", "--data", dir}, c.args...)...)
			if exit != c.exit {
				t.Errorf("exit code %d, standard error %q", exit, stderr)
			}
			if c.token != "" && (len(api.asked) != 1 || api.asked[0].Token != c.token) {
				t.Errorf("asked %v", api.asked)
			}
		})
	}
	if len(other.asked) > 0 {
		t.Error("the other API was asked")
	}
}

// TestEveryDocumentFitsTheSchema runs each command of the API and validates what it sends.
func TestEveryDocumentFitsTheSchema(t *testing.T) {
	schema := generated.NewExecutableSchema(generated.Config{}).Schema()
	api := newFakeAPI(t, http.StatusOK, `{"data":null}`)
	for _, parent := range []*cobra.Command{tenantsCommand(), sagasCommand(), planesCommand(), orgsCommand(), tiersCommand(), sinksCommand()} {
		for _, c := range parent.Commands() {
			args, sent := []string{parent.Name(), c.Name(), "--api", api.URL}, len(api.asked)
			if c.Name() != "list" {
				args = append(args, "id_1")
			}
			if c.Name() == "redeliver" {
				args = append(args, "--from", "s/1", "--to", "s/2")
			}
			_, _, _ = call(t, withToken, args...)
			if len(api.asked) == sent {
				t.Fatalf("%v asked nothing", args)
			}
			mutates := false
			for _, asked := range api.asked[sent:] {
				document, errs := gqlparser.LoadQueryWithRules(schema, asked.Query, rules.NewDefaultRules())
				if errs != nil {
					t.Fatalf("%v: %v", args, errs)
				}
				mutates = mutates || document.Operations[0].Operation == ast.Mutation
			}
			if mutates != (c.Name() != "list" && c.Name() != "show") {
				t.Errorf("%v mutates: %t", args, mutates)
			}
		}
	}
}
