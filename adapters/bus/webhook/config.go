package webhook

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.yaml.in/yaml/v3"

	"github.com/tenure-dev/tenure/domain"
)

const (
	defaultTimeout  = 10 * time.Second
	shortestTimeout = 10 * time.Millisecond
	longestTimeout  = 5 * time.Minute

	secretPrefix                  = "whsec_"
	shortestSecret, longestSecret = 24, 64 // bytes, as Standard Webhooks has it
)

// Config says where a webhook's messages go.
type Config struct {
	URL     string         // https, or http into a network of Allow
	Secrets []Secret       // one, or two while the receiver changes from one to the other; each signs
	Allow   []netip.Prefix // networks that are not public and may be dialled all the same
	Timeout time.Duration  // of a whole delivery, redirects included; 10 ms to 5 minutes, 0 is 10 s
	Roots   []byte         // PEM: certificates to trust beside the system's
}

// Secret is whsec_ and 24 to 64 bytes in base64. Nothing that prints or encodes shows it: it is behind a pointer because fmt asks no
// methods of unexported fields, nor within a value that it finds to be of the wrong kind for its verb.
type Secret struct{ text *string }

// NewSecret makes a secret of its text, which New and Parse check.
func NewSecret(text string) Secret { return Secret{&text} }

func (Secret) String() string { return secretPrefix + "…" }

// GoString keeps %#v from showing where it is.
func (s Secret) GoString() string { return s.String() }

// MarshalText keeps encoders from showing it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Equal says whether both have the same text.
func (s Secret) Equal(other Secret) bool { return s.reveal() == other.reveal() }

