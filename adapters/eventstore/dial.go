package eventstore

import (
	"context"
	"crypto/tls"
	"encoding/base64"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Dial is a plain connection to the one node that an esdb:// address names, for the protocol's services that the official
// client does not offer. The address's user and password go with each call, over TLS alone. The caller closes it. The error
// is CodeInvalid for an address that is not understood.
func Dial(address string) (*grpc.ClientConn, error) {
	settings, err := parse(address)
	if err != nil {
		return nil, err
	}
	target := settings.Address
	if target == "" && len(settings.GossipSeeds) > 0 {
		target = settings.GossipSeeds[0].String()
	}
	if settings.DisableTLS {
		return grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	secure := &tls.Config{RootCAs: settings.RootCAs, InsecureSkipVerify: settings.SkipCertificateVerification, MinVersion: tls.VersionTLS12}
	options := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(secure))}
	if settings.Username != "" {
		options = append(options, grpc.WithPerRPCCredentials(basic(settings.Username+":"+settings.Password)))
	}
	return grpc.NewClient(target, options...)
}

// basic are HTTP's basic credentials, name:password.
type basic string

func (b basic) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(b))}, nil
}

func (basic) RequireTransportSecurity() bool { return true }
