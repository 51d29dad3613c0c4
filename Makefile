# The few commands a person types. `make test` and `make demo` install what they need themselves.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
export PATH := $(HOME)/.cargo/bin:$(CURDIR)/target/tools/bin:$(PATH)
.PHONY: help setup build check test demo bench faults faults-disk crash hardware interop-log

help:
	@echo "make demo    build, start a whole service, sign an image, verify it with real clients, play the attacker"
	@echo "make test    all tests"
	@echo "make check   format, lints, documentation, layering, licences"
	@echo "make faults  10 000 signatures under random faults of the token, then its journal against the log (N=.. SEED=..)"
	@echo "make faults-disk  every write and sync of a request fails, with EIO, ENOSPC, EDQUOT and EROFS: what is sealed, what goes on"
	@echo "make interop-log  other people's programs (cosign, litewitness, Tessera's fsck, sigstore-verify) judge the log"
	@echo "make crash   1 000 kills, a kill at every file-system call of a request, 1 000 power cuts (as root): nothing is lost (N=.. SEED=..)"
	@echo "make hardware  ykman's own device tests against the virtual YubiKey"
	@echo "make bench   signatures per second, and what each one, a decision and a large log cost, of the release build (GROWTH=entries)"

setup:
	@tests/setup.sh

build: setup
	@echo "== building (a first build takes about four minutes on two cores)"
	cargo build --workspace --bins
	cargo build -p hsm-sim-pkcs11

check:
	@tests/setup.sh judges
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
	cargo test -q --workspace --test layering
	cargo deny --offline check bans licenses sources

test: build
	@tests/setup.sh modules
	@tests/setup.sh interop
	tests/run.sh

demo: build
	tests/demo/demo.sh

bench: setup
	@echo "== building for release (a first build takes about ten minutes on two cores)"
	cargo build --release --workspace --bins
	cargo build --release -p hsm-sim-pkcs11
	GROWTH=$(or $(GROWTH),100000) target/release/bench

hardware: build
	@tests/setup.sh hardware
	hsm-sim/yubikey/ykman.sh

# Every call that a request makes on durable state, with each of four errors; with N=.. every sync and N of the writes.
faults-disk: build
	CHANCERY_DISK_FAULTS=$(or $(N),all) cargo test --workspace --test sealing -- --nocapture --test-threads=1

interop-log: build
	@tests/setup.sh interop all
	tests/interop/log.sh

faults: build
	target/debug/faultrun $(or $(N),10000) $(SEED)

crash: build
	target/debug/crash all $(or $(N),1000) $(SEED)
