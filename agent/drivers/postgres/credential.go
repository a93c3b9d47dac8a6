package postgres

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
)

// scramIterations is Postgres's own default. The password has 256 bits already, so more would only slow logins.
const scramIterations = 4096

// password derives a tenant's password. It is never stored: the same key, tenant and version give the same one.
func (d *Driver) password(tenantID string, version int64) (string, error) {
	raw, err := d.derive("password", tenantID, version, 32)
	return base64.RawURLEncoding.EncodeToString(raw), err
}

// verifier is what the server stores instead of the password, in Postgres's own form, so that the password never is in an
// SQL statement and so in no log. Its salt is derived too: an unchanged credential is an unchanged verifier.
func (d *Driver) verifier(tenantID string, version int64) (string, error) {
	pw, err := d.password(tenantID, version)
	if err != nil {
		return "", err
	}
	salt, err := d.derive("salt", tenantID, version, 16)
	if err != nil {
		return "", err
	}
	salted, err := pbkdf2.Key(sha256.New, pw, salt, scramIterations, sha256.Size)
	if err != nil {
		return "", err
	}
	clientKey := mac(salted, "Client Key")
	storedKey := sha256.Sum256(clientKey)
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, b64(salt), b64(storedKey[:]), b64(mac(salted, "Server Key"))), nil
}

func (d *Driver) derive(what, tenantID string, version int64, n int) ([]byte, error) {
	info := "tenure/postgres/" + what + "/" + tenantID + "/" + strconv.FormatInt(version, 10)
	return hkdf.Key(sha256.New, d.planeKey, nil, info, n)
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
