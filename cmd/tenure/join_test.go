package main

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/validator/rules"

	"github.com/tenure-dev/tenure/graphql/generated"
)

func pemOf(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestSecretsAreMadeOnce(t *testing.T) {
	dir := t.TempDir()
	token, postgres := filepath.Join(dir, "token"), filepath.Join(dir, "postgres")
	args := []string{"secrets", token, postgres + "=postgresql://u:{}@h/d?x=y"}
	if exit, stdout, stderr := call(t, nil, args...); exit != exitOK || stdout != "" {
		t.Fatal(stdout, stderr)
	}
	first, second := read(t, token), read(t, postgres)
	if len(first) != 26 || first == second || read(t, postgres+".url") != "postgresql://u:"+second+"@h/d?x=y" {
		t.Errorf("%q, %q, %q", first, second, read(t, postgres+".url"))
	}
	if info, err := os.Stat(token); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if exit, _, stderr := call(t, nil, args...); exit != exitOK || read(t, token) != first || read(t, postgres) != second {
		t.Errorf("the second time: %s", stderr)
	}
	for _, bad := range []string{"=x", token + "=no place", filepath.Join(dir, "none", "token")} {
		exit, _, stderr := call(t, nil, "secrets", bad)
		if exit != exitUsage {
			t.Errorf("%s: exit code %d", bad, exit)
		}
		wantOneLine(t, stderr, "tenure: invalid: ")
	}
}

const (
	noPlane    = `{"data":{"page":{"nodes":[{"id":"pln_2","name":"other","agent":{"state":"online"}}],"pageInfo":{"hasNextPage":false}}}}`
	registered = `{"data":{"change":{"object":{"id":"pln_1","agent":{"state":"never"}},"position":"p","repeated":false,"userErrors":[]}}}`
	behind     = `{"data":{"change":{"object":null,"position":"p","repeated":false,"userErrors":[]}},"errors":[{"message":"later","extensions":{"code":"PROJECTION_LAGGING"}}]}`
	drawn      = `{"data":{"change":{"token":"secret-token","userErrors":[]}}}`
)

func onePlane(state string) string {
	return `{"data":{"page":{"nodes":[{"id":"pln_1","name":"local","agent":{"state":"` + state + `"}}],"pageInfo":{"hasNextPage":false}}}}`
}

func TestAPlaneIsRegisteredOnceAndItsTokenKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	join := func(api *fakeAPI, args ...string) string {
		t.Helper()
		exit, stdout, stderr := call(t, map[string]string{"TENURE_TOKEN": "operator"}, append([]string{"planes", "join", "local", "--api", api.URL}, args...)...)
		if exit != exitOK {
			t.Fatalf("exit code %d: %s", exit, stderr)
		}
		return stdout
	}
	api := newFakeAPI(t, 200, noPlane, behind, registered, drawn)
	join(api, "--region", "eu", "--capacity", "slots=7", "--token-file", file)
	if len(api.asked) != 4 || read(t, file) != "secret-token" {
		t.Fatalf("asked %+v; the file has %q", api.asked, read(t, file))
	}
	first, _ := api.asked[1].Variables["input"].(map[string]any)
	again, _ := api.asked[2].Variables["input"].(map[string]any)
	if first["name"] != "local" || first["region"] != "eu" || first["idempotencyKey"] != again["idempotencyKey"] {
		t.Errorf("registered with %v, then %v", first, again)
	}
	if last, _ := api.asked[3].Variables["input"].(map[string]any); last["planeId"] != "pln_1" {
		t.Errorf("the token is asked for with %v", last)
	}
	api = newFakeAPI(t, 200, onePlane("online"))
	if join(api, "--token-file", file); len(api.asked) != 1 {
		t.Errorf("an agent that has joined: asked %+v", api.asked)
	}
	fits(t, newFakeAPI(t, 200, `{"data":{"plane":{"id":"pln_1","agent":{"state":"never"}}}}`, drawn), "--id", "pln_1")
	for name, c := range map[string]struct{ state, flag string }{"never joined": {"never", "--again=false"}, "lost": {"offline", "--again"}} {
		api = newFakeAPI(t, 200, onePlane(c.state), strings.ReplaceAll(drawn, "secret-token", name))
		if join(api, "--token-file", file, c.flag); read(t, file) != name {
			t.Errorf("%s: the file has %q", name, read(t, file))
		}
	}
	if out := join(newFakeAPI(t, 200, onePlane("online"), drawn)); out != "secret-token\n" {
		t.Errorf("without a file: %q", out)
	}
	two := strings.Replace(onePlane("online"), `"nodes":[`, `"nodes":[{"id":"pln_3","name":"local","agent":{"state":"never"}},`, 1)
	exit, _, stderr := call(t, map[string]string{"TENURE_TOKEN": "operator"}, "planes", "join", "local", "--api", newFakeAPI(t, 200, two).URL)
	if exit != exitUsage {
		t.Errorf("exit code %d", exit)
	}
	wantOneLine(t, stderr, "tenure: invalid: --id is missing: 2 data planes have the name local")
}

// fits runs planes join, and validates all that it asks for.
func fits(t *testing.T, api *fakeAPI, args ...string) {
	t.Helper()
	schema := generated.NewExecutableSchema(generated.Config{}).Schema()
	exit, stdout, stderr := call(t, withToken, append([]string{"planes", "join", "local", "--api", api.URL}, args...)...)
	if exit != exitOK || stdout != "secret-token\n" {
		t.Errorf("exit code %d, %q, %s", exit, stdout, stderr)
	}
	for _, asked := range api.asked {
		if _, errs := gqlparser.LoadQueryWithRules(schema, asked.Query, rules.NewDefaultRules()); errs != nil {
			t.Error(errs)
		}
	}
}

func TestTheTokenThatIsSentIsPrinted(t *testing.T) {
	exit, stdout, _ := call(t, map[string]string{"TENURE_TOKEN": "operator"}, "token", "--api", "http://127.0.0.1:1")
	if exit != exitOK || stdout != "operator\n" {
		t.Errorf("exit code %d: %q", exit, stdout)
	}
}
