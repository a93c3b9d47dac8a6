// Package view is what the schema's objects are made of: read models' rows, what is joined to them when it is asked for,
// and the one snapshot in which an operation reads all of it. Package graphql and the code generated from the schema call it.
package view
