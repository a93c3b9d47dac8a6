// Package domain is the kernel of the write side: deciders, catalogs, ids, metadata, sealed text and coded errors, all pure
// values and functions. Every other package of the control plane may import it; it imports the standard library alone.
package domain
