#!/usr/bin/env bash
# Runs all tests, shows their output as it comes, and ends with one line that counts them, the skipped ones too.
set -uo pipefail
cd "$(dirname "$0")/.."
log=target/test.log
# The rows of the matrix are this run's alone.
rm -rf target/matrix
cargo test --workspace --no-fail-fast "$@" 2>&1 | tee "$log"
status=$?
# A test that runs itself as a child prints a result of its own, with all others filtered out: it counts once.
sum() { awk -v word="$1" '/^test result:/ && / 0 filtered out/ { for (i = 2; i <= NF; i++) if ($i ~ "^" word) n += $(i - 1) } END { print n + 0 }' "$log"; }
if [ -d target/matrix ]; then
  echo "== modules (docs/hardware.md says what the columns mean)"
  echo "| module | version | keys by | back in its slot | plugged in again | signatures | lost in the act | feared lost | keeper's exits | result |"
  echo "|---|---|---|---|---|---|---|---|---|---|"
  cat target/matrix/*
fi
skipped=$(grep -c '^SKIPPED: ' "$log")
if [ "$skipped" -gt 0 ]; then
  echo "== skipped, and why"
  grep '^SKIPPED: ' "$log" | sort | uniq -c
fi
echo "$(sum passed) passed, $(sum failed) failed, $skipped skipped"
exit $status
