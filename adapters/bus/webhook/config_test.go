package webhook

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
	"github.com/tenure-dev/tenure/domain"
)

// secretOf is a secret of so many bytes.
func secretOf(size int) string {
	return secretPrefix + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{3}, size))
}

// opened opens a target that YAML describes, where {dir} is a folder with files and some variables are set.
func opened(t *testing.T, text string) (Config, error) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"secret": "  " + second.Reveal() + "\n", "short": secretOf(23), "empty": "", "roots.pem": string(newAuthority(t).roots),
		"key.pem": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(text, "{dir}", dir)), &document); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	variables := map[string]string{"SECRET": first.Reveal(), "EMPTY": "", "SHORT": secretOf(23), "ROOTS": string(newAuthority(t).roots)}
	s := settings.New("", &document, settings.Secrets{File: os.ReadFile,
		Env: func(name string) (string, bool) { value, set := variables[name]; return value, set }})
	p, err := Open(s, time.Now, "1")
	if err == nil {
		err = p.Close()
	}
	return read(s), err
}

func TestSettingsAreRead(t *testing.T) {
	const url = "https://hooks.example.com/tenure"
	for text, want := range map[string]Config{
		"{url: URL, secrets: [FIRST]}":                                 {URL: url, Secrets: []settings.Secret{first}},
		"{url: URL, secrets: [{env: SECRET}, {file: {dir}/secret}]}":   {URL: url, Secrets: []settings.Secret{first, second}},
		"{url: URL, secrets: [{file: {dir}/secret}, FIRST]}":           {URL: url, Secrets: []settings.Secret{second, first}},
		"{url: URL, secrets: [LEAST, MOST], timeout: 10ms, allow: []}": {URL: url, Secrets: []settings.Secret{settings.NewSecret(secretOf(24)), settings.NewSecret(secretOf(64))}, Timeout: shortestTimeout},
		"{url: URL, secrets: [FIRST], timeout: 5m, allow: [10.1.0.0/16, 'fd00::/8', 127.0.0.1/32]}": {URL: url, Secrets: []settings.Secret{first}, Timeout: longestTimeout,
			Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("127.0.0.1/32")}},
		"{url: 'http://10.1.2.3:8080/', secrets: [FIRST], allow: [10.1.0.0/16]}": {URL: "http://10.1.2.3:8080/", Secrets: []settings.Secret{first},
			Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}},
	} {
		text = strings.NewReplacer("URL", url, "FIRST", first.Reveal(), "LEAST", secretOf(24), "MOST", secretOf(64)).Replace(text)
		got, err := opened(t, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if difference := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); difference != "" {
			t.Errorf("%s: %s", text, difference)
		}
	}
	for _, roots := range []string{"{dir}/roots.pem", "{file: {dir}/roots.pem}", "{env: ROOTS}"} {
		got, err := opened(t, "{url: "+url+", secrets: ["+first.Reveal()+"], roots: "+roots+"}")
		if err != nil || !bytes.HasPrefix(got.Roots, []byte("-----BEGIN CERTIFICATE-----")) {
			t.Errorf("roots: %s: %q, %v", roots, got.Roots, err)
		}
	}
}

