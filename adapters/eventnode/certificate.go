package eventnode

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// certificate is a pair of files that are read again when they have changed, so that a certificate is renewed without a
// restart.
type certificate struct {
	cert, key string
	now       func() time.Time
	logger    *slog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	stamps [2]stamp
	looked time.Time
}

// ServerTLS serves the certificate of two PEM files. They are looked at again within a second of a handshake after they have
// changed; while what they hold is no pair, the one before goes on being served, and the logger is told.
func ServerTLS(cert, key string, now func() time.Time, logger *slog.Logger) (*tls.Config, error) {
	c := &certificate{cert: cert, key: key, now: now, logger: logger, looked: now()}
	c.stamps = c.found()
	if err := c.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if since := now.Sub(c.looked); since >= 0 && since < time.Second {
		return c.pair, nil
	}
	c.looked = now
	if found := c.found(); found != c.stamps {
		c.stamps = found
		if err := c.load(); err != nil {
			c.logger.Error("the certificate stays as it was", "error", err)
		} else {
			c.logger.Info("the certificate has been read again", "file", c.cert)
		}
	}
	return c.pair, nil
}

func (c *certificate) found() [2]stamp { return [2]stamp{stampOf(c.cert), stampOf(c.key)} }

func (c *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("%s and %s are no certificate and its key: %w", c.cert, c.key, err)
	}
	c.pair = &pair
	return nil
}
