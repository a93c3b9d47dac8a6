#!/bin/sh
# Generates agentv1 from tenure/agent/v1/agent.proto, with the plugins of go.mod's versions.
set -eu
cd "$(dirname "$0")"

if ! command -v protoc >/dev/null; then
	echo "generate.sh: protoc is missing: install Debian's protobuf-compiler, or protobuf with Homebrew" >&2
	exit 1
fi

plugins=$(mktemp -d)
trap 'rm -rf "$plugins"' EXIT
go build -o "$plugins/" google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go

PATH="$plugins:$PATH" protoc \
	--go_out=. --go_opt=module=github.com/tenure-dev/tenure/agent/protocol \
	--connect-go_out=. --connect-go_opt=module=github.com/tenure-dev/tenure/agent/protocol \
	tenure/agent/v1/agent.proto

# protoc's own version would make the output differ from machine to machine.
sed -i.bak '/^\/\/ \tprotoc  *v/d' agentv1/agent.pb.go && rm agentv1/agent.pb.go.bak
