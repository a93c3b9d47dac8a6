package eventstore

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tenure-dev/tenure/domain"
)

// authority is a CA's certificate, in a file, and a certificate for 127.0.0.1 that it signed.
func authority(t *testing.T) (file string, node *tls.Config) {
	t.Helper()
	made := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			signer = key
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		return der, key
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca, signer := made(root, root, nil)
	leaf, key := made(&x509.Certificate{SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, root, signer)
	file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf}, PrivateKey: key}}}
}

// said is a log that several goroutines write to.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) { s.mu.Lock(); defer s.mu.Unlock(); return s.b.Write(p) }
func (s *said) String() string              { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

func TestUsersAndCertificatesAreChecked(t *testing.T) {
	const secret = "s3cret-pass"
	ca, node := authority(t)
	other, _ := authority(t)
	f := &fake{tls: node}
	f.read = func(_ int, _ *api.ReadReq, s api.Streams_ReadServer) error {
		md, _ := metadata.FromIncomingContext(s.Context())
		basic := strings.Join(md.Get("authorization"), "")
		given, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(basic, "Basic "))
		switch string(given) {
		case "ops:" + secret:
			return nil
		case "guest:" + secret:
			return status.Error(codes.PermissionDenied, "Access Denied")
		}
		return status.Error(codes.Unauthenticated, "AuthenticationFailed")
	}
	f.serve(t)
	for name, row := range map[string]struct {
		user, query string
		code        domain.Code
	}{
		"the right user":             {"ops:" + secret, "tlsCaFile=" + url.QueryEscape(ca), ""},
		"a wrong password":           {"ops:not-" + secret, "tlsCaFile=" + url.QueryEscape(ca), domain.CodeUnauthenticated},
		"a user without rights":      {"guest:" + secret, "tlsCaFile=" + url.QueryEscape(ca), domain.CodeForbidden},
		"another CA":                 {"ops:" + secret, "tlsCaFile=" + url.QueryEscape(other), domain.CodeUnavailable},
		"no CA":                      {"ops:" + secret, "tls=true", domain.CodeUnavailable},
		"certificates are not asked": {"ops:" + secret, "tlsVerifyCert=false", ""},
		"a CA file that is missing":  {"ops:" + secret, "tlsCaFile=/nowhere/ca.pem", domain.CodeInvalid},
		"no TLS":                     {"ops:" + secret, "tls=false", domain.CodeUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			var log said
			timeout := 10 * time.Second
			if row.code == domain.CodeUnavailable {
				timeout = 300 * time.Millisecond
			}
			f.mu.Lock()
			before := f.reads
			f.mu.Unlock()
			l, err := Open(t.Context(), Config{URL: "esdb://" + row.user + "@" + f.address + "?" + row.query + "&gossipTimeout=1", Timeout: timeout,
				Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
			if domain.CodeOf(err) != row.code {
				t.Errorf("%v (%s)", err, domain.CodeOf(err))
			}
			if err == nil {
				if err := l.Close(context.Background()); err != nil {
					t.Error(err)
				}
			}
			encoded := base64.StdEncoding.EncodeToString([]byte(row.user))
			if text := log.String() + errorText(err); strings.Contains(text, secret) || strings.Contains(text, encoded) {
				t.Errorf("the password is told: %s", text)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.reads > before+1 {
				t.Errorf("%d tries", f.reads-before)
			}
		})
	}
}

// A node may refuse a user as soon as it is asked what it can do: that is final, too.
func TestARefusalWhileConnectingEndsOpen(t *testing.T) {
	hellos := 0
	f := &fake{hello: func() error { hellos++; return status.Error(codes.Unauthenticated, "AuthenticationFailed") }}
	f.serve(t)
	if _, err := Open(t.Context(), Config{URL: "esdb://" + f.address + "?tls=false", Timeout: time.Minute}); domain.CodeOf(err) != domain.CodeUnauthenticated || hellos != 1 {
		t.Errorf("%v after %d", err, hellos)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
