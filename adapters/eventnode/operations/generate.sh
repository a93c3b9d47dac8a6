#!/bin/sh
# Generates the messages of operations.proto, with the plugin of go.mod's version.
set -eu
cd "$(dirname "$0")"

if ! command -v protoc >/dev/null; then
	echo "generate.sh: protoc is missing: install Debian's protobuf-compiler, or protobuf with Homebrew" >&2
	exit 1
fi

plugins=$(mktemp -d)
trap 'rm -rf "$plugins"' EXIT
go build -o "$plugins/" google.golang.org/protobuf/cmd/protoc-gen-go

PATH="$plugins:$PATH" protoc --go_out=. --go_opt=paths=source_relative operations.proto

# protoc's own version would make the output differ from machine to machine.
sed -i.bak '/^\/\/ \tprotoc  *v/d' operations.pb.go && rm operations.pb.go.bak
