# make help lists the targets. Tests, demo and deps need root.

SHELL := /bin/bash
GO ?= go
# Build outputs; a read-only checkout builds into the user's cache.
BIN ?= $(shell if test -w .; then echo bin; else echo "$${XDG_CACHE_HOME:-$$HOME/.cache}/zklvs/bin"; fi)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOLANGCI_LINT_VERSION := v2.15.0
GOLANGCI_LINT := $(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION)
# The checkout may belong to another user, whose repository git does not read.
export GOFLAGS := -buildvcs=false $(GOFLAGS)
WITH_IPVS := $(CURDIR)/deploy/kernel/with-ipvs
# Tests named TestKernel... need root and a kernel with namespaces and IPVS.
KERNEL_PACKAGES = $(shell grep -rlE --include='*_test.go' '^func TestKernel' . | xargs -r -n1 dirname | sort -u)

.DEFAULT_GOAL := help
.PHONY: help deps build demo nemesis nemesis-run test vet test-unit test-kernel sim model bench lint fmt clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install the packages that tests and demo need (apt, as root)
	@deploy/install-deps

build: ## build the zklvs program into bin/
	@mkdir -p '$(BIN)'
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o '$(BIN)/zklvs' ./cmd/zklvs

demo: deps build ## show the main job, step by step, in a network of namespaces
	@'$(WITH_IPVS)' '$(abspath $(BIN))/zklvs' lab demo

# NEMESIS takes options of `zklvs lab nemesis`, REPORT is where nemesis-run puts its report.
NEMESIS ?= --faults 120
REPORT ?= /tmp/nemesis
NEMESIS_RUN = mkdir -p '$(1)' && ZKLVS_OUT='$(abspath $(1))' '$(WITH_IPVS)' '$(abspath $(BIN))/zklvs' lab nemesis --report '$(abspath $(1))' $(2) $(NEMESIS)
# A lease of 1 s needs the machine's own processors: in user-mode Linux three JVMs and all else share one.
nemesis: deps build ## break a cluster in 120 ways, and again with IPVS; reports in docs/nemesis
	@export ZKLVS_KERNEL=host; $(call NEMESIS_RUN,docs/nemesis,--lease 1s)
	@export ZKLVS_KERNEL=host; $(call NEMESIS_RUN,docs/nemesis/outage,--lease 1s) --kinds zk-outage,zk-outage-death --faults 2
	@$(call NEMESIS_RUN,docs/nemesis/ipvs,--lease 3s --request-interval 50ms)

nemesis-run: deps build ## one such run: ZKLVS_KERNEL=host REPORT=DIR NEMESIS='--seed 2 --only 17'
	@$(call NEMESIS_RUN,$(REPORT),)

test: deps vet test-unit test-kernel ## run every test

vet:
	$(GO) vet ./...

test-unit: ## run the tests that run on any kernel, with the race detector
	@.ci/go-test -race -timeout 6m -skip '^TestKernel' ./...

# One at a time: leases of seconds are at stake, on machines with two cores.
test-kernel: ## run the tests that need root and IPVS, in a kernel that has it
	@$(if $(KERNEL_PACKAGES),.ci/go-test --no-skips -count=1 -p 1 -timeout 15m -exec '"$(WITH_IPVS)"' -run '^TestKernel' $(KERNEL_PACKAGES),echo 'no kernel tests')

# SCHEDULES=n plays another number of them; docs/SAFETY.md tells how to replay one.
SCHEDULES ?= 1000000
sim: ## play a million schedules of directors and guards, and the mutants that must fall
	@ZKLVS_SCHEDULES=$(SCHEDULES) $(GO) test -count=1 -timeout 15m -v -run '^TestSchedules$$' ./internal/sim
	@ZKLVS_MUTANTS=all $(GO) test -count=1 -timeout 15m -v -run '^TestMutants' ./internal/sim

model: deps ## check the formal model of the election (QUICK=1: smaller bounds, two minutes)
	@docs/model/check $(if $(QUICK),--quick)

bench: deps build ## measure beside keepalived into docs/benchmarks (SECTION=name, RUNS=n), 100 minutes
	CGO_ENABLED=0 $(GO) build -trimpath -o '$(BIN)/zklvs-bench' ./internal/bench/zklvs-bench
	@'$(abspath $(BIN))/zklvs-bench' -zklvs '$(abspath $(BIN))/zklvs' -with-ipvs '$(WITH_IPVS)' \
		$(if $(SECTION),-section '$(SECTION)') $(if $(RUNS),-runs '$(RUNS)') $(BENCH)

lint: $(GOLANGCI_LINT) ## run golangci-lint
	'$(GOLANGCI_LINT)' run ./...

$(GOLANGCI_LINT):
	@mkdir -p '$(BIN)'
	GOBIN='$(abspath $(BIN))' $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@mv '$(BIN)/golangci-lint' '$@'

fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

clean: ## remove build outputs
	rm -rf '$(BIN)'
