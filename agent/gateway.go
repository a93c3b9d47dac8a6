package agent

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/tenure-dev/tenure/agent/protocol"
	"github.com/tenure-dev/tenure/agent/protocol/agentv1/agentv1connect"
)

// maxMessage bounds what the gateway may send at once, in bytes.
const maxMessage = 4 << 20

// gateway is a client of one gateway over HTTP/2.
type gateway struct {
	agentv1connect.AgentServiceClient
	transport *http.Transport
}

// connect trusts the CA of the join, and nothing else.
func (a *Agent) connect() (*gateway, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(a.settings.CA)) {
		return nil, failf(CodeInternal, nil, "the gateway's CA in %s is damaged: join again with a new token", settingsFile)
	}
	return a.client(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: protocol.ServerName}), nil
}

// connectPinned trusts whoever shows a chain that ends in the token's CA, which it hands to learn.
func (a *Agent) connectPinned(fingerprint [32]byte, learn func(ca *x509.Certificate)) *gateway {
	return a.client(&tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: protocol.ServerName,
		// There are no roots yet: VerifyConnection makes the whole check against the fingerprint.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection: func(state tls.ConnectionState) error {
			ca, err := verifyPinned(state.PeerCertificates, fingerprint)
			if err != nil {
				return err
			}
			learn(ca)
			return nil
		},
	})
}

// errPin is a gateway other than the token's.
var errPin = errors.New("this is not the gateway that the join token names")

func verifyPinned(chain []*x509.Certificate, fingerprint [32]byte) (*x509.Certificate, error) {
	if len(chain) < 2 {
		return nil, fmt.Errorf("%w: it does not show its CA", errPin)
	}
	leaf, ca := chain[0], chain[len(chain)-1]
	if protocol.CAFingerprint(ca) != fingerprint || !ca.IsCA {
		return nil, fmt.Errorf("%w: its CA has another fingerprint", errPin)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(ca)
	for _, c := range chain[1 : len(chain)-1] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		DNSName: protocol.ServerName, Roots: roots, Intermediates: between,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPin, err)
	}
	return ca, nil
}

func (a *Agent) client(tlsConfig *tls.Config) *gateway {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{
		DialContext:         a.cfg.Dial,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     30 * time.Second, // a connection whose session has ended is let go
		Protocols:           protocols,
		// Pings find out that a gateway or the way to it is dead when nothing else is said.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
	}
	return &gateway{
		AgentServiceClient: agentv1connect.NewAgentServiceClient(
			&http.Client{Transport: transport}, a.settings.GatewayURL, connect.WithReadMaxBytes(maxMessage)),
		transport: transport,
	}
}

func (g *gateway) close() { g.transport.CloseIdleConnections() }
