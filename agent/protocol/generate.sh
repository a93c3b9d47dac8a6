#!/bin/sh
# Generates agentv1 from tenure/agent/v1/agent.proto.
set -eu
cd "$(dirname "$0")"
../../scripts/protobuf "google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go" agentv1/agent.pb.go \
	--go_out=. --go_opt=module=github.com/tenure-dev/tenure/agent/protocol \
	--connect-go_out=. --connect-go_opt=module=github.com/tenure-dev/tenure/agent/protocol \
	tenure/agent/v1/agent.proto
