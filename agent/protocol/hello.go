package protocol

// ServerName is the DNS name for which every gateway's leaf certificate is valid, wherever it listens: the CA behind it
// serves gateways alone, so agents ask for this name and not for the address that they dial.
const ServerName = "gateway.tenure.internal"

// helloPurpose keeps a signature from meaning anything else.
const helloPurpose = "tenure agent hello 1\x00"

// HelloText is what an agent's key signs in Hello: a purpose, the length of the nonce, the nonce and the plane's id.
func HelloText(nonce []byte, planeID string) []byte {
	text := make([]byte, 0, len(helloPurpose)+4+len(nonce)+len(planeID))
	text = append(text, helloPurpose...)
	n := uint32(len(nonce)) //nolint:gosec // a message is far smaller than 4 GB
	text = append(text, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	text = append(text, nonce...)
	return append(text, planeID...)
}

// Codes of Stop.
const (
	StopStaleSession    = "stale_session"    // another agent opened a higher session
	StopUnknownIdentity = "unknown_identity" // no such plane, or another public key
	StopBadSignature    = "bad_signature"    // Hello's signature is not of this nonce, plane and key
	StopUnsupported     = "unsupported"      // the gateway cannot serve this agent's version
	StopUnavailable     = "unavailable"      // dial again later; every other code is final
)

// Codes of Superseded.
const (
	StaleChange = "stale_change" // a higher change number has begun for the tenant
	StaleCauses = "stale_causes" // a higher revision of the suspension's causes has begun for it
)
