# Everything for people and CI: `make demo`, `make test`, `make lab`. Each target does all the set-up that it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

setup := tests/lab/setup

.PHONY: help
help: ## Show the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: demo
demo: tools build ## A good canary is promoted, two bad ones are reverted in Git: the whole loop, live, in 3 minutes.
	@target/debug/lab demo

.PHONY: test
test: ## Formatting, lints, licences, unit, doc and end-to-end tests, with the time of each.
	@tests/run.sh

.PHONY: test-images
test-images: tools ## As `make test` does, but with the programs of a release, whose images have to be small. 10 to 20 minutes.
	@tests/images/run.sh

.PHONY: test-linkerd
test-linkerd: tools build ## The end-to-end stories over real proxies: LINKERD_PROXY=/path/to/linkerd2-proxy, as root. Without it over the stand-in.
	@tests/linkerd.sh

.PHONY: test-argocd
test-argocd: tools build ## The story of Serin beside the real Argo CD: ARGOCD_BIN=/path/to/argocd. Without it beside the stand-in.
	@tests/argocd.sh

.PHONY: lab
lab: tools build ## Leave the lab running; prints how to reach it. Ctrl-C ends it.
	@target/debug/lab up

.PHONY: sim
sim: ## The analysis beside its peers' rules, by Monte Carlo, and its bars; writes target/sim and docs/analysis.md. 5 minutes.
	@cargo run --release --quiet -p serin-core --example sim -- $(or $(REPETITIONS),1000) target/sim docs

.PHONY: model
model: ## The state machine explored with larger bounds than in `make test`: faults and people together. 10 to 30 minutes.
	@cargo test --quiet -p serin-core --test model -- --ignored --nocapture --test-threads=1

.PHONY: chaos
chaos: tools build ## ROUNDS=200 faults from SEED=1 on, while revisions arrive; witnesses judge the invariants. 10 minutes.
	@CHAOS_SEED=$(or $(SEED),1) CHAOS_ROUNDS=$(or $(ROUNDS),200) cargo test --quiet --workspace --test e2e -- --ignored chaos

.PHONY: fuzz
fuzz: ## All that comes from outside, as libFuzzer makes it up: FUZZ_SECONDS=60 for each target. 10 minutes, half of it to build.
	@tests/fuzz.sh

.PHONY: bench-git
bench-git: ## 30 rollbacks in a repository of 20,000 commits and 2,000 rollouts, singly and together; writes target/bench/git.json.
	@cargo bench --quiet --workspace --profile dev --bench git # the time is git's

.PHONY: bench-tick
bench-tick: ## What a tick of one rollout with three metrics costs, and its bar of 5 µs; writes target/bench/tick.json. 1 minute.
	@cargo bench --quiet -p serin-core --bench tick

.PHONY: bench-scale
bench-scale: tools ## 100, 1,000 and 10,000 rollouts on one controller, and its bars; writes target/bench/scale.json and a picture. 40 minutes.
	@cargo build --quiet --release --workspace --bin serin
	@cargo bench --quiet --workspace --profile dev --bench scale # what is measured is the program of the release

.PHONY: soak
soak: tools ## Rollouts that end again and again, for MINUTES=10 or until FINISHED=50000; writes target/bench/soak.json, fails where something grows.
	@cargo build --quiet --release --workspace --bin serin
	@cargo bench --quiet --workspace --profile dev --bench scale -- soak

.PHONY: bench-service
bench-service: ## GetUser on SQLite and PostgreSQL beside a bare tonic echo, memory and cold start, with bars; writes target/bench/service.json.
	@cargo bench --quiet -p user-service --bench service

.PHONY: build
build: ## Build all programs.
	@cargo build --workspace --bins

.PHONY: tools
tools: ## Install or build what the lab needs into the cache.
	@$(setup)/all.sh >/dev/null

.PHONY: generate
generate: ## Write the files that are generated from code.
	@mkdir -p crds
	@cargo run --quiet -p serin -- crd >target/canaryrollouts.serin.dev.yaml
	@mv target/canaryrollouts.serin.dev.yaml crds/
	@cargo run --quiet -p serin-tests --bin lab -- reference >target/reference.md
	@mv target/reference.md docs/
	@deploy/render-install.sh "$$($(setup)/helm-kubectl.sh | sed -n 1p)" >target/install.yaml
	@mv target/install.yaml deploy/

.PHONY: fmt
fmt: ## Format the code.
	@cargo fmt --all
