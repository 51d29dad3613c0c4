# The few commands a person types. `make test` and `make demo` install what they need themselves.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
export PATH := $(HOME)/.cargo/bin:$(PATH)
.PHONY: help setup build check test demo bench

help:
	@echo "make demo    build, start a whole service, sign an image, verify it with real clients, play the attacker"
	@echo "make test    all tests"
	@echo "make check   format, lints, documentation, layering, licences"
	@echo "make bench   signatures per second, and what each one costs"

setup:
	@tests/setup.sh

build: setup
	@echo "== building (a first build takes about four minutes on two cores)"
	cargo build --workspace --bins
	cargo build -p hsm-sim-pkcs11

check: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check bans licenses sources; \
	else echo "SKIPPED: cargo-deny is not installed (cargo install --locked cargo-deny): licences and sources were not checked"; fi

test: build
	cargo test --workspace --no-fail-fast

demo: build
	tests/demo/demo.sh

bench: build
	cargo run -q -p tests --bin bench
