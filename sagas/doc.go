// Package sagas runs what spans aggregates: a saga is a table of steps over a pure React, and the runner follows the log,
// writes the facts that React returns and sends the commands that they hold. Definitions live in packages of their own
// (sagas/onboarding, …); the composition root gives the runner its ports.
package sagas
