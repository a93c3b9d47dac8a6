package protocol

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
)

// Token lets its holder join one plane, once. As text it is
//
//	tjt1.<plane id>.<secret>.<fingerprint>
//
// with the last two in unpadded base64url.
type Token struct {
	PlaneID     string   // pln_…
	Secret      [32]byte // random; the log holds its hash
	Fingerprint [32]byte // CAFingerprint of the gateway's CA
}

// ErrToken is what ParseToken's errors wrap. They never hold any of the token.
var ErrToken = errors.New("not a join token")

const tokenVersion = "tjt1"

var (
	planeID   = regexp.MustCompile(`^pln_[a-z2-7]{26}$`)
	base64url = base64.RawURLEncoding.Strict()
)

// ParseToken reads a token; surrounding white space is allowed, for it is pasted.
func ParseToken(text string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if parts[0] != tokenVersion {
		return Token{}, fmt.Errorf("%w: it does not begin with %s.", ErrToken, tokenVersion)
	}
	if len(parts) != 4 {
		return Token{}, fmt.Errorf("%w: it has %d parts, not 4; is it whole?", ErrToken, len(parts))
	}
	if !planeID.MatchString(parts[1]) {
		return Token{}, fmt.Errorf("%w: its second part is no plane id", ErrToken)
	}
	token := Token{PlaneID: parts[1]}
	if !decode(&token.Secret, parts[2]) {
		return Token{}, fmt.Errorf("%w: its third part is not 32 bytes in base64url; is it whole?", ErrToken)
	}
	if !decode(&token.Fingerprint, parts[3]) {
		return Token{}, fmt.Errorf("%w: its fourth part is not 32 bytes in base64url; is it whole?", ErrToken)
	}
	return token, nil
}

func decode(into *[32]byte, text string) bool {
	raw, err := base64url.DecodeString(text)
	if err != nil || len(raw) != len(into) || strings.ContainsAny(text, "\r\n") {
		return false
	}
	copy(into[:], raw)
	return true
}

// Text is the token as its holder gets it. It is not called String so that no log prints a token by accident.
func (t Token) Text() string {
	return strings.Join([]string{
		tokenVersion, t.PlaneID, base64url.EncodeToString(t.Secret[:]), base64url.EncodeToString(t.Fingerprint[:]),
	}, ".")
}

// String names the token's plane and hides the rest.
func (t Token) String() string { return fmt.Sprintf("join token of %s", t.PlaneID) }

// LogValue keeps the secret out of structured logs too.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// CAFingerprint is the SHA-256 of the certificate's DER form.
func CAFingerprint(ca *x509.Certificate) [32]byte { return sha256.Sum256(ca.Raw) }