func TestSettingsThatAreWrongAreNamed(t *testing.T) {
	const url, good = "url: https://hooks.example.com/", "secrets: [FIRST]"
	for _, c := range []struct{ text, field string }{
		{"text", ""},
		{"[a, b]", ""},
		{"null", "url"},
		{"{}", "url"},
		{"{" + good + "}", "url"},
		{"{" + url + "}", "secrets"},
		{"{" + url + ", " + good + ", uri: a}", "uri"},
		{"{" + url + ", " + good + ", URL: a}", "URL"},
		{"{" + url + ", " + good + ", '': a}", ""},
		{"{" + url + ", " + good + ", <<: {timeout: 1s}}", "<<"},

		{"{url: null, " + good + "}", "url"},
		{"{url: [], " + good + "}", "url"},
		{"{url: {env: A}, " + good + "}", "url.env"},
		{"{" + url + ", " + url + ", " + good + "}", "url"},
		{"{url: 7, " + good + "}", "url"},
		{"{url: hooks.example.com, " + good + "}", "url"},
		{"{url: 'https://', " + good + "}", "url"},
		{"{url: 'https://a:b@example.com/', " + good + "}", "url"},
		{"{url: 'https://example.com/#a', " + good + "}", "url"},
		{"{url: 'https://example.com:0/', " + good + "}", "url"},
		{"{url: 'https://example.com:/', " + good + "}", "url"},
		{"{url: 'https://example.com:65536/', " + good + "}", "url"},
		{"{url: 'http://example.com/', " + good + "}", "url"},
		{"{url: 'https://10.1.2.3/', " + good + "}", "url"},
		{"{url: 'http://8.8.8.8/', " + good + ", allow: [10.1.0.0/16]}", "url"},
		{"{url: 'https://example.com/" + strings.Repeat("a", longestURL) + "', " + good + "}", "url"},

		{"{" + url + ", secrets: FIRST}", "secrets"},
		{"{" + url + ", secrets: {env: SECRET}}", "secrets"},
		{"{" + url + ", secrets: null}", "secrets"},
		{"{" + url + ", secrets: []}", "secrets"},
		{"{" + url + ", secrets: [FIRST, SECOND, {file: {dir}/short}]}", "secrets"},
		{"{" + url + ", secrets: [FIRST, FIRST]}", "secrets[1]"},
		{"{" + url + ", secrets: [FIRST, {env: SECRET}]}", "secrets[1]"},
		{"{" + url + ", secrets: [null]}", "secrets[0]"},
		{"{" + url + ", secrets: [7]}", "secrets[0]"},
		{"{" + url + ", secrets: [[FIRST]]}", "secrets[0]"},
		{"{" + url + ", secrets: [SHORT]}", "secrets[0]"},
		{"{" + url + ", secrets: [FIRST, LONG]}", "secrets[1]"},
		{"{" + url + ", secrets: [whsec_]}", "secrets[0]"},
		{"{" + url + ", secrets: [BARE]}", "secrets[0]"},
		{"{" + url + ", secrets: ['FIRST=']}", "secrets[0]"},
		{"{" + url + ", secrets: [{env: SHORT}]}", "secrets[0]"},
		{"{" + url + ", secrets: [FIRST, {file: {dir}/short}]}", "secrets[1]"},
		{"{" + url + ", secrets: [FIRST, {file: {dir}/empty}]}", "secrets[1].file"},
		{"{" + url + ", secrets: [{}]}", "secrets[0]"},
		{"{" + url + ", secrets: [{env: SECRET, file: {dir}/secret}]}", "secrets[0]"},
		{"{" + url + ", secrets: [FIRST, {env: UNKNOWN}]}", "secrets[1].env"},
		{"{" + url + ", secrets: [{env: EMPTY}]}", "secrets[0].env"},
		{"{" + url + ", secrets: [{env: [SECRET]}]}", "secrets[0].env"},
		{"{" + url + ", secrets: [{env: null}]}", "secrets[0].env"},
		{"{" + url + ", secrets: [{file: {dir}/none}]}", "secrets[0].file"},
		{"{" + url + ", secrets: [{file: {dir}}]}", "secrets[0].file"},
		{"{" + url + ", secrets: [{file: {name: a}}]}", "secrets[0].file"},
		{"{" + url + ", secrets: [{text: FIRST}]}", "secrets[0].text"},

		{"{" + url + ", " + good + ", allow: 10.1.0.0/16}", "allow"},
		{"{" + url + ", " + good + ", allow: {a: b}}", "allow"},
		{"{" + url + ", " + good + ", allow: [10.1.0.0]}", "allow[0]"},
		{"{" + url + ", " + good + ", allow: [10.1.0.0/16, 10.2.0.0/33]}", "allow[1]"},
		{"{" + url + ", " + good + ", allow: [10.1.0.1/16]}", "allow[0]"},
		{"{" + url + ", " + good + ", allow: ['::ffff:10.1.0.0/112']}", "allow[0]"},
		{"{" + url + ", " + good + ", allow: [localhost]}", "allow[0]"},
		{"{" + url + ", " + good + ", allow: [[10.1.0.0/16]]}", "allow[0]"},

		{"{" + url + ", " + good + ", timeout: 10}", "timeout"},
		{"{" + url + ", " + good + ", timeout: 0s}", "timeout"},
		{"{" + url + ", " + good + ", timeout: -1s}", "timeout"},
		{"{" + url + ", " + good + ", timeout: 9ms}", "timeout"},
		{"{" + url + ", " + good + ", timeout: 5m1ns}", "timeout"},
		{"{" + url + ", " + good + ", timeout: soon}", "timeout"},
		{"{" + url + ", " + good + ", timeout: [1s]}", "timeout"},
		{"{" + url + ", " + good + ", timeout: null}", "timeout"},

		{"{" + url + ", " + good + ", roots: {dir}/none}", "roots"},
		{"{" + url + ", " + good + ", roots: {dir}/empty}", "roots"},
		{"{" + url + ", " + good + ", roots: {dir}/key.pem}", "roots"},
		{"{" + url + ", " + good + ", roots: [{dir}/roots.pem]}", "roots"},
	} {
		text := strings.NewReplacer("FIRST", first.Reveal(), "SECOND", second.Reveal(), "BARE", strings.TrimPrefix(first.Reveal(), secretPrefix),
			"[SHORT]", "["+secretOf(23)+"]", "LONG", secretOf(65)).Replace(c.text)
		_, err := opened(t, text)
		var wrong *domain.Error
		if !errors.As(err, &wrong) || wrong.Code != domain.CodeInvalid || wrong.Field != c.field {
			t.Errorf("%s: %v, want it to name %q", c.text, err, c.field)
		} else if shows(wrong.Error()) {
			t.Errorf("%s: the error shows a secret: %v", c.text, err)
		}
	}
}

// shows whether a text has one of the secrets in it, or half of one, in some form.
func shows(text string) bool {
	for _, secret := range []settings.Secret{first, second, settings.NewSecret(secretOf(23)), settings.NewSecret(secretOf(65))} {
		encoded := strings.TrimPrefix(secret.Reveal(), secretPrefix)
		for _, form := range []string{encoded[:12], fmt.Sprintf("%x", encoded[:12]), fmt.Sprintf("%X", encoded[:12])} {
			if strings.Contains(text, form) {
				return true
			}
		}
	}
	return false
}
