// Package graphql is the edge where front ends meet the control plane: the schema in schema/, thin resolvers over the
// commands' Bus and the read models, and the HTTP handler around them. The composition root makes a Handler; nothing else
// calls this package.
//
// What a mutation asks becomes a command, and what the command's refusal says becomes userErrors. What an operation reads,
// it reads in one snapshot. generated/ is made from the schema by gqlgen and never edited.
package graphql

//go:generate go tool gqlgen generate
