package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenure-dev/tenure/adapters/eventnode/nodetest"
	"github.com/tenure-dev/tenure/adapters/eventstore"
)

// users runs tenure node users with a line on standard input.
func users(t *testing.T, dir, line string, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	root := newRoot()
	var out, errs bytes.Buffer
	root.SetArgs(append(append([]string{"node", "users"}, args...), "--data", dir))
	root.SetIn(strings.NewReader(line))
	root.SetOut(&out)
	exit = report(&errs, root.ExecuteContext(t.Context()))
	return exit, out.String(), errs.String()
}

func TestANodeThatOthersMayReachNeedsTLS(t *testing.T) {
	cert, key, _ := nodetest.SelfSigned(t, t.TempDir(), 1)
	empty := filepath.Join(t.TempDir(), "none")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"every address":        {[]string{"node", "--node", "0.0.0.0:0"}, "--node: other machines may reach 0.0.0.0:0, and nothing there is encrypted or asks who calls: give --tls-cert and --tls-key, or --insecure"},
		"no host":              {[]string{"node", "--node", ":0"}, "--node: other machines"},
		"probes":               {[]string{"node", "--http", "[::]:0"}, "--http: other machines"},
		"of dev":               {[]string{"dev", "--node", "0.0.0.0:0"}, "--node: other machines may reach 0.0.0.0:0, and nothing there is encrypted or asks who calls: give --insecure"},
		"no key":               {[]string{"node", "--tls-cert", cert}, "--tls-key is missing"},
		"no certificate":       {[]string{"node", "--tls-key", key}, "--tls-cert is missing"},
		"no such file":         {[]string{"node", "--tls-cert", cert + ".x", "--tls-key", key}, "--tls-cert, --tls-key: " + cert + ".x"},
		"the wrong way round":  {[]string{"node", "--tls-cert", key, "--tls-key", cert}, "--tls-cert, --tls-key: " + key},
		"users without TLS":    {[]string{"node", "--dev-users"}, "--dev-users needs --tls-cert and --tls-key"},
		"an address of nobody": {[]string{"node", "--node", "127.0.0.1:none"}, "--node: "},
	} {
		exit, stdout, stderr := call(t, nil, append(c.args, "--data", empty)...)
		if exit != exitUsage || stdout != "" {
			t.Errorf("%s: exit code %d and output %q", name, exit, stdout)
		}
		wantOneLine(t, stderr, "tenure: invalid: "+c.want)
	}
	if _, err := os.Stat(empty); err == nil {
		t.Error("a refused command has made its directory")
	}
}

