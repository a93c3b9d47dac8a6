package domain

import (
	"crypto/sha1"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// UUID is a 16-byte identifier in network order.
type UUID [16]byte

// namespace is Tenure's one UUIDv5 namespace: UUIDv5(DNS, "tenure.dev"), fixed for ever because every derived id rests on it.
var namespace = mustUUID("5485b0c6-b5a6-5a6e-bf0c-f1112ee011ea")

// DeriveUUID gives the UUIDv5 (RFC 9562) whose name is the JSON array of parts, so that no two lists of parts share a name.
func DeriveUUID(parts ...string) UUID {
	name, err := json.Marshal(parts)
	if err != nil {
		panic(err) // strings always marshal
	}
	h := sha1.New()
	h.Write(namespace[:])
	h.Write(name)
	var u UUID
	copy(u[:], h.Sum(nil))
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	return u
}

// String gives the usual form with dashes, lower case.
func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// ParseUUID reads the form with dashes.
func ParseUUID(s string) (u UUID, err error) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, fmt.Errorf("not a UUID: %q", s)
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 {
		return u, fmt.Errorf("not a UUID: %q", s)
	}
	copy(u[:], b)
	return u, nil
}

func mustUUID(s string) UUID {
	u, err := ParseUUID(s)
	if err != nil {
		panic(err)
	}
	return u
}

// The prefixes of ids.
const (
	OrgID       = "org"
	TenantID    = "ten"
	PlaneID     = "pln"
	OperationID = "op"
	SagaID      = "sag"
)

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ID is a prefixed identifier: prefix, underscore, and the 26 lower-case base32 digits of 16 bytes.
func ID(prefix string, u UUID) string { return prefix + "_" + base32Lower.EncodeToString(u[:]) }

// NewID derives the id of what a caller's command creates, so that a retry under the same key meets the same stream.
func NewID(prefix, actor, command, key string) string {
	return ID(prefix, DeriveUUID(actor, command, key))
}

// IsID tells whether s has the form of an id with that prefix.
func IsID(prefix, s string) bool {
	_, ok := idBytes(prefix, s)
	return ok
}

func idBytes(prefix, s string) (u UUID, ok bool) {
	rest, found := strings.CutPrefix(s, prefix+"_")
	if !found || len(rest) != 26 {
		return u, false
	}
	b, err := base32Lower.DecodeString(rest)
	if err != nil || len(b) != 16 {
		return u, false
	}
	copy(u[:], b)
	return u, ID(prefix, u) == s
}

// CallerCommandID is the id of a caller's command: the same actor, command, target and key always give the same one.
func CallerCommandID(actor, command, target, key string) string {
	return DeriveUUID(actor, command, target, key).String()
}

// SagaCommandID is the id of a saga's command: the same step, item, direction and attempt always give the same one.
func SagaCommandID(saga, step, item string, undo bool, attempt int) string {
	direction := "do"
	if undo {
		direction = "undo"
	}
	return DeriveUUID(saga, step, item, direction, fmt.Sprint(attempt)).String()
}

// EventID is the id of the index-th event that a command appends to a stream.
func EventID(commandID, stream string, index int) string {
	return DeriveUUID(commandID, stream, fmt.Sprint(index)).String()
}

// SagaIDFor is the id of the saga of that name that an event starts.
func SagaIDFor(name, startEventID string) string { return ID(SagaID, DeriveUUID(name, startEventID)) }

// OperationIDFor is the id of the operation that a command asks of a plane: another writing of the command's own id.
func OperationIDFor(commandID string) string {
	u, err := ParseUUID(commandID)
	if err != nil {
		u = DeriveUUID(commandID)
	}
	return ID(OperationID, u)
}
