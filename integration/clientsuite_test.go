package integration

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenure-dev/tenure/adapters/eventnode"
)

// The client's tests that a node cannot pass, with the reason. All others must.
var clientTestsLeftOut = []string{
	"TestProjections",  // the server's own JavaScript projections
	"TestPlugins",      // X.509 certificates as users, a commercial plug-in
	"TestExpectations", // exact ids and positions of a data set that comes in an image
	"TestStreams/ReadStreamTests/readStreamEventsForwardsFromZeroPosition",
	"TestStreams/ReadStreamTests/readStreamEventsBackwardsFromEndPosition",
	"TestStreams/SubscriptionTests/allSubscriptionWithFilterDeliversCorrectEvents",
	"TestStreams/ClusterTests", // a follower
}

// The EventStoreDB client's own tests run against our node: in the clear, with TLS and users, and as a cluster of one, which is
// found by gossip. Their files are taken from the module as it is.
func TestClientsOwnTests(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "suite")
	run(t, "..", nil, "go", "test", "-c", "-overlay", clientOverlay(t, dir), "-o", binary, "./integration/conformance")
	work := filepath.Join(dir, "esdb")
	must(t, os.Mkdir(work, 0o700))
	must(t, os.Symlink(filepath.Join(clientModule(t), "resources"), filepath.Join(dir, "resources")))
	certificates(t, filepath.Join(dir, "certs"))

	for _, how := range []struct {
		name  string
		env   []string
		least int // tests that pass
	}{
		{"in the clear", []string{"EVENTSTORE_INSECURE=true"}, 90},
		{"with TLS and users", []string{"EVENTSTORE_INSECURE=false"}, 100},
		{"as a cluster", []string{"EVENTSTORE_INSECURE=false", "CLUSTER=true"}, 85},
	} {
		t.Run(how.name, func(t *testing.T) {
			if slices.Contains(how.env, "CLUSTER=true") {
				clusterOfOne(t, filepath.Join(dir, "certs"))
			}
			out := run(t, work, how.env, binary, "-test.v", "-test.timeout", "5m", "-test.skip", strings.Join(clientTestsLeftOut, "|"))
			passed := 0
			for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
				if strings.HasPrefix(strings.TrimSpace(lines.Text()), "--- PASS") {
					passed++
				}
			}
			if t.Logf("%d of the client's tests pass", passed); passed < how.least {
				t.Errorf("only %d of the client's tests have run, where %d should:\n%s", passed, how.least, out)
			}
		})
	}
}

func clientModule(t *testing.T) string {
	return string(bytes.TrimSpace(run(t, "..", nil, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/EventStore/EventStore-Client-Go/v4")))
}

// clientOverlay lays the client's test files over our folder, but for the one that we have ourselves.
func clientOverlay(t *testing.T, dir string) string {
	files, err := filepath.Glob(filepath.Join(clientModule(t), "esdb", "*_test.go"))
	must(t, err)
	here, err := filepath.Abs("conformance")
	must(t, err)
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for _, f := range files {
		if name := filepath.Base(f); name != "containers_test.go" {
			overlay.Replace[filepath.Join(here, name)] = f
		}
	}
	if len(overlay.Replace) < 15 {
		t.Fatalf("the client's module has only %d test files", len(overlay.Replace))
	}
	text, err := json.Marshal(overlay)
	must(t, err)
	path := filepath.Join(dir, "overlay.json")
	must(t, os.WriteFile(path, text, 0o600))
	return path
}

// run gives a command's output, and fails with it.
func run(t *testing.T, dir string, env []string, name string, args ...string) []byte {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// clusterOfOne starts a node where the client's tests look for a cluster.
func clusterOfOne(t *testing.T, certs string) {
	var listener net.Listener
	for port := 2111; port <= 2113 && listener == nil; port++ {
		listener, _ = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	}
	if listener == nil {
		t.Fatal("the ports 2111 to 2113, where the client's tests look for a cluster, are all taken")
	}
	tls, err := eventnode.ServerTLS(filepath.Join(certs, "node", "node.crt"), filepath.Join(certs, "node", "node.key"), time.Now, nil)
	must(t, err)
	dir := t.TempDir()
	users, err := eventnode.OpenUsers(dir, time.Now, nil)
	must(t, err)
	must(t, users.Develop())
	node, err := eventnode.Open(eventnode.Options{Dir: dir, Listener: listener, AdvertiseHost: "localhost", TLS: tls, Users: users, Now: time.Now})
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- node.Serve() }()
	t.Cleanup(func() {
		must(t, node.Close(t.Context()))
		must(t, <-served)
	})
}

// certificates makes what the client's tests read: an authority, a node that it vouches for, and an authority that nobody trusts.
func certificates(t *testing.T, dir string) {
	issue := func(folder, file string, template x509.Certificate, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if parent == nil {
			parent, by = &template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, &template, parent, &key.PublicKey, by)
		must(t, err)
		c, err := x509.ParseCertificate(der)
		must(t, err)
		private, err := x509.MarshalPKCS8PrivateKey(key)
		must(t, err)
		must(t, os.MkdirAll(filepath.Join(dir, folder), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, folder, file+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
		must(t, os.WriteFile(filepath.Join(dir, folder, file+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
		return c, key
	}
	authority := func(name string) x509.Certificate {
		return x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	}
	ca, key := issue("ca", "ca", authority("test authority"), nil, nil)
	issue("untrusted-ca", "ca", authority("another authority"), nil, nil)
	issue("node", "node", x509.Certificate{Subject: pkix.Name{CommonName: "node"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca, key)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
