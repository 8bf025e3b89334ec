# `make help` says what there is. Everything runs without root; the tools come with the clone.

SHELL         := bash
.SHELLFLAGS   := -euo pipefail -c
.DEFAULT_GOAL := help

GO    ?= go
TOOL  := $(GO) tool -modfile=tools/go.mod
BIN   := bin/deputy
DATA  := .deputy
# Stamp the commit into the binary, but build outside a repository too, or in somebody else's.
VCS   := $(shell git status >/dev/null 2>&1 && echo auto || echo false)

FUZZTIME     ?= 60s
BENCHTIME    ?= 1s
BENCH_RUNS   ?= 3
RACE_COUNT   ?= 5
FAULT_ROUNDS ?= 20
# Packages tested at once: most of their tests wait for elections and leases, so more of them fit than there are cores.
TEST_PACKAGES ?= 4
# Those that take longest begin first, or the last of them would run alone at the end.
LONGEST := ./server/ ./cluster/ ./api/ ./client/ ./internal/interop/
FAULT_NODES  ?= 3
ROBUST_ROUNDS ?=
ROBUST_RUN   ?= .
LONG_FUZZ    ?= 20m
LONG_ROUNDS  ?= 300
LONG_RACE    ?= 50

# Whole clusters in virtual time under seeded faults.
SIM_SCHEDULES ?= 10000
SIM_SEED      ?= $(shell date +%s)

# Random chains for the properties of delegation.
CHAINS ?= 100000

# Packages whose promise is about several goroutines or several nodes at once.
CONCURRENT := ./revocation/... ./proofs/... ./tokens/... ./fsm/... ./cluster/... ./api/... ./server/...

# The go command stamps nothing in a second worktree of a repository.
COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null | tr -d '\n' && (git diff --quiet HEAD 2>/dev/null || echo +changes))

.PHONY: build run test race cover fuzz fuzz-long bench microbench lint fmt check faults robustness sim chains mutants long clean help

build: ## build ./bin/deputy
	$(GO) build -trimpath -buildvcs=$(VCS) -ldflags '-X main.buildCommit=$(COMMIT)' -o $(BIN) ./cmd/deputy

run: build ## three nodes on this machine, step by step; Ctrl-C ends them, the data stays in ./.deputy
	@exec ./$(BIN) demo --dir $(DATA)

# `make lint` vets all packages, so the tests don't do it again. What one goroutine plays by itself is played less under
# the race detector, which has nothing to find in it; the lines after the first play all of it.
test: ## all tests with the race detector; three to five minutes on two cores, once all is compiled
	GORACE="atexit_sleep_ms=100 $(GORACE)" $(GO) test -race -vet=off -p $(TEST_PACKAGES) $(LONGEST) ./...
	$(GO) test -vet=off ./audit/ ./fsm/ ./policy/ ./revocation/ ./sessions/
	$(GO) test -vet=off -run 'Allocat|HundredThousandHandles|NobodySpeaks|FreshForHours|DenyFlood' ./api/ ./client/ ./cluster/

race: ## the concurrent packages over and over (RACE_COUNT=5) under the race detector
	$(GO) test -race -count=$(RACE_COUNT) $(CONCURRENT)

cover: ## coverage of the packages that hold the promises
	$(GO) test -cover ./tokens/ ./proofs/ ./revocation/ ./fsm/ ./policy/ ./cluster/ ./api/

fuzz: ## every fuzz target for FUZZTIME (60s) each
	@grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's|/[^/]*:func | |' | sort | \
	while read -r dir name; do \
		echo "== $$name in $$dir for $(FUZZTIME)"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s "$$dir" </dev/null; \
	done

fuzz-long: ## the same for LONG_FUZZ (20m) each
	@$(MAKE) --no-print-directory fuzz FUZZTIME=$(LONG_FUZZ)

