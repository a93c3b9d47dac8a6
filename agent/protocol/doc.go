// Package protocol is the language of agents and gateways: join tokens, the text that Hello signs, and, in agentv1, the
// messages of tenure/agent/v1/agent.proto with their Connect stubs. It does no I/O; both sides import it.
//
// # Joining
//
// A token (see Token) names the plane, proves that its holder may join it, and pins the gateway: the gateway's TLS chain
// is its leaf, valid for ServerName, followed by the CA certificate whose fingerprint stands in the token. The agent
// makes a key pair and sends the public half with the token's secret. From then on it trusts that CA alone.
//
// # A session
//
//	gateway  Challenge{nonce}                      at once, session 0
//	agent    Hello{plane, epoch, cursor, signature}
//	gateway  Welcome{n, epoch, revision, resync}   session n is an event before this is sent
//	gateway  Resync{…}, Resync{…, final}           if resync; nothing else before the final one
//	agent    Resynced, later Unclaimed
//	gateway  Operation{…} of every open operation, in the order of revisions; then whatever follows in the stream
//	agent    Outcome{…}, Heartbeat{…}, in any order
//	gateway  Recorded{…} for each Outcome, once the log holds it
//
// What the gateway must keep:
//   - It sends every operation that has no outcome in every session, whatever the agent's cursor is, and in one session
//     by rising revision. An operation not above the last one and not known to the agent counts as closed and is ignored.
//   - It never sends a closed operation.
//   - It answers every Outcome with Recorded when the operation is closed, by this outcome or before, and when it was
//     never asked; the first outcome counts. If it cannot tell yet it ends the stream; it never answers Recorded early.
//   - It sends Withdraw only for an operation sent before in that session; one withdrawn earlier comes with the flag.
//   - A message with a lower session than the plane's is answered by Stop{stale_session}, and so is the older of two
//     open streams.
//   - Resync holds the gone tenants too: their change numbers guard against what is late, and a gone tenant that is
//     still on the plane is not unclaimed.
//
// What the agent keeps:
//   - Under one operation id one effect, and in one epoch one outcome, also across its own crashes. In another epoch
//     the operation runs again through the driver, which is idempotent.
//   - An operation that it has not begun is forgotten with its session. What it has begun goes on without the gateway.
//   - withdrawn and superseded mean that it changed nothing. An operation that an earlier, lost journal may have begun is
//     therefore not answered withdrawn but run: its done is the truth, and can be undone.
package protocol