func (s Secret) reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Parse reads a target's settings: url, secrets (each text, {env: NAME} or {file: PATH}), allow, timeout and roots (a PEM file).
// Errors are domain.CodeInvalid and name the key as it is below the target: url, secrets[1]; no field where it is the target itself.
func Parse(node *yaml.Node, env func(name string) (value string, set bool)) (Config, error) {
	var c Config
	readers := map[string]func(*yaml.Node) error{
		"url":     func(n *yaml.Node) (err error) { c.URL, err = scalar("url", n); return err },
		"secrets": func(n *yaml.Node) (err error) { c.Secrets, err = readSecrets(n, env); return err },
		"allow":   func(n *yaml.Node) (err error) { c.Allow, err = readNetworks(n); return err },
		"timeout": func(n *yaml.Node) (err error) { c.Timeout, err = readTimeout(n); return err },
		"roots":   func(n *yaml.Node) (err error) { c.Roots, err = readRoots(n); return err },
	}
	if err := eachKey("", node, readers); err != nil {
		return Config{}, err
	}
	if _, _, _, err := c.check(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// eachKey hands each value of a mapping to its key's reader. A key without one, or that comes twice, is refused.
func eachKey(field string, node *yaml.Node, readers map[string]func(*yaml.Node) error) error {
	if node == nil || node.Kind != yaml.MappingNode {
		return domain.Invalid(field, "must be made of lines name: value")
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i].Value, node.Content[i+1]
		at := key
		if field != "" {
			at = field + "." + key
		}
		switch read := readers[key]; {
		case read == nil:
			return domain.Invalid(at, "is no setting")
		case seen[key]:
			return domain.Invalid(at, "must not come twice")
		default:
			seen[key] = true
			if err := read(value); err != nil {
				return err
			}
		}
	}
	return nil
}

func scalar(field string, node *yaml.Node) (string, error) {
	if node.Kind != yaml.ScalarNode || node.Tag == "!!null" {
		return "", domain.Invalid(field, "must be a single value")
	}
	return node.Value, nil
}

func list[T any](field string, node *yaml.Node, read func(field string, node *yaml.Node) (T, error)) ([]T, error) {
	if node.Kind != yaml.SequenceNode {
		return nil, domain.Invalid(field, "must be a list")
	}
	var all []T
	for i, n := range node.Content {
		one, err := read(fmt.Sprintf("%s[%d]", field, i), n)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

func readSecrets(node *yaml.Node, env func(string) (string, bool)) ([]Secret, error) {
	return list("secrets", node, func(field string, n *yaml.Node) (Secret, error) {
		if n.Kind == yaml.ScalarNode {
			text, err := scalar(field, n)
			return NewSecret(text), err
		}
		var found []string
		err := eachKey(field, n, map[string]func(*yaml.Node) error{
			"env": func(n *yaml.Node) error {
				name, err := scalar(field+".env", n)
				if err != nil {
					return err
				}
				value, set := env(name)
				if !set || value == "" {
					return domain.Invalid(field+".env", "names the variable %s, which is not set", name)
				}
				found = append(found, value)
				return nil
			},
			"file": func(n *yaml.Node) error {
				text, err := readFile(field+".file", n)
				found = append(found, string(text))
				return err
			},
		})
		if err == nil && len(found) != 1 {
			err = domain.Invalid(field, "must have either env or file")
		}
		if err != nil {
			return Secret{}, err
		}
		return NewSecret(strings.TrimSpace(found[0])), nil
	})
}

func readNetworks(node *yaml.Node) ([]netip.Prefix, error) {
	return list("allow", node, func(field string, n *yaml.Node) (netip.Prefix, error) {
		text, err := scalar(field, n)
		if err != nil {
			return netip.Prefix{}, err
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return netip.Prefix{}, domain.Invalid(field, "must be a network such as 10.1.0.0/16")
		}
		return network, nil
	})
}

func readTimeout(node *yaml.Node) (time.Duration, error) {
	text, err := scalar("timeout", node)
	if err != nil {
		return 0, err
	}
	timeout, err := time.ParseDuration(text)
	if err != nil || timeout == 0 {
		return 0, domain.Invalid("timeout", "must be a time from %s to %s, such as 10s", shortestTimeout, longestTimeout)
	}
	return timeout, nil
}

func readRoots(node *yaml.Node) ([]byte, error) { return readFile("roots", node) }

func readFile(field string, node *yaml.Node) ([]byte, error) {
	path, err := scalar(field, node)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &domain.Error{Code: domain.CodeInvalid, Field: field, Message: "names a file that cannot be read", Cause: err}
	}
	return text, nil
}

// check finds what is wrong with a config, and what it leads to: signers by secret, certificates to trust (nil: the system's), and how
// long a delivery may take.
func (c Config) check() (signers []*standardwebhooks.Webhook, roots *x509.CertPool, timeout time.Duration, err error) {
	for i, network := range c.Allow {
		if field := fmt.Sprintf("allow[%d]", i); !network.IsValid() || network.Addr().Is4In6() {
			return nil, nil, 0, domain.Invalid(field, "must be a network such as 10.1.0.0/16")
		} else if network != network.Masked() {
			return nil, nil, 0, domain.Invalid(field, "must not have bits beyond its length: is it %s?", network.Masked())
		}
	}
	if _, err := parseTarget(c.URL, c.Allow); err != nil {
		return nil, nil, 0, err
	}
	if signers, err = c.signers(); err != nil {
		return nil, nil, 0, err
	}
	timeout = c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	if timeout < shortestTimeout || timeout > longestTimeout {
		return nil, nil, 0, domain.Invalid("timeout", "must be from %s to %s", shortestTimeout, longestTimeout)
	}
	if c.Roots != nil {
		if roots, err = x509.SystemCertPool(); err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(c.Roots) {
			return nil, nil, 0, domain.Invalid("roots", "must have certificates in PEM")
		}
	}
	return signers, roots, timeout, nil
}

func (c Config) signers() ([]*standardwebhooks.Webhook, error) {
	if len(c.Secrets) < 1 || len(c.Secrets) > 2 {
		return nil, domain.Invalid("secrets", "must be one, or two while one replaces the other")
	}
	var signers []*standardwebhooks.Webhook
	for i, secret := range c.Secrets {
		field := fmt.Sprintf("secrets[%d]", i)
		encoded, prefixed := strings.CutPrefix(secret.reveal(), secretPrefix)
		key, err := base64.StdEncoding.Strict().DecodeString(encoded)
		switch {
		case !prefixed || err != nil || len(key) < shortestSecret || len(key) > longestSecret:
			return nil, domain.Invalid(field, "must be %s and %d to %d bytes in base64", secretPrefix, shortestSecret, longestSecret)
		case i > 0 && secret.Equal(c.Secrets[0]):
			return nil, domain.Invalid(field, "must not be the same as secrets[0]")
		}
		signer, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return nil, domain.Invalid(field, "cannot sign")
		}
		signers = append(signers, signer)
	}
	return signers, nil
}
