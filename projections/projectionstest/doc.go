// Package projectionstest gives tests of the read side a log and a store in memory, a small made-up domain, and the contract
// that every implementation of projections.Store keeps. Only tests import it.
package projectionstest
