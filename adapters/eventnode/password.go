package eventnode

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/crypto/argon2"
)

// argonCost is what a hash costs.
type argonCost struct{ passes, memory uint32 } // memory in KiB

// passwordCost is that of every password: two passes over 19 MiB, some 20 ms of one core.
var passwordCost = argonCost{passes: 2, memory: 19 << 10}

const (
	argonSize = 32 // bytes
	saltSize  = 16 // bytes
)

// hashTurns is how many passwords are hashed at a time: half of the cores, and at least one.
var hashTurns = max(1, runtime.GOMAXPROCS(0)/2)

var hashText = base64.RawStdEncoding

// hashPassword is $argon2id$v=19$m=…,t=…,p=1$SALT$HASH.
func hashPassword(password string, cost argonCost) string {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails
	hash := argon2.IDKey([]byte(password), salt, cost.passes, cost.memory, 1, argonSize)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version, cost.memory, cost.passes, hashText.EncodeToString(salt), hashText.EncodeToString(hash))
}

// samePassword says whether a hash is a password's. A hash of another kind, or one that would cost far more than ours, is
// nobody's.
func samePassword(hash, password string) bool {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return false
	}
	var memory, passes, lanes uint32
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &passes, &lanes); err != nil {
		return false
	}
	salt, err := hashText.DecodeString(parts[4])
	want, bad := hashText.DecodeString(parts[5])
	if err != nil || bad != nil || len(want) == 0 || memory > 16*passwordCost.memory || passes < 1 || passes > 16 || lanes < 1 || lanes > 16 {
		return false
	}
	got := argon2.IDKey([]byte(password), salt, passes, memory, uint8(lanes), uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1
}
