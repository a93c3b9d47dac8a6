package eventnode

import (
	"crypto/x509"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tenure-dev/tenure/adapters/eventnode/nodetest"
)

func TestCertificateIsRenewedWithoutARestart(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	cert, key, _ := nodetest.SelfSigned(t, dir, 1)
	var log strings.Builder
	config, err := ServerTLS(cert, key, c.now, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	served := func() int64 {
		t.Helper()
		pair, err := config.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.SerialNumber.Int64()
	}
	nodetest.SelfSigned(t, dir, 22)
	if n := served(); n != 1 {
		t.Errorf("within a second it is not looked at again, but number %d is served", n)
	}
	c.advance(time.Second)
	if n := served(); n != 22 {
		t.Errorf("a second later number %d is served", n)
	}
	if err := os.WriteFile(key, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.advance(time.Second)
	if n := served(); n != 22 || !strings.Contains(log.String(), "the certificate stays as it was") {
		t.Errorf("after a bad one number %d is served, and the log says %s", n, log.String())
	}
	nodetest.SelfSigned(t, dir, 333)
	c.advance(time.Second)
	if n := served(); n != 333 {
		t.Errorf("after it is mended number %d is served", n)
	}
}

func TestCertificatesThatAreNone(t *testing.T) {
	t.Parallel()
	one, other := t.TempDir(), t.TempDir()
	cert, key, _ := nodetest.SelfSigned(t, one, 1)
	_, another, _ := nodetest.SelfSigned(t, other, 2)
	for name, pair := range map[string][2]string{"no file": {cert, key + ".x"}, "another's key": {cert, another}, "the wrong way round": {key, cert}} {
		if _, err := ServerTLS(pair[0], pair[1], time.Now, nil); err == nil || !strings.Contains(err.Error(), pair[0]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
