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
// or not at all), this one answers INVALID_ARGUMENT. Persistent subscriptions, BatchAppend, users and TLS are not
// offered: their calls are UNIMPLEMENTED and ServerFeatures does not name them.
package eventnode
