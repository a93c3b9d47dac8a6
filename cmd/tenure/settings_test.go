package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"
)

func TestAFlagGoesBeforeItsVariableAndThatBeforeTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tenure.yaml")
	if err := os.WriteFile(file, []byte("from-where: file\nlimit: 3\ntoken: file-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret\nand a second line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	line, naming := filepath.Join(t.TempDir(), "line"), filepath.Join(t.TempDir(), "naming.yaml")
	for path, text := range map[string]string{line: "secret\n", naming: "from-where: {env: FROM}\ntoken: {file: " + line + "}\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		args  []string
		env   map[string]string
		from  string
		limit string
		token string
	}{
		"nothing given":    {nil, nil, "default", "0", ""},
		"file":             {[]string{"--config", file}, nil, "file", "3", "file-token"},
		"named by file":    {[]string{"--config", naming}, map[string]string{"FROM": "named"}, "named", "0", "secret"},
		"unused name":      {[]string{"--config", naming, "--from-where", "flag"}, map[string]string{"TENURE_TOKEN": "env-token"}, "flag", "0", "env-token"},
		"file by variable": {nil, map[string]string{"TENURE_CONFIG": file}, "file", "3", "file-token"},
		"variable":         {[]string{"--config", file}, map[string]string{"TENURE_FROM_WHERE": "env", "TENURE_TOKEN": "env-token"}, "env", "3", "env-token"},
		"empty variable":   {[]string{"--config", file}, map[string]string{"TENURE_FROM_WHERE": "", "TENURE_TOKEN": ""}, "file", "3", "file-token"},
		"file of variable": {[]string{"--config", file}, map[string]string{"TENURE_FROM_WHERE_FILE": secret, "TENURE_TOKEN_FILE": secret}, "secret", "3", "secret"},
		"variable, file":   {nil, map[string]string{"TENURE_FROM_WHERE_FILE": secret, "TENURE_FROM_WHERE": "env"}, "env", "0", ""},
		"flag":             {[]string{"--config", file, "--from-where", "flag"}, map[string]string{"TENURE_FROM_WHERE": "env", "TENURE_LIMIT": "4"}, "flag", "4", "file-token"},
		"flag is default":  {[]string{"--from-where", "default"}, map[string]string{"TENURE_FROM_WHERE": "env"}, "default", "0", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var from, limit, token string
			cmd := tryCommand(c.env, func(cmd *cobra.Command) {
				from, limit, token = text(cmd, "from-where"), text(cmd, "limit"), tokenOf(cmd)
			})
			cmd.SetArgs(c.args)
			if err := cmd.ExecuteContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			if from != c.from || limit != c.limit || token != c.token {
				t.Errorf("got %q, %q, %q; want %q, %q, %q", from, limit, token, c.from, c.limit, c.token)
			}
		})
	}
}

func TestAWrongSettingIsNamedByWhereItStands(t *testing.T) {
	for name, c := range map[string]struct {
		file, want string
		env        map[string]string
	}{
		"variable":       {"", `TENURE_LIMIT: strconv.ParseInt: parsing "x": invalid syntax`, map[string]string{"TENURE_LIMIT": "x"}},
		"no such file":   {"", `TENURE_LIMIT_FILE: open none: no such file or directory`, map[string]string{"TENURE_LIMIT_FILE": "none"}},
		"an empty file":  {"", `TENURE_TOKEN_FILE: FILE is empty`, map[string]string{"TENURE_TOKEN_FILE": "FILE"}},
		"file":           {"limit: x\n", `FILE: limit: strconv.ParseInt: parsing "x": invalid syntax`, nil},
		"unknown":        {"colour: red\n", `--config: FILE: colour is not known`, nil},
		"twice":          {"limit: 1\nlimit: 2\n", `--config: FILE: limit stands twice`, nil},
		"not one value":  {"limit: [1, 2]\n", `--config: FILE: limit must be a text, {env: NAME} or {file: PATH}`, nil},
		"unset":          {"token: {env: UNSET}\n", `--config: FILE: token.env names the variable UNSET, which is not set`, nil},
		"not even lines": {"- a\n- b\n", `--config: FILE: must be a mapping`, nil},
		"not even YAML":  {"limit: [\n", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if err := os.WriteFile("FILE", []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := tryCommand(c.env, func(*cobra.Command) { t.Error("it ran") })
			cmd.SetArgs([]string{"--config", "FILE"})
			err := cmd.ExecuteContext(t.Context())
			if err == nil || asFailure(err).exit != exitUsage || c.want != "" && err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func tryCommand(env map[string]string, ran func(*cobra.Command)) *cobra.Command {
	cmd := &cobra.Command{Use: "try", SilenceErrors: true, SilenceUsage: true, RunE: func(cmd *cobra.Command, _ []string) error {
		if err := configure(cmd, func(name string) (string, bool) { v, ok := env[name]; return v, ok }); err != nil {
			return err
		}
		ran(cmd)
		return nil
	}}
	cmd.Flags().String("config", "", "")
	cmd.Flags().String("from-where", "default", "")
	cmd.Flags().Int("limit", 0, "")
	return cmd
}

// The sinks and sources of the file are checked before anything starts, and a refusal names the key.
func TestASinkOrSourceThatIsWrongIsNamedByItsKey(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, c := range map[string]struct{ file, want string }{
		"unknown target": {"sinks: {billing: {pigeon: {}}}\n", "--config: FILE: sinks.billing.pigeon is not known (there are: amqp, attempts, backoff, disableAfter, from, inFlight, kafka, nats, orgs, personal, postgres, tenants, types, webhook)"},
		"unknown type":   {"sinks: {billing: {types: [org.flown], webhook: {url: 'https://example.com'}}}\n", `--config: FILE: sinks.billing.types names "org.flown", which no event of this release has`},
		"no secret": {"sinks: {billing: {webhook: {url: 'https://example.com', secrets: [{env: UNSET}]}}}\n",
			"--config: FILE: sinks.billing.webhook.secrets[0].env names the variable UNSET, which is not set"},
		"a source's key": {"sources: {crm: {actor: svc-crm, nats: {stream: ORDERS}}}\n", "--config: FILE: sources.crm.nats.url must be given"},
		"no such command": {"sources: {crm: {actor: svc-crm, commands: [sink.park], nats: {}}}\n",
			`--config: FILE: sources.crm.commands names "sink.park", which is no command that callers may send`},
		"a broker's key": {"sinks: {billing: {nats: {url: 'nats://127.0.0.1', subject: a, colour: red}}}\n", "--config: FILE: sinks.billing.nats.colour is not known (there are: ca, create, credentials, stream, subject, timeout, url)"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile("FILE", []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, command := range []*cobra.Command{devCommand(), serveCommand()} {
				command.Flags().String("config", "", "")
				command.Flags().String("log-level", "error", "")
				command.SilenceErrors, command.SilenceUsage = true, true
				command.PreRunE = func(cmd *cobra.Command, _ []string) error {
					return configure(cmd, func(name string) (string, bool) { return "op-token", name == "TENURE_TOKEN" })
				}
				command.SetArgs([]string{"--config", "FILE"})
				if command.Name() == "serve" {
					command.SetArgs([]string{"--config", "FILE", "--eventstore", "esdb://127.0.0.1:1?tls=false", "--postgres", "postgresql://127.0.0.1:1/x"})
				}
				err := command.ExecuteContext(t.Context())
				if err == nil || asFailure(err).exit != exitUsage || err.Error() != c.want {
					t.Errorf("%s: got %v, want %s", command.Name(), err, c.want)
				}
			}
		})
	}
}
