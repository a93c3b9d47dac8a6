package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func healthCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "health",
		Short: "Ask a control plane, a node or an agent whether it is ready",
		Long: `Asks for /readyz and prints one line. The exit code is 0 if the answer is yes, and 1 if it is no or does not come.

The address is --url, or else that of --http, as it was given to tenure serve, node or agent: beside one that has its settings
from variables, as in a container, tenure health needs no flags. With --tls-cert it asks by HTTPS, and takes that certificate for
good and no other.`,
		Args: cobra.NoArgs,
		RunE: runHealth,
	}
	c.Flags().String("url", "", "what to ask, such as http://127.0.0.1:8080/readyz")
	c.Flags().String("http", "127.0.0.1:8080", "where the control plane, node or agent on this machine serves its probes")
	c.Flags().String("tls-cert", "", "file with the certificate that is served there, PEM")
	c.Flags().Duration("timeout", 5*time.Second, "how long the answer may take")
	return c
}

func runHealth(cmd *cobra.Command, _ []string) error {
	address, err := probeURL(cmd)
	if err != nil {
		return err
	}
	timeout, _ := cmd.Flags().GetDuration("timeout")
	if timeout <= 0 {
		return usage("--timeout must be more than 0")
	}
	transport := &http.Transport{DisableKeepAlives: true} // no proxy stands before one's own probes
	defer transport.CloseIdleConnections()
	if cert := text(cmd, "tls-cert"); cert != "" {
		if transport.TLSClientConfig, err = pinned(cert); err != nil {
			return usage("--tls-cert: %s", err)
		}
	}
	request, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, address, nil)
	if err != nil {
		return usage("--url: %s", err)
	}
	response, err := (&http.Client{Transport: transport, Timeout: timeout}).Do(request)
	if err != nil {
		return fmt.Errorf("%s does not answer: %w", address, cause(err))
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(response.Body, 1000)) // the status is what counts
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", address, response.Status, answer)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), oneLine(string(answer)))
	return err
}

// probeURL is what to ask. A server that listens everywhere is asked on the loopback address.
func probeURL(cmd *cobra.Command) (string, error) {
	if given := text(cmd, "url"); given != "" {
		u, err := url.Parse(given)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return "", usage("--url must be an address such as http://127.0.0.1:8080/readyz")
		}
		return given, nil
	}
	host, port, err := net.SplitHostPort(text(cmd, "http"))
	if err != nil || port == "" {
		return "", usage("--http must be an address such as 127.0.0.1:8080")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
		if ip.To4() != nil {
			host = "127.0.0.1"
		}
	}
	scheme := "http://"
	if text(cmd, "tls-cert") != "" {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, port) + "/readyz", nil
}

// pinned takes the first certificate of a file for good, whomever it names and whoever has signed it.
func pinned(file string) (*tls.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s has no certificate", file)
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return nil, fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "x509: "))
	}
	return &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // the certificate itself is compared
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, block.Bytes) {
				return errors.New("another certificate is served")
			}
			return nil
		},
	}, nil
}
