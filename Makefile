# Tenure: what a developer types. `make run` and `make test` do all the set-up themselves.
SHELL := /bin/bash
.DEFAULT_GOAL := help
GO_PACKAGES := ./...
DATA ?= .tenure

help: ## say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /	/' | expand -t 12

setup:
	@scripts/setup postgres:postgresql

build: ## build bin/tenure
	@go build -trimpath -o bin/tenure ./cmd/tenure

run: setup build ## start the whole system with demo tenants; Ctrl-C stops it
	@exec bin/tenure dev --demo --data $(DATA)

test: setup ## every test, with the race detector
	@scripts/setup rabbitmq-server:rabbitmq-server
	@go test -race -timeout 15m -p 2 $(GO_PACKAGES)

image: ## build the image tenure
	@scripts/image

containers: ## the suites on containers, and compose.yml; starts dockerd if no engine answers
	@scripts/containers

verify: ## formatting, vet, linter, generated files, module files
	@scripts/verify

generate: ## make what gqlgen and protobuf generate anew
	@scripts/setup protoc:protobuf-compiler
	@agent/protocol/generate.sh
	@adapters/eventnode/operations/generate.sh
	@go tool gqlgen generate

bench: setup build ## the figures of docs/benchmarks.md
	@scripts/bench

soak: setup build ## long suites: kill -9 of the system and of the node, linearizability, repetitions, scale, damage
	@TENURE_SOAK=1 go test -timeout 180m -run 'Soak|Kill' -v ./integration
	@TENURE_SOAK=1 go test -timeout 30m -run TestDamageIsNeverServed -v ./adapters/eventnode

.PHONY: help setup build run test image containers verify generate bench soak
