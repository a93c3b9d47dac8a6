// Package postgres keeps the read side in Postgres (15 and later): the pool, the fixed tables' migrations, the rows and
// checkpoints of projection groups, and consistent reads of them. The composition root alone calls it.
//
// Everything in schema tenure is a cache of the log: it may be dropped while nothing runs, and comes back.
package postgres
