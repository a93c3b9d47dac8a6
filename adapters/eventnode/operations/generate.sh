#!/bin/sh
# Generates the messages of operations.proto.
set -eu
cd "$(dirname "$0")"
../../../scripts/protobuf google.golang.org/protobuf/cmd/protoc-gen-go operations.pb.go \
	--go_out=. --go_opt=paths=source_relative operations.proto
