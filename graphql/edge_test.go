package graphql_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tenure-dev/tenure/graphql"
)

func TestWhoHasNoTokenGets401(t *testing.T) {
	r := newRig(t)
	for name, header := range map[string]string{
		"none": "", "wrong": "Bearer wrong", "empty": "Bearer ", "another scheme": "Basic " + token, "the bare token": token,
	} {
		t.Run(name, func(t *testing.T) {
			status, body := r.send(http.MethodPost, strings.NewReader(`{"query":"{ orgs { nodes { id } } }"}`), map[string]string{
				"Content-Type": "application/json", "Authorization": header})
			wantRefusal(t, status, body, http.StatusUnauthorized, "UNAUTHENTICATED")
		})
	}
	t.Run("in the query string", func(t *testing.T) {
		resp, err := http.Post(r.url+"?authorization=Bearer%20"+token+"&access_token="+token, "application/json", strings.NewReader(`{"query":"{__typename}"}`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("a token in the query string was answered %d", resp.StatusCode)
		}
	})
	r.nothingAppended()
}

func TestAnEmptyTokenLetsNobodyIn(t *testing.T) {
	if _, ok := graphql.StaticToken("", "operator").Authenticate(t.Context(), ""); ok {
		t.Error("the empty token was let in")
	}
}

func TestWhatIsNoRequestIsRefusedWithACode(t *testing.T) {
	r := newRig(t)
	json := "application/json"
	for name, c := range map[string]struct {
		method, kind, body string
		status             int
		code               string
	}{
		"no JSON":               {"POST", json, `{"query":`, 400, "INVALID"},
		"nothing":               {"POST", json, ``, 400, "INVALID"},
		"a list":                {"POST", json, `[{"query":"{__typename}"}]`, 400, "INVALID"},
		"two values":            {"POST", json, `{"query":"{__typename}"} {}`, 400, "INVALID"},
		"no query":              {"POST", json, `{"variables":{}}`, 400, "INVALID"},
		"query of a wrong type": {"POST", json, `{"query":7}`, 400, "INVALID"},
		"variables are a list":  {"POST", json, `{"query":"{__typename}","variables":[1]}`, 400, "INVALID"},
		"no GraphQL":            {"POST", json, `{"query":"{ orgs "}`, 400, "INVALID"},
		"an unknown field":      {"POST", json, `{"query":"{ orgz { nodes { id } } }"}`, 400, "INVALID"},
		"no such operation":     {"POST", json, `{"query":"query A { __typename }","operationName":"B"}`, 400, "INVALID"},
		"a form":                {"POST", "application/x-www-form-urlencoded", `query=x`, 415, "INVALID"},
		"no content type":       {"POST", "", `{"query":"{__typename}"}`, 415, "INVALID"},
		"GET":                   {"GET", json, ``, 405, "INVALID"},
		"a secret in the body":  {"POST", json, `{"query":"{ __typename }", hunter2`, 400, "INVALID"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := r.send(c.method, strings.NewReader(c.body), map[string]string{"Content-Type": c.kind, "Authorization": "Bearer " + token})
			wantRefusal(t, status, body, c.status, c.code)
			if strings.Contains(body, "hunter2") || strings.Contains(body, "Did you mean") || strings.Contains(body, "orgs\"") {
				t.Errorf("the answer says too much: %s", body)
			}
		})
	}
	r.nothingAppended()
}

func TestTenMegabytesAreTooLarge(t *testing.T) {
	r := newRig(t)
	big := `{"query":"{ __typename }","variables":{"x":"` + strings.Repeat("x", 10<<20) + `"}}`
	send := func(body io.Reader, bearer string) (int, string) {
		return r.send(http.MethodPost, body, map[string]string{"Content-Type": "application/json", "Authorization": bearer})
	}
	for name, body := range map[string]func() io.Reader{
		"with a length": func() io.Reader { return strings.NewReader(big) },
		"in chunks":     func() io.Reader { return io.MultiReader(strings.NewReader(big)) }, // net/http knows no length of it
	} {
		t.Run(name, func(t *testing.T) {
			status, text := send(body(), "Bearer "+token)
			wantRefusal(t, status, text, http.StatusRequestEntityTooLarge, "TOO_LARGE")
			status, text = send(body(), "Bearer x")
			wantRefusal(t, status, text, http.StatusUnauthorized, "UNAUTHENTICATED")
		})
	}
	r.nothingAppended()
}

