#!/usr/bin/env bash
# Fetches the judges of the log that Debian has and this release has not (tests/tests/interop): once a machine, into a folder
# that survives fresh clones, each file checked by its SHA-256. Does nothing when all of them are there. A machine that cannot
# have one gets a note, and its tests say SKIPPED.
set -euo pipefail

tools=${CHANCERY_TOOLS:-$HOME/.cache/chancery-tools}
archive=http://deb.debian.org/debian/pool/main
work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

# judge FOLDER SHA256 FILE: the package unpacked in a folder of its own, which appears when it is whole
judge() {
  local folder=$1 sha256=$2 file=$3
  if [ "$(cat "$tools/$folder/sha256" 2>/dev/null)" = "$sha256" ]; then return; fi
  echo "== unpacking Debian's $(basename "$file") into $tools/$folder"
  work=$(mktemp -d -p "$tools")
  if curl -sSfL --retry 2 --max-time 300 -o "$work/deb" "$archive/$file" &&
    echo "$sha256  $work/deb" | sha256sum --check --quiet && dpkg-deb -x "$work/deb" "$work/whole"; then
    dpkg-deb -f "$work/deb" Version >"$work/whole/version"
    echo "$sha256" >"$work/whole/sha256"
    rm -rf "${tools:?}/$folder"
    mv "$work/whole" "$tools/$folder"
  else
    echo "note: not to be had here: $file; its tests will say SKIPPED" >&2
  fi
  rm -rf "$work"
  work=
}

mkdir -p "$tools"
if [ "$(dpkg --print-architecture)" != amd64 ]; then
  echo "note: the judges of the log are pinned for amd64; their tests will say SKIPPED" >&2
  exit 0
fi
# The oldest cosign that is still installed widely (Debian 13), and the newest.
judge cosign-2.5.0 3b6eadd27f3c4c00bfa7eab5c2397a6a15a763630c7a1d40d06ff60d24799eef c/cosign/cosign_2.5.0-2+b5_amd64.deb
judge cosign-3.1.1 d8622ebffce1d69197288fc030ff06a4c247af5507107f85c5a878870b686b23 c/cosign/cosign_3.1.1-2_amd64.deb
# A witness.
judge torchwood 1b5791fccfb96dac2609cb66aa727839ac4eca2db2d7b14e5882f5fa9c35fcb2 t/torchwood/torchwood_0.9.0-6_amd64.deb
