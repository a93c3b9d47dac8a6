// Package eventnode is the embedded event store: a single-node server of the EventStoreDB protocol over Pebble, spoken to
// with the official EventStore client and nothing else. Only the composition root starts one; everybody else sees an
// address.
//
// One goroutine, the committer, owns all writing. It takes what is queued, decides each append against the streams as
// they are, writes the accepted ones as one batch, waits until the disk has it, and only then answers and publishes. So
// an acknowledged append is durable, and a reader or subscriber, who stops at the published watermark, never sees an
// event that a crash could take back.
//
// A position is the place of a record in the log: cumulative, above 0, strictly increasing and not dense.
//
// The node answers as a real EventStoreDB 24.10 does in insecure mode. Where a real server answers by accident (UNKNOWN,
// or not at all), this one answers INVALID_ARGUMENT. BatchAppend is not
// offered: its calls are UNIMPLEMENTED and ServerFeatures does not name it. With Options.TLS and Options.Users it answers
// users only, and follows a real server's default access lists.
//
// Persistent subscriptions are groups (persistent_group.go). One goroutine offers what is appended to the groups of its
// stream; a group that has fallen behind reads from the disk. What a group has to remember lies in streams of its own.
// A group's checkpoint never passes an event that is neither acknowledged nor parked for certain, so each is delivered at
// least once, however the node ends.
package eventnode
