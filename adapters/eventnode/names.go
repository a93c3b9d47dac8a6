package eventnode

import (
	"math"
	"strings"
)

const (
	allStream   = "$all"
	usersStream = "$users"

	metadataType = "$metadata"
	deletedType  = "$streamDeleted"
	linkType     = "$>"
	userType     = "$User"

	metastreamPrefix = "$$"

	// deletedRevision is the revision of a tombstone, and as $tb in a stream's metadata the mark of a soft delete.
	deletedRevision = math.MaxInt64
)

// Expected revisions that are no revision, as the delete errors print them.
const (
	expectNoStream     int64 = -1
	expectAny          int64 = -2
	expectStreamExists int64 = -4
)

func isMetastream(stream string) bool { return strings.HasPrefix(stream, metastreamPrefix) }

func metastreamOf(stream string) string { return metastreamPrefix + stream }

func originalOf(metastream string) string { return metastream[len(metastreamPrefix):] }

// hiddenFromAll says whether a stream's events are left out of $all: the server's own bookkeeping, which would
// otherwise feed on itself when a subscription to $all writes down how far it came.
func hiddenFromAll(stream string) bool {
	const group = "$persistentsubscription-$all::"
	return stream == "$epoch-information" ||
		strings.HasPrefix(stream, group) && (strings.HasSuffix(stream, "-checkpoint") || strings.HasSuffix(stream, "-parked"))
}
