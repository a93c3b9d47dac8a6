package webhook

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/tenure-dev/tenure/adapters/bus/settings"
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
	URL     string            // https, or http into a network of Allow
	Secrets []settings.Secret // one, or two while the receiver changes from one to the other; each signs
	Allow   []netip.Prefix    // networks that are not public and may be dialled all the same
	Timeout time.Duration     // of a whole delivery, redirects included; 10 ms to 5 minutes, 0 is 10 s
	Roots   []byte            // PEM: certificates to trust beside the system's
}

// read reads a target's settings as far as each stands for itself: check says whether they go together.
func read(s *settings.Section) Config {
	c := Config{URL: s.Required("url"), Timeout: s.DurationWithin("timeout", 0, shortestTimeout, longestTimeout), Roots: s.Certificates("roots")}
	for _, text := range s.Texts("secrets") {
		c.Secrets = append(c.Secrets, settings.NewSecret(strings.TrimSpace(text)))
	}
	for _, text := range s.Texts("allow") {
		network, _ := netip.ParsePrefix(text) // what is none is refused by check
		c.Allow = append(c.Allow, network)
	}
	return c
}

// check finds what is wrong with a config, and what it leads to: signers by secret, and certificates to trust (nil: the system's).
func (c Config) check() (signers []*standardwebhooks.Webhook, roots *x509.CertPool, err error) {
	for i, network := range c.Allow {
		if field := fmt.Sprintf("allow[%d]", i); !network.IsValid() || network.Addr().Is4In6() {
			return nil, nil, domain.Invalid(field, "must be a network such as 10.1.0.0/16")
		} else if network != network.Masked() {
			return nil, nil, domain.Invalid(field, "must not have bits beyond its length: is it %s?", network.Masked())
		}
	}
	if _, err := parseTarget(c.URL, c.Allow); err != nil {
		return nil, nil, err
	}
	if signers, err = c.signers(); err != nil {
		return nil, nil, err
	}
	if c.Roots != nil {
		if roots, err = x509.SystemCertPool(); err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(c.Roots) {
			return nil, nil, domain.Invalid("roots", "must hold certificates in PEM")
		}
	}
	return signers, roots, nil
}

func (c Config) signers() ([]*standardwebhooks.Webhook, error) {
	if len(c.Secrets) < 1 || len(c.Secrets) > 2 {
		return nil, domain.Invalid("secrets", "must be one, or two while one replaces the other")
	}
	var signers []*standardwebhooks.Webhook
	for i, secret := range c.Secrets {
		field := fmt.Sprintf("secrets[%d]", i)
		encoded, prefixed := strings.CutPrefix(secret.Reveal(), secretPrefix)
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
