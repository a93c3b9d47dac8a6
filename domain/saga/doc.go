// Package saga is the aggregate of a running saga: the facts that are all of its durable state, the operators' commands on
// it, and the fold of both, which knows no saga's definition. The sagas' kernel writes the facts; the Bus decides the commands.
package saga