# Latency has five runs of each in itself. It is measured as the kernel schedules everybody, and by realtime scheduling where
# that is allowed.
bench: build ## BENCH_RUNS (3) runs of each benchmark but of latency, and their figures into docs/performance.md; then a large store
	@rm -rf bin/bench && mkdir -p bin/bench
	@runs=$(BENCH_RUNS); by=; measure() { name=$$1; shift; for run in $$(seq $$runs); do \
		echo "== $$name, run $$run of $$runs"; \
		$$by ./$(BIN) bench "$$@" --json bin/bench/$$name-$$run.json --html bin/bench/$$name-$$run.html || \
			echo "$$name, run $$run: not as it should be, which the figures will say"; \
	done; }; \
	measure 1-mint mint --self; measure 2-policies mint --self --secret-only --policies 100; \
	measure 3-introspect introspect --self; measure 4-cold introspect --self --cold; \
	measure 6-writes writes; runs=1; measure 5-latency latency --self; \
	if chrt --rr 1 true; then by="chrt --rr 1"; measure 5-latency-realtime latency --self; \
	else echo "latency by realtime scheduling is left out: the line above says why"; fi
	./$(BIN) bench report bin/bench/*.json --combine --markdown --level 4 --into docs/performance.md
	./$(BIN) bench scale --agents 100000 --delegations 1000000

microbench: ## micro-benchmarks with allocations
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

lint: ## formatting, go vet, staticcheck
	@unformatted=$$($(TOOL) gofumpt -l .); \
	if [ -n "$$unformatted" ]; then echo "not formatted (make fmt does it):"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(TOOL) staticcheck ./...

fmt: ## format what is not
	$(TOOL) gofumpt -w .

check: lint test ## what a change must pass

faults: ## kill -9 of real nodes under load, joins, restarts (FAULT_ROUNDS=20, FAULT_NODES=3)
	DEPUTY_FAULTS=1 DEPUTY_FAULT_ROUNDS=$(FAULT_ROUNDS) DEPUTY_FAULT_NODES=$(FAULT_NODES) $(GO) test -count=1 -timeout 30m -v -run . ./internal/faults/

robustness: build ## partitions, pauses, loss, full disks against real nodes, as root (ROBUST_ROUNDS=full, ROBUST_RUN=Fence)
	@DEPUTY_ROBUSTNESS=1 DEPUTY_ROBUSTNESS_ROUNDS=$(ROBUST_ROUNDS) DEPUTY_BIN=$(abspath $(BIN)) \
	$(GO) test -count=1 -timeout 12h -v -run '$(ROBUST_RUN)' ./internal/faults/ | tee bin/robustness.log || failed=1; \
	echo; sed -n 's/^.*go:[0-9]*: == //p' bin/robustness.log; exit $${failed:-0}

sim: ## SIM_SCHEDULES (10000) clusters in virtual time under faults from SIM_SEED on, and one line of figures
	@cd internal/sim && DEPUTY_SIM_SCHEDULES=$(SIM_SCHEDULES) DEPUTY_SIM_SEED=$(SIM_SEED) $(GO) test -count=1 -timeout 12h -run TestPromisesHoldUnderFaults

chains: ## CHAINS (100000) random chains of agents: no hop widens, what is revoked kills exactly its descendants
	$(GO) test -count=1 -v -timeout 30m -run 'TestNoHopWidensAnything|TestRevokingAnAncestorKillsExactlyItsDescendants' ./policy ./tokens -rapid.checks=$(CHAINS)

mutants: ## ten safety rules broken on purpose, each of which the tests must notice
	@cd internal/mutants && DEPUTY_MUTANTS=1 $(GO) test -count=1 -timeout 2h -run TestEveryMutantIsCaught

long: ## hours: faults (LONG_ROUNDS), races (LONG_RACE), fuzzing (LONG_FUZZ), scale
	DEPUTY_FAULTS=1 DEPUTY_FAULT_ROUNDS=$(LONG_ROUNDS) $(GO) test -count=1 -timeout 12h -v ./internal/faults/
	$(GO) test -race -count=$(LONG_RACE) -timeout 12h $(CONCURRENT)
	@$(MAKE) --no-print-directory fuzz-long bench

clean: ## remove ./bin and the demo's data in ./.deputy
	rm -rf bin $(DATA)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
