// Package projections is the read side's kernel: projections as pure folds from events to keyed rows, and the live group
// that runs them at the head of the log under a lease, writing rows and checkpoint in one transaction. The composition
// root runs a Group; read models declare a Projection each; commands, sagas and aggregates never call this package.
//
// The same fold serves the live group, the build of a new version, the healing of a parked key and a read as of a
// position: a State folds in memory what the Group folds over rows kept in a Store.
package projections
