package eventnode

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// streamMetadata is what a stream's metadata says about what its readers see. Zero values mean: no such limit.
type streamMetadata struct {
	truncateBefore int64         // $tb: revisions below it are hidden; deletedRevision is a soft delete
	maxCount       int64         // $maxCount: only so many of the last events show
	maxAge         time.Duration // $maxAge: older events are hidden
}

// metastreamMetadata is that of every metastream, whatever its own metadata says: only the latest shows.
var metastreamMetadata = streamMetadata{maxCount: 1}

func (m streamMetadata) softDeleted() bool { return m.truncateBefore == deletedRevision }

// parseMetadata reads the data of a metadata event. One bad value empties all of it, as does anything but a JSON object;
// nobody is told, for the append has long been accepted.
func parseMetadata(data []byte, isJSON bool) streamMetadata {
	if !isJSON {
		return streamMetadata{}
	}
	members, ok := objectMembers(data)
	if !ok {
		return streamMetadata{}
	}
	var m streamMetadata
	for _, member := range members {
		good := true
		switch member.key {
		case "$maxCount":
			m.maxCount, good = integer(member.value, 1, math.MaxInt64)
		case "$maxAge":
			var seconds int64
			seconds, good = integer(member.value, 1, math.MaxInt64)
			m.maxAge = time.Duration(min(seconds, math.MaxInt64/int64(time.Second))) * time.Second
		case "$tb":
			m.truncateBefore, good = integer(member.value, 0, math.MaxInt64)
		case "$cacheControl":
			_, good = integer(member.value, 1, math.MaxInt64)
		case "$tmp":
			good = bytes.Equal(member.value, []byte("true")) || bytes.Equal(member.value, []byte("false"))
		case "$acl":
			good = isACL(member.value)
		}
		if !good {
			return streamMetadata{}
		}
	}
	return m
}

// undeleted is a stream's metadata with $tb set so that the stream begins at a revision: the key keeps its place if it is
// there, else it comes last. It reports false for what is no JSON object.
func undeleted(data []byte, from int64) ([]byte, bool) {
	members, ok := objectMembers(data)
	if !ok {
		return nil, false
	}
	bound := json.RawMessage(strconv.FormatInt(from, 10))
	found := false
	for i := range members {
		if members[i].key == "$tb" {
			members[i].value, found = bound, true
		}
	}
	if !found {
		members = append(members, jsonMember{"$tb", bound})
	}
	var out bytes.Buffer
	out.WriteByte('{')
	for i, member := range members {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(quoted(member.key))
		out.WriteByte(':')
		if err := json.Compact(&out, member.value); err != nil {
			return nil, false
		}
	}
	out.WriteByte('}')
	return out.Bytes(), true
}

type jsonMember struct {
	key   string
	value json.RawMessage
}

// objectMembers are the members of a JSON object in their order. Of equal keys the last value counts, in the first place.
func objectMembers(data []byte) ([]jsonMember, bool) {
	if !json.Valid(data) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	var members []jsonMember
	at := map[string]int{}
	for d.More() {
		t, err := d.Token()
		key, ok := t.(string)
		if err != nil || !ok {
			return nil, false
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, false
		}
		if i, twice := at[key]; twice {
			members[i].value = value
			continue
		}
		at[key] = len(members)
		members = append(members, jsonMember{key, value})
	}
	return members, true
}

// integer reads a JSON number without fraction or exponent.
func integer(value json.RawMessage, low, high int64) (int64, bool) {
	n, err := strconv.ParseInt(string(value), 10, 64)
	return n, err == nil && n >= low && n <= high
}

// isACL checks the form of an access control list: roles, each a name or a list of names.
func isACL(value json.RawMessage) bool {
	members, ok := objectMembers(value)
	for _, member := range members {
		switch member.key {
		case "$r", "$w", "$d", "$mr", "$mw":
			var one string
			var many []string
			if len(member.value) == 0 || string(member.value) == "null" || json.Unmarshal(member.value, &one) != nil && json.Unmarshal(member.value, &many) != nil {
				return false
			}
		default:
			return false
		}
	}
	return ok
}

// quoted is a JSON string that leaves <, > and & as they are.
func quoted(s string) []byte {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always encodes
	return bytes.TrimRight(out.Bytes(), "\n")
}