// A node with TLS prints the administrator's password once, answers whom it knows by it, and tells of itself.
func TestANodeWithTLS(t *testing.T) {
	cert, key, _ := nodetest.SelfSigned(t, t.TempDir(), 1)
	dir := t.TempDir()
	probes := freeAddress(t)
	start := func(lines ...[]any) (stop func()) {
		ctx, end := context.WithCancel(context.Background())
		out, write := io.Pipe()
		ended := make(chan int, 1)
		go func() {
			exit := run(ctx, []string{"node", "--data", dir, "--node", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--log-level", "error",
				"--http", probes}, noEnv, write, io.Discard)
			_ = write.Close()
			ended <- exit
		}()
		for _, words := range lines {
			if _, err := fmt.Fscanln(out, words...); err != nil {
				t.Fatal(err)
			}
		}
		return func() {
			end()
			if exit := <-ended; exit != exitOK {
				t.Errorf("exit code %d", exit)
			}
		}
	}
	var who, what, password, ready, url string
	stop := start([]any{&who, &what, &password}, []any{&ready, &url})
	if who+" "+what != "admin password" || ready != "ready" || !strings.HasSuffix(url, "?tls=true") {
		t.Errorf("the node says %q %q … %q %q", who, what, ready, url)
	}
	secured := func(name, password string) string {
		return strings.Replace(url, "esdb://", "esdb://"+name+":"+password+"@", 1) + "&tlsCaFile=" + cert
	}
	fill(t, secured("admin", password), "s")
	for path, want := range map[string]string{"/livez": "ok", "/readyz": "ok", "/metrics": "tenure_node_appends_total{outcome=\"written\"} 2", "/other": "not found"} {
		if text := get(t, cert, "https://"+probes+path); !strings.Contains(text, want) {
			t.Errorf("%s says %s", path, text)
		}
	}
	if exit, _, stderr := users(t, dir, "other-password\n", "add", "other", "--roles", "$admins"); exit != exitOK {
		t.Error(stderr)
	}
	stop()

	stop = start([]any{&ready, &url})
	defer stop()
	if ready != "ready" {
		t.Errorf("at its second start the node says %q", ready)
	}
	fill(t, secured("other", "other-password"), "t")
	log, err := eventstore.Open(t.Context(), eventstore.Config{URL: secured("other", "wrong-password")})
	if err == nil {
		_, err = log.Append(t.Context(), "t", 0, nil)
		_ = log.Close(t.Context())
	}
	if err == nil {
		t.Error("a wrong password is taken")
	}
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func get(t *testing.T, cert, url string) string {
	t.Helper()
	trusted, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(trusted)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestUsersOfANode(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		line string
		args []string
		exit int
		want string // on standard error
	}{
		{"good-password\n", []string{"add", "adam", "--roles", "$admins,$ops"}, exitOK, ""},
		{"good-password", []string{"add", "eve"}, exitOK, ""},
		{"good-password\n", []string{"add", "eve"}, exitRefused, "tenure: already_exists: name eve is taken"},
		{"short\n", []string{"add", "abel"}, exitRefused, "tenure: invalid: password must be"},
		{"", []string{"add", "abel"}, exitRefused, "tenure: invalid: password must be"},
		{"good-password\n", []string{"add", "abel", "--roles", "kings"}, exitRefused, "tenure: invalid: roles \"kings\" is none"},
		{"other-password\n", []string{"passwd", "eve"}, exitOK, ""},
		{"other-password\n", []string{"passwd", "abel"}, exitNotFound, "tenure: not_found: name abel is no user"},
		{"", []string{"remove", "abel"}, exitNotFound, "tenure: not_found: name abel is no user"},
		{"", []string{"remove", "adam"}, exitRefused, "tenure: not_allowed: name adam is the last user with $admins"},
	} {
		exit, stdout, stderr := users(t, dir, c.line, c.args...)
		if exit != c.exit || stdout != "" {
			t.Errorf("%v: exit code %d and output %q", c.args, exit, stdout)
		}
		if c.want != "" {
			wantOneLine(t, stderr, c.want)
		}
	}
	exit, stdout, _ := users(t, dir, "", "list")
	if words := strings.Fields(stdout); exit != exitOK || strings.Join(words[:6], " ") != "NAME ROLES CREATED DISABLED adam $admins,$ops" || words[8] != "eve" {
		t.Errorf("exit code %d and table\n%s", exit, stdout)
	}
	var list []struct {
		Name     string
		Roles    []string
		Disabled *bool
	}
	exit, stdout, _ = users(t, dir, "", "list", "-o", "json")
	if err := json.Unmarshal([]byte(stdout), &list); exit != exitOK || err != nil || len(list) != 2 || list[0].Name != "adam" || len(list[0].Roles) != 2 || list[1].Disabled == nil {
		t.Errorf("exit code %d, %v and list\n%s", exit, err, stdout)
	}
	if strings.Contains(stdout, "argon2") {
		t.Error("the list shows hashes")
	}
	if exit, _, _ := users(t, dir, "", "remove", "eve"); exit != exitOK {
		t.Errorf("exit code %d", exit)
	}
}

func TestADirectoryThatIsNoneIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	exit, stdout, stderr := call(t, nil, "node", "--data", file, "--node", "127.0.0.1:0")
	if exit != exitUsage || stdout != "" {
		t.Errorf("exit code %d and output %q", exit, stdout)
	}
	wantOneLine(t, stderr, "tenure: invalid: --data: ")
	exit, _, stderr = users(t, file, "good-password\n", "add", "adam")
	if exit != exitUsage {
		t.Errorf("exit code %d", exit)
	}
	wantOneLine(t, stderr, "tenure: invalid: --data: ")
}

// What is wrong with the log itself is no mistake in the command line.
func TestANodeOnADamagedDirectoryHasFailed(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(log string) error
		exit   int
		want   string
	}{
		"the mark is damaged": {func(log string) error { return os.WriteFile(filepath.Join(log, "mark"), []byte("x"), 0o600) }, exitFailed, "tenure: internal: --data: "},
		"the manifest is gone": {func(log string) error {
			manifests, err := filepath.Glob(filepath.Join(log, "MANIFEST-*"))
			for _, name := range manifests {
				err = errors.Join(err, os.Remove(name))
			}
			return err
		}, exitFailed, "tenure: internal: --data: "},
		"the log is gone": {func(log string) error {
			mark, err := os.ReadFile(filepath.Join(log, "mark"))
			return errors.Join(err, os.RemoveAll(log), os.Mkdir(log, 0o700), os.WriteFile(filepath.Join(log, "mark"), mark, 0o600))
		}, exitFailed, "tenure: internal: --data: "},
		"a file is in the way": {func(log string) error { return errors.Join(os.RemoveAll(log), os.WriteFile(log, nil, 0o600)) }, exitUsage, "tenure: invalid: --data: "},
	} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			t.Run("before", func(t *testing.T) { fill(t, startNode(t, data), "s") })
			if err := c.damage(nodeDir(data)); err != nil {
				t.Fatal(err)
			}
			exit, stdout, stderr := call(t, nil, "node", "--data", data, "--node", "127.0.0.1:0")
			if exit != c.exit || stdout != "" {
				t.Errorf("exit code %d and output %q, want %d", exit, stdout, c.exit)
			}
			wantOneLine(t, stderr, c.want)
		})
	}
}

func TestANodeOnADirectoryInUseIsRefused(t *testing.T) {
	data := t.TempDir()
	startNode(t, data)
	exit, _, stderr := call(t, nil, "node", "--data", data, "--node", "127.0.0.1:0")
	if exit != exitUsage {
		t.Errorf("exit code %d", exit)
	}
	wantOneLine(t, stderr, "tenure: conflict: --data: ")
}
