#!/usr/bin/env bash
# `make interop-log`: lets other people's programs judge the log, prints what each said, and writes that to docs/interop-log.md.
# The last line counts the rows, the skipped judges too.
set -uo pipefail
cd "$(dirname "$0")/../.."
rows=target/interop
page=docs/interop-log.md
rm -rf "$rows"
log=$(mktemp)
shown=$(mktemp)
trap 'rm -f "$log" "$shown"' EXIT
cargo test --workspace --test interop -- --include-ignored 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
# Oracles of the pure crate: roots, proofs and notes of random trees, and a public log's cosignatures.
cargo test --workspace --test judged 2>&1 | tee -a "$log"
[ "${PIPESTATUS[0]}" = 0 ] || status=1
version() { sed -n "/^name = \"$1\"$/{n;s/version = \"\(.*\)\"/\1/p}" Cargo.lock; }
# cosign is asked so by its tests; they cannot say it here, since what a test that passes prints is not shown.
if unshare -n true 2>/dev/null; then
  network="Both ran in an empty network namespace."
else
  network="Both ran with the network there: no network namespace could be made."
fi
judged=$(sed -n 's/^test result: ok\. \([0-9]*\) passed.*/\1/p' "$log" | tail -n 1)
{
  cat <<HEAD
# What other people's programs say of the log

Written by \`make interop-log\` on $(date -u +%F). Each row shows a judge one thing over a live service's log: the control as it is,
then the same with one thing altered. A refusal counts only if its words are about that thing. [Stock clients](how-to/stock-clients.md)
says how users make cosign enforce the log.

- \`SET\` rows: cosign asked with \`SIGSTORE_REKOR_PUBLIC_KEY\` and an older bundle; \`bundle\` rows: with \`--trusted-root\` and a Sigstore
  bundle. $network
- cosign makes the log's entry anew from signature, digest and key, and takes size and root from the signed checkpoint. The copies
  beside them in a bundle it does not read: altering those proves nothing, and hides nothing. So its entry is altered in a log of the
  test's own, whose checkpoint and proof cover the altered entry.
- sigstore-verify shares no code with cosign. Besides its rows it is asked about generated bundles: an entry anywhere in a log of up
  to 600, five of six with one bit flipped in proof, checkpoint or entry; each time it says what \`tlog\` says.
  Not flipped is the name of the checkpoint's signer, which it does not read: the key's id behind it counts.
- torchwood's litewitness is asked by messages of the test, right ones and wrong ones, and then by a service that has it in its policy.
- ct-merkle $(version ct-merkle), tlog_tiles $(version tlog_tiles) and signed_note $(version signed_note) agree with \`tlog\` on roots, proofs and notes of random trees; its
  cosignatures are held against a public log's checkpoint with four public witnesses: ${judged:-0} tests (\`signer/tlog/tests/judged\`).

| judge | shown | must | did | |
|---|---|---|---|---|
HEAD
  [ ! -d "$rows" ] || cat "$rows"/*
} >"$shown"
sed -n '/^| judge/,$p' "$shown"
good=$(grep -c '| as it must |$' "$shown")
wrong=$(grep -c '| WRONG |$' "$shown")
skipped=$(grep -c 'SKIPPED: ' "$shown")
if [ "$good" -gt 0 ]; then
  cat "$shown" >"$page"
else
  echo "no judge has judged anything: $page stays as it was"
  status=1
fi
echo "$good passed, $wrong failed, $skipped skipped"
[ "$wrong" = 0 ] || status=1
exit "$status"
