package domain

import (
	"fmt"
	"strconv"
	"strings"
)

// Epoch names one log: its number, raised at every restore, recovery and copy, and a random id.
type Epoch struct {
	Number int64  `json:"number"`
	ID     string `json:"id"`
}

// Position is a place in one log: the commit position of an event in $all, with the epoch of the log that it belongs to.
// Its text form is opaque to callers.
type Position struct {
	Epoch  Epoch
	Commit uint64
}

// String gives the text form NUMBER.ID.COMMIT.
func (p Position) String() string {
	return fmt.Sprintf("%d.%s.%d", p.Epoch.Number, p.Epoch.ID, p.Commit)
}

// ParsePosition reads the text form; the error is Invalid for the field "position".
func ParsePosition(s string) (Position, error) {
	bad := Invalid("position", "is not a position")
	parts := strings.Split(s, ".")
	if len(s) > 200 || len(parts) != 3 || parts[1] == "" {
		return Position{}, bad
	}
	n, err1 := strconv.ParseInt(parts[0], 10, 53)
	c, err2 := strconv.ParseUint(parts[2], 10, 63)
	if err1 != nil || err2 != nil || n < 1 {
		return Position{}, bad
	}
	p := Position{Epoch{n, parts[1]}, c}
	if p.String() != s { // a sign or leading zeros: one position has one text
		return Position{}, bad
	}
	return p, nil
}