func TestOperationsAreLimited(t *testing.T) {
	r := newRig(t)
	var bomb bytes.Buffer
	bomb.WriteString("query { orgs { nodes { ...f0 } } }\n")
	for i := range 60 {
		bomb.WriteString("fragment f" + itoa(i) + " on Org { id ...f" + itoa(i+1) + " parent { ...f" + itoa(i+1) + " } }\n")
	}
	bomb.WriteString("fragment f60 on Org { id }\n")
	for name, query := range map[string]string{
		"too deep":         "{ orgs { nodes { " + strings.Repeat("parent { ", 20) + "id" + strings.Repeat(" }", 20) + " } } }",
		"too many aliases": "{ " + repeat(101, func(i int) string { return "a" + itoa(i) + ": __typename " }) + "}",
		"too many fields":  "{ " + repeat(601, func(int) string { return "__typename " }) + "}",
		"too many tokens":  "{ " + strings.Repeat("__typename ", 10_001) + "}",
		"too dear": "{ " + repeat(20, func(i int) string {
			return "a" + itoa(i) + ": orgs(first: 200) { nodes { id name slug phase revision createdAt updatedAt } } "
		}) + "}",
		"fragments of fragments": bomb.String(),
		"a fragment of itself":   "{ orgs { nodes { ...f } } } fragment f on Org { id ...f }",
	} {
		t.Run(name, func(t *testing.T) {
			a := r.ask(query, nil)
			if a.status != http.StatusBadRequest || a.code() != "INVALID" {
				t.Errorf("answered %d %s", a.status, a.text)
			}
		})
	}
}

func TestTheSchemaMayBeAskedFor(t *testing.T) {
	r := newRig(t)
	a := r.ask(introspection, nil)
	if len(a.Errors) > 0 || !strings.Contains(a.text, "RequestTenantInput") {
		t.Errorf("answered %d %.300s", a.status, a.text)
	}
}

func TestAnotherOriginsPageMayNotConnect(t *testing.T) {
	r := newRig(t)
	status, body := r.send(http.MethodGet, nil, map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Origin": "https://evil.example"})
	wantRefusal(t, status, body, http.StatusForbidden, "FORBIDDEN")
}

func TestTheExplorerShowsThreeOperationsToTry(t *testing.T) {
	page := get(t, graphql.NewExplorer("/graphql"))
	for _, want := range []string{"graphiql", "defaultTabs", "query Overview", "mutation RequestTenant", "subscription Watch", "Authorization: Bearer TOKEN"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	_, list, _ := strings.Cut(page, "defaultTabs: ")
	var tabs []struct{ Query, Headers string }
	if err := json.NewDecoder(strings.NewReader(list)).Decode(&tabs); err != nil || len(tabs) != 3 {
		t.Fatalf("%d tabs: %v", len(tabs), err)
	}
	r := newRig(t)
	for _, tab := range tabs {
		if a := r.ask(tab.Query, nil); a.status != http.StatusOK && !strings.HasPrefix(tab.Query, "# 3") {
			t.Errorf("%s\nis answered %d %s", tab.Query, a.status, a.text)
		}
		if !json.Valid([]byte(tab.Headers)) {
			t.Errorf("%s is no JSON", tab.Headers)
		}
	}
}

// wantRefusal wants a coded error in the shape of a GraphQL answer, and no data.
func wantRefusal(t *testing.T, status int, body string, wantStatus int, code string) {
	t.Helper()
	var a answer
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatalf("answered %d %q: %v", status, body, err)
	}
	if status != wantStatus || a.code() != code || len(a.Errors) != 1 || a.Errors[0].Message == "" || len(a.Data) > 0 && string(a.Data) != "null" {
		t.Errorf("answered %d %s, want %d %s", status, body, wantStatus, code)
	}
}
