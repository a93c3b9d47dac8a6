package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenure-dev/tenure/adapters/app"
)

// call runs the command line with variables of its own.
func call(t *testing.T, env map[string]string, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	exit = run(t.Context(), args, func(name string) (string, bool) { v, ok := env[name]; return v, ok }, &out, &errs)
	return exit, out.String(), errs.String()
}

// request is what a fake API was asked.
type request struct {
	Query     string
	Variables map[string]any
	Token     string `json:"-"`
}

// fakeAPI answers each request with the next of its answers, the last one again and again.
type fakeAPI struct {
	*httptest.Server
	asked []request
}

func newFakeAPI(t *testing.T, status int, answers ...string) *fakeAPI {
	f := &fakeAPI{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked request
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || r.URL.Path != "/graphql" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		asked.Token = r.Header.Get("Authorization")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(answers[min(len(f.asked), len(answers)-1)]))
		f.asked = append(f.asked, asked)
	}))
	t.Cleanup(f.Close)
	return f
}

// writeClient writes what a dev would.
func writeClient(t *testing.T, c app.Client) (dir string) {
	t.Helper()
	dir = t.TempDir()
	text, err := json.Marshal(c)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, app.ClientFile), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func wantOneLine(t *testing.T, stderr, prefix string) {
	t.Helper()
	if !strings.HasPrefix(stderr, prefix) || strings.Count(stderr, "\n") != 1 {
		t.Errorf("standard error has %q, want one line that begins with %q", stderr, prefix)
	}
}

func TestTheCommandLineIsRefusedInOneLine(t *testing.T) {
	empty := t.TempDir()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"unknown command":     {[]string{"frobnicate"}, "tenure: invalid: unknown command"},
		"unknown flag":        {[]string{"tenants", "list", "--frob"}, "tenure: invalid: unknown flag: --frob"},
		"bad flag":            {[]string{"log", "read", "s", "--from", "x"}, "tenure: invalid: invalid argument \"x\" for \"--from\""},
		"missing argument":    {[]string{"tenants", "show"}, "tenure: invalid: accepts 1 arg(s)"},
		"group alone":         {[]string{"tenants"}, "tenure: invalid: tenure tenants needs one of its commands"},
		"unknown format":      {[]string{"tenants", "list", "-o", "xml"}, "tenure: invalid: --output must be one of"},
		"no dev":              {[]string{"tenants", "list", "--data", empty}, "tenure: invalid: --data: no tenure dev has run on"},
		"no dev for the log":  {[]string{"log", "tail", "--data", empty}, "tenure: invalid: --data: no tenure dev has run on"},
		"no token":            {[]string{"tenants", "list", "--data", empty, "--api", "http://127.0.0.1:1"}, "tenure: invalid: TENURE_TOKEN is not set"},
		"API is no address":   {[]string{"tenants", "list", "--api", "localhost"}, "tenure: invalid: --api must be an address"},
		"negative from":       {[]string{"log", "read", "s", "--from", "-1"}, "tenure: invalid: --from must not be negative"},
		"log level":           {[]string{"node", "--log-level", "loud", "--data", empty}, "tenure: invalid: --log-level must be"},
		"agent without data":  {[]string{"agent"}, "tenure: invalid: --data is missing"},
		"unknown driver":      {[]string{"agent", "--data", empty, "--driver", "x"}, "tenure: invalid: --driver must be"},
		"driver without URL":  {[]string{"agent", "--data", empty}, "tenure: invalid: --postgres is missing"},
		"agent, no gateway":   {[]string{"agent", "--data", empty, "--driver", "simulated"}, "tenure: invalid: the agent does not know its gateway"},
		"missing config file": {[]string{"tiers", "list", "--config", filepath.Join(empty, "x")}, "tenure: invalid: --config: there is no file"},
	} {
		t.Run(name, func(t *testing.T) {
			exit, stdout, stderr := call(t, nil, c.args...)
			if exit != exitUsage || stdout != "" {
				t.Errorf("exit code %d and output %q", exit, stdout)
			}
			wantOneLine(t, stderr, c.want)
		})
	}
}

func TestASecretOfWhomNobodyKnowsIsNotFound(t *testing.T) {
	exit, stdout, stderr := call(t, nil, "agent", "secret", "ten_x", "--data", t.TempDir())
	if exit != exitNotFound || stdout != "" {
		t.Errorf("exit code %d and output %q", exit, stdout)
	}
	wantOneLine(t, stderr, "tenure: not_found: no agent has run on")
}

func TestHelpNamesTheExitCodes(t *testing.T) {
	exit, stdout, _ := call(t, nil, "--help")
	if exit != exitOK || !strings.Contains(stdout, "Exit codes:") {
		t.Errorf("exit code %d and help\n%s", exit, stdout)
	}
}

func TestAnInterruptedCommandIsUnavailable(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	exit := run(ctx, []string{"tiers", "list", "--api", "http://127.0.0.1:1"}, func(name string) (string, bool) { return "secret", name == "TENURE_TOKEN" }, &out, &errs)
	if exit != exitUnavailable {
		t.Errorf("exit code %d", exit)
	}
	wantOneLine(t, errs.String(), "tenure: unavailable: interrupted")
}
