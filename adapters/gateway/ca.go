package gateway

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"sync"
	"time"

	"github.com/tenure-dev/tenure/agent/protocol"
)

// CA is the gateways' own certificate authority. It is made of a seed that the key store keeps, and comes out the same
// from the same seed, so that the fingerprint in join tokens holds after a restart.
type CA struct {
	Certificate *x509.Certificate
	key         ed25519.PrivateKey
	now         func() time.Time

	mu   sync.Mutex
	leaf *tls.Certificate
}

// The lives of certificates. The CA's is fixed; a leaf is renewed in the last third of its own.
var (
	caFrom = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	caTo   = time.Date(2126, 1, 1, 0, 0, 0, 0, time.UTC)
)

const leafLife = 30 * 24 * time.Hour

// NewCA makes the CA of a seed of 32 bytes.
func NewCA(seed []byte, now func() time.Time) (*CA, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, errors.New("gateway: the CA's seed must be 32 bytes")
	}
	key := ed25519.NewKeyFromSeed(seed)
	id := sha256.Sum256(key.Public().(ed25519.PublicKey))
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(id[:16]),
		Subject:      pkix.Name{CommonName: "Tenure gateway CA"},
		NotBefore:    caFrom, NotAfter: caTo,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage:     x509.KeyUsageCertSign,
		SubjectKeyId: id[:20],
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key) // Ed25519 signs without randomness
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &CA{Certificate: certificate, key: key, now: now}, nil
}

// TLS is the gateway's server configuration: HTTP/2 alone, with a leaf that is renewed before it ends.
func (ca *CA) TLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{"h2"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return ca.current() },
	}
}

func (ca *CA) current() (*tls.Certificate, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	now := ca.now()
	if ca.leaf != nil && now.Before(ca.leaf.Leaf.NotAfter.Add(-leafLife/3)) {
		return ca.leaf, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: protocol.ServerName},
		DNSNames:     []string{protocol.ServerName},
		NotBefore:    now.Add(-time.Hour), NotAfter: now.Add(leafLife), // an agent's clock may be behind
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca.Certificate, key.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	ca.leaf = &tls.Certificate{Certificate: [][]byte{der, ca.Certificate.Raw}, PrivateKey: key, Leaf: leaf}
	return ca.leaf, nil
}
