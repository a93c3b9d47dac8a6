package eventnode

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
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

// longestSpan is the longest time that a real server can measure, in seconds.
const longestSpan = math.MaxInt64 / 10_000_000

// parseMetadata reads the data of a metadata event, as far as the end of its JSON object. One bad value empties all of it,
// as does anything but an object; nobody is told, for the append has long been accepted. Of equal keys the last value
// counts, but all have to be of the right type.
func parseMetadata(data []byte, isJSON bool) streamMetadata {
	if !isJSON {
		return streamMetadata{}
	}
	members, ok := readMembers(data)
	if !ok {
		return streamMetadata{}
	}
	maxCount, maxAge, cache, before := int64(1), int64(1), int64(1), int64(0)
	var m streamMetadata
	for _, member := range members {
		good := true
		switch member.key {
		case "$maxCount":
			maxCount, good = integer(member.value, math.MaxInt64)
			m.maxCount = maxCount
		case "$maxAge":
			maxAge, good = integer(member.value, longestSpan)
			m.maxAge = time.Duration(min(maxAge, math.MaxInt64/int64(time.Second))) * time.Second
		case "$tb":
			before, good = integer(member.value, math.MaxInt64)
			m.truncateBefore = before
		case "$cacheControl":
			cache, good = integer(member.value, longestSpan)
		case "$tmp":
			good = bytes.Equal(member.value, []byte("true")) || bytes.Equal(member.value, []byte("false"))
		case "$acl":
			good = isACL(member.value)
		}
		if !good {
			return streamMetadata{}
		}
	}
	if maxCount < 1 || maxAge < 1 || cache < 1 || before < 0 {
		return streamMetadata{}
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
		if !writeAnew(&out, member.value) {
			return nil, false
		}
	}
	out.WriteByte('}')
	return out.Bytes(), true
}

// writeAnew writes a JSON value without space, and its strings with no escapes but those that quoted makes.
func writeAnew(out *bytes.Buffer, value json.RawMessage) bool {
	var compact bytes.Buffer
	if json.Compact(&compact, value) != nil {
		return false
	}
	for b := compact.Bytes(); len(b) > 0; {
		n := bytes.IndexByte(b, '"')
		if n < 0 {
			out.Write(b)
			break
		}
		out.Write(b[:n])
		end := n + 1
		for ; b[end] != '"'; end++ {
			if b[end] == '\\' {
				end++
			}
		}
		var text string
		if json.Unmarshal(b[n:end+1], &text) != nil {
			return false
		}
		out.Write(quoted(text))
		b = b[end+1:]
	}
	return true
}

type jsonMember struct {
	key   string
	value json.RawMessage
}

// objectMembers are the members of a JSON object in their order, if there is nothing after it. Of equal keys the last value
// counts, in the first place.
func objectMembers(data []byte) ([]jsonMember, bool) {
	if !json.Valid(data) {
		return nil, false
	}
	all, ok := readMembers(data)
	var members []jsonMember
	at := map[string]int{}
	for _, member := range all {
		if i, twice := at[member.key]; twice {
			members[i].value = member.value
			continue
		}
		at[member.key] = len(members)
		members = append(members, member)
	}
	return members, ok
}

// readMembers are all members of the JSON object that the data begins with, whatever comes after it.
func readMembers(data []byte) (members []jsonMember, ok bool) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
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
		members = append(members, jsonMember{key, value})
	}
	end, err := d.Token()
	return members, err == nil && end == json.Delim('}')
}

// integer reads a JSON number without fraction or exponent, at most high.
func integer(value json.RawMessage, high int64) (int64, bool) {
	n, err := strconv.ParseInt(string(value), 10, 64)
	return n, err == nil && n <= high
}

// isACL checks the form of an access control list: roles, each a name or a list of names.
func isACL(value json.RawMessage) bool {
	members, ok := readMembers(value)
	for _, member := range members {
		switch member.key {
		case "$r", "$w", "$d", "$mr", "$mw":
			var one *string
			var many []*string
			if json.Unmarshal(member.value, &one) == nil && one != nil {
				continue
			}
			if json.Unmarshal(member.value, &many) != nil || many == nil || slices.Contains(many, nil) {
				return false
			}
		default:
			return false
		}
	}
	return ok
}

// quoted is a JSON string as the real server writes it: without escapes but for quotes, backslashes, control characters and
// the ends of lines.
func quoted(s string) []byte {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always encodes
	return bytes.ReplaceAll(bytes.TrimRight(out.Bytes(), "\n"), []byte("\u0085"), []byte(`\u0085`))
}
