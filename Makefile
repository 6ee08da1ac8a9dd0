# What there is to do here. Each target is a line or two: what CI runs is what
# a person runs.

version := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
ldflags := -s -w -X main.version=$(version)

build: ## the binary, static, in bin/
	CGO_ENABLED=0 go build -trimpath -ldflags '$(ldflags)' -o bin/barnabas ./cmd/barnabas

dist: ## what the image is made of where it is not compiled in the image
	mkdir -p dist/data
	CGO_ENABLED=0 go build -trimpath -ldflags '$(ldflags)' -o dist/barnabas ./cmd/barnabas
	cp /etc/ssl/certs/ca-certificates.crt dist/
	echo 'barnabas:x:65532:65532::/data:/' >dist/passwd

demo: build ## everything in one process, ending with a proof; needs nothing but Go
	bin/barnabas demo

test: ## all tests, with real Kafka and Docker where they can be had
	.ci/test

check: ## format, vet, lint, vulnerabilities
	.ci/check

sim: ## long simulation of clusters: SEEDS=100000, or SEED=n to replay one
	go test ./worker/herder -count=1 -timeout 24h -v -run Simulation -sim.seeds=$(or $(SEEDS),100000) $(if $(SEED),-sim.seed=$(SEED))

bench: build kafka ## against MirrorMaker 2: QUICK=1 (4 minutes); PROFILES= PARTS= WITHOUT= RECORDS= SECONDS= DIR= PPROF=, see bin/bench -h; RESULTS=1
	go build -o bin/bench ./bench
	bin/bench -results bench/RESULTS.md $(if $(QUICK),-quick) $(if $(RESULTS),-keep) $(foreach o,profiles parts without records seconds dir pprof,$(call option,$o))

# option NAME: -name VALUE, if the variable NAME in capitals has a value.
option = $(if $($(call capitals,$1)),-$1 '$($(call capitals,$1))')
capitals = $(shell echo $1 | tr a-z A-Z)

up: ## two Kafka clusters and three workers with docker compose
	docker/up

down: ## stop what make up has started, and forget its data
	docker/down

kafka: ## jars of Kafka, Connect and MirrorMaker 2 for the tests, in .cache/
	.ci/kafka

vault: ## a Vault server for the tests, in .cache/
	.ci/vault

kube: ## a Kubernetes API server for the tests, in .cache/
	.ci/kube

clients: ## clients of the REST API from PyPI, npm and Maven Central for the tests, in .cache/
	.ci/clients

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

.PHONY: build dist demo test check sim bench up down kafka clients vault kube help
