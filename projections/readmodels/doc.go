// Package readmodels declares what the read side keeps: one file a read model, with its row, its fold and its queries. The
// live group runs All; GraphQL, the command line and the sagas' snapshots ask Queries within a read transaction.
package readmodels
