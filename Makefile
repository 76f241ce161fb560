# The commands of this project. scripts/setup installs what a target needs; `cargo xtask` or a script in scripts/ does the work.

# cargo may not be on PATH yet if no shell start-up file has run. `scripts/toolchain` spares a download where it can.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
ifndef RUSTUP_TOOLCHAIN
export RUSTUP_TOOLCHAIN := $(shell scripts/toolchain)
endif

.PHONY: help run try test clients check wasm native envoy bench bench-propagation bench-xds bench-store dist clean
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

run: ## Run Sandgate here: control plane, demo sandboxes, Envoy on localhost:9443 and 9444
	@scripts/setup build envoy
	@# The sandbox behind a sidecar needs root and more packages. Without them, the run says what is missing.
	@[ "$$(id -u)" != 0 ] || scripts/setup sidecar || true
	@exec scripts/run

try: ## Run every command that `make run` prints and docs/tour.md has, against a run of its own
	@scripts/setup build envoy
	@[ "$$(id -u)" != 0 ] || scripts/setup sidecar || true
	@exec scripts/try --own

test: ## Run all tests; says at the end what ran and what did not
	@scripts/setup build nextest envoy venv clients postgres deploy
	@exec cargo xtask test

clients: ## Test with the clients that users have, unmodified: SDKs, tl, curl, grpcio, a browser
	@scripts/setup build envoy clients
	@exec scripts/clients

check: ## Format, clippy (native and wasm), docs, licences, Envoy's view of its configuration
	@scripts/setup build envoy check
	@exec cargo xtask check

wasm: ## Build the Envoy filters as wasm modules into target/filters/
	@scripts/setup build
	@exec cargo xtask wasm

native: ## Build both filters as a dynamic module into target/filters/
	@scripts/setup build
	@exec cargo xtask native

envoy: ## Get Envoy 1.40 and print where it is
	@scripts/setup build envoy
	@exec scripts/envoy

bench: ## Measure Sandgate beside its alternatives and write docs/benchmarks.md; ONLY=ingress ROUNDS=3 for a part, KEEP=1 to keep it there
	@scripts/setup build envoy bench
	@[ "$$(id -u)" != 0 ] || scripts/setup sidecar
	@exec cargo xtask bench $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(KEEP),--keep)

dist: ## Build a release into target/dist/; with ENVOY_IMAGE=name:tag@sha256:... also the container images
	@scripts/setup build
	@exec cargo xtask dist $(if $(ENVOY_IMAGE),--envoy-image $(ENVOY_IMAGE))

bench-propagation: ## Measure the time from an owner's change to its enforcement by 20 Envoys and two control planes
	@scripts/setup build envoy postgres
	@exec cargo xtask bench-fleet propagation

bench-xds: ## Measure one xDS server with 10,000 nodes
	@scripts/setup build envoy
	@exec cargo xtask bench-fleet xds

bench-store: ## Measure each store with 1,000,000 sandboxes
	@scripts/setup build envoy postgres
	@exec cargo xtask bench-fleet store

clean: ## Remove all that these targets made: target/, .sandgate/, .cache/
	@exec scripts/clean
