# `make help` lists the targets. Only Rust is needed for those that do not say otherwise.

CALLS ?= 50,300
SECONDS ?= 20
RATE ?= 200
MINUTES ?= 60

TARGET := $(or $(CARGO_TARGET_DIR),target)
TOOLS := target/tools
RELEASE := $(TARGET)/release
CARGO_BUILD := cargo build --locked --release

CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(TOOLS)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny
BUF_VERSION := 1.75.0
BUF := $(TOOLS)/buf-$(BUF_VERSION)/node_modules/.bin/buf
COMPOSE = $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

.DEFAULT_GOAL := help
.PHONY: help demo run test check fmt clippy doc deny benches fuzz pair bench bench-edge bench-dsp bench-vad proof captures up down containers twilio-python schemathesis metrics k8s traces speech browser proto-lint buf grpc neighbours scale bench-telemetry bench-tls bench-talk bench-remote remote

help: ## What can be done
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# One build each: together, cargo would give each service the features that only the other one asks for.
pair: ## Build both services, optimised
	$(CARGO_BUILD) -p audio-worker --bin audio-worker
	$(CARGO_BUILD) -p gateway --bin gateway

demo: pair ## Start the pair, place a simulated call, show what was heard, stop
	$(CARGO_BUILD) -p tests --bin demo
	$(RELEASE)/demo

run: pair ## Start the pair and keep it up, for calls and a phone of yours (settings: .env, see .env.example)
	$(CARGO_BUILD) -p tests --bin demo --bin simulated-twilio
	$(RELEASE)/demo --stay

test: ## Every test that needs only Rust
	cargo test --locked --workspace --no-fail-fast

check: fmt clippy doc test deny benches fuzz ## What must pass before a change is merged (fetches cargo-deny)

fmt: ## Is everything formatted?
	cargo fmt --all --check

clippy: ## Lints of all targets, warnings denied
	cargo clippy --locked --workspace --all-targets -- -D warnings

doc: ## Documentation, private items included, warnings denied
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --workspace --no-deps --document-private-items

deny: $(CARGO_DENY) ## Dependencies: versions, licences, sources (fetches cargo-deny)
	$(CARGO_DENY) --locked check -D unmatched-skip -D unnecessary-skip -D license-not-encountered \
		bans licenses sources

benches: ## Do the benchmarks still build?
	cargo build --locked --workspace --benches

fuzz: ## Do the fuzz targets still build?
	@if [ -f tests/fuzz/Cargo.toml ]; then set -x; cargo check --locked --manifest-path tests/fuzz/Cargo.toml; \
		else echo "there is no tests/fuzz"; fi

bench: pair ## Load the pair: CALLS=50,300 at once for SECONDS=20 each
	$(CARGO_BUILD) -p tests --bin bench
	$(RELEASE)/bench --calls $(CALLS) --seconds $(SECONDS)

bench-edge: pair ## Webhooks at RATE=200 a second, setup and the list of calls beside CALLS=200 calls
	$(CARGO_BUILD) -p tests --bin bench
	$(RELEASE)/bench --edge --calls $(CALLS) --rate $(RATE) --seconds $(SECONDS)

bench-edge: CALLS = 200

bench-telemetry: pair ## What 1 % of traces and scrapes every 5 s cost, by turns without and with them
	$(CARGO_BUILD) -p tests --bin bench
	$(RELEASE)/bench --compare telemetry --calls $(CALLS) --seconds $(SECONDS)

bench-tls: pair ## What mutual TLS between the pair costs, likewise
	$(CARGO_BUILD) -p tests --bin bench
	$(RELEASE)/bench --compare mutual-tls --calls $(CALLS) --seconds $(SECONDS)

bench-remote: pair ## What an agent that is a service of its own adds to the echo path, likewise
	$(CARGO_BUILD) -p tests --bin bench --example agent
	$(RELEASE)/bench --compare remote-agent --calls $(CALLS) --seconds $(SECONDS)

bench-telemetry bench-tls: CALLS = 300
bench-remote: CALLS = 1,50

bench-dsp: ## Nanoseconds of the signal path per frame of 20 ms
	cargo bench --locked -p audio-worker --bench dsp

bench-vad: ## How well the ears tell speech from noise, and what that costs
	$(CARGO_BUILD) -p tests --bin bench-vad
	$(RELEASE)/bench-vad

bench-talk: pair ## How soon agents answer, how often they cut callers off, how soon they stop when interrupted
	$(CARGO_BUILD) -p tests --bin bench-talk
	$(RELEASE)/bench-talk

proof: pair ## Load the pair for long: CALLS=50,300 at once, the last for MINUTES=60; memory must stay flat
	$(CARGO_BUILD) -p tests --bin bench
	$(RELEASE)/bench --calls $(CALLS) --soak-minutes $(MINUTES)
	cargo test --locked -p tests --test interruptions -- --ignored

captures: ## Make the captured calls in tests/captures anew (then read what changed)
	cargo test --locked -p tests --test replay -- --ignored --exact make_the_captures

up: ## Start the pair in containers (needs docker)
	$(COMPOSE) up --build -d

down: ## Stop it
	$(COMPOSE) down

containers: ## Test the images: calls through one and three workers (needs docker; as root, installs it)
	.ci/containers

scale: ## Of that test only the part in which workers come and go under calls
	.ci/containers scale

twilio-python: ## Twilio's own Python library against the simulated Twilio and the gateway (needs python3; fetches it)
	.ci/twilio-python

schemathesis: ## Requests made up from the description of the calls API (needs python3; fetches it)
	.ci/schemathesis

metrics: ## Alerts, dashboards and a real Prometheus against the pair (needs prometheus, python3 and openssl)
	.ci/metrics

k8s: ## Render and check deploy/k8s, and the check itself (needs python3 and kubectl; fetches them)
	.ci/k8s

traces: ## The trace of a call, through a real collector into a real store (needs python3; fetches both, 1 GB)
	.ci/traces

speech: ## Calls that are really spoken and understood (needs flite, sox and python3; fetches a recogniser)
	.ci/speech

browser: ## A spoken call in a real browser, and screenshots of its page (needs chromium, flite, sox and python3)
	.ci/browser

grpc: ## gRPC clients of two other makes against the worker (needs npm and python3; fetches both clients)
	.ci/grpc

remote: ## Remote agents in Python against the conformance test (needs python3; fetches grpcio and pipecat)
	.ci/remote

neighbours: ## Calls through this pair and an earlier one, mixed: REVISION=v1.2.3, or the newest release before this
	.ci/neighbours

proto-lint: $(BUF) ## Lint the contract, compare it with the last release's (fetches buf; needs npm)
	$(BUF) lint
	.ci/breaking

buf: $(BUF)
	@echo $(BUF)

# Unoptimised: it is built once and runs for seconds.
$(CARGO_DENY):
	cargo install --locked --debug --root $(TOOLS)/cargo-deny-$(CARGO_DENY_VERSION) \
		--target-dir $(TARGET)/cargo-deny cargo-deny@$(CARGO_DENY_VERSION)
	rm -rf $(TARGET)/cargo-deny

$(BUF):
	npm install --loglevel=error --no-audit --no-fund --prefix $(TOOLS)/buf-$(BUF_VERSION) @bufbuild/buf@$(BUF_VERSION) >&2
