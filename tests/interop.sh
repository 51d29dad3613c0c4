#!/usr/bin/env bash
# Fetches the judges of the log that Debian has and this release has not (tests/tests/interop): once a machine, into a folder
# that survives fresh clones, each file checked by its SHA-256. Does nothing when all of them are there. A machine that cannot
# have one gets a note, and its tests say SKIPPED. With `all` it also builds the judge that only `make interop-log` asks.
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

# What Tessera's fsck is built from: Go, and the packages that its imports lead to.
go_packages=(
  "0f1ab6483c3db98118aa1faf0365c368b5c07f2e449d8d8f3eba432004b5eee2 g/golang-1.27/golang-1.27-go_1.27.3-1_amd64.deb"
  "a0a57e5e8c815b6deddaf007156594ccb3d8d08c9627303f4ae95eb9a9cba2c7 g/golang-1.27/golang-1.27-src_1.27.3-1_all.deb"
  "8dc5ab3b29ef0e797783e0723d600d7272bdbd9828714b712ff7bb1ae5fb1d1d g/golang-github-transparency-dev-tessera/golang-github-transparency-dev-tessera-dev_1.0.4-2_all.deb"
  "e130647d89e84fb52cc76e80155a0abef2a693a40ec9e8e2d6cac727ffb3fdcd g/golang-github-transparency-dev-formats/golang-github-transparency-dev-formats-dev_0.0%7egit20260209.0f2e7b6-1_all.deb"
  "0964cfbaf1f458e09cb655284a2a1dddbcaf120e7225b02fc3e0a01b4bae82e1 g/golang-github-transparency-dev-merkle/golang-github-transparency-dev-merkle-dev_0.0.2-2_all.deb"
  "95830956f8b95f6341c7b9cb818e9a7d681eb0abbe9ed5cf132b895ba279aced g/golang-golang-x-mod/golang-golang-x-mod-dev_0.42.0-1_all.deb"
  "e4334d4e9f607f5f2ea32fcaa4f8ed7ff01d5a1277a4bea8b43f41d4f43d98b4 g/golang-golang-x-sync/golang-golang-x-sync-dev_0.24.0-1_all.deb"
  "2f584fd262bfc5feee8f37429088b1bcf380181ee143ca4825de609cc3c12a10 g/golang-go.crypto/golang-golang-x-crypto-dev_0.58.0-1_all.deb"
  "4d759f69efca831b7c0680b3de298df1eebc1a7374747976c23df7e4ad7657b4 g/golang-golang-x-sys/golang-golang-x-sys-dev_0.49.0%2bdfsg-1_all.deb"
  "49847276d9f75a2ff5c8e24d368a79e79ece289b66c521d4a4fc7976f5eea979 g/golang-k8s-klog/golang-k8s-klog-dev_2.140.0-5_all.deb"
  "a5a6f929de397e028d0dd87f25101b06a42429c825737c77f9e88401ec04e708 g/golang-github-go-logr-logr/golang-github-go-logr-logr-dev_1.4.4-1_all.deb"
  "78e6fd0e22f71cd3f9aacdfeb34af5c4f83c9427d9da1d251d96e53bb7eea190 g/golang-opentelemetry-otel/golang-opentelemetry-otel-dev_1.46.0-3_all.deb"
  "2defe520ded21c41f7c235eb5d5fc60268cb04ea6d3fe365acf80e34c712f66a g/golang-github-avast-retry-go/golang-github-avast-retry-go-dev_4.6.0-1_all.deb"
  "c674664d908664441de94488a1db269276d9dd6aea1d3f61a5862f2b7f1dab81 g/golang-github-go-logr-stdr/golang-github-go-logr-stdr-dev_1.2.2-4_all.deb"
  "41d37cb1a3956a319a0f9b975b9518a8d1128e79fc0c38bb4e32b3354e14c325 g/golang-github-cespare-xxhash-v2/golang-github-cespare-xxhash-v2-dev_2.3.0-4_all.deb"
  "4e0161429b3cdc5a22e32c65bebefa40373baa08d71405f6d6553d6fe9078b2a g/golang-github-cespare-xxhash-v2/golang-github-cespare-xxhash-dev_2.3.0-4_all.deb"
)

# Debian ships Tessera as source: tests/interop/fsck.go is built with it, in a folder that is thrown away (about a minute on
# two cores, 50 MB).
fsck() {
  local main sum
  main=$(cd "$(dirname "$0")" && pwd)/interop/fsck.go
  sum=$( (printf '%s\n' "${go_packages[@]}"; cat "$main") | sha256sum | cut -d' ' -f1)
  if [ "$(cat "$tools/tessera-fsck/sha256" 2>/dev/null)" = "$sum" ]; then return; fi
  echo "== building Tessera's fsck with Debian's Go packages into $tools/tessera-fsck"
  work=$(mktemp -d -p "$tools")
  if unpack_go && build_fsck "$main"; then
    sed -n 's|.*/golang-github-transparency-dev-tessera-dev_\(.*\)_all.deb|\1|p' <<<"$(printf '%s\n' "${go_packages[@]}")" >"$work/whole/version"
    echo "$sum" >"$work/whole/sha256"
    rm -rf "$tools/tessera-fsck"
    mv "$work/whole" "$tools/tessera-fsck"
  else
    echo "note: Tessera's fsck is not to be had here; its test will say SKIPPED" >&2
  fi
  rm -rf "$work"
  work=
}

unpack_go() {
  local line
  for line in "${go_packages[@]}"; do
    curl -sSfL --retry 2 --max-time 300 -o "$work/deb" "$archive/${line#* }" &&
      echo "${line%% *}  $work/deb" | sha256sum --check --quiet && dpkg-deb -x "$work/deb" "$work/go" || return 1
  done
}

build_fsck() { # MAIN
  mkdir -p "$work/whole/usr/bin"
  env GOROOT="$work/go/usr/lib/go-1.27" GOPATH="$work/go/usr/share/gocode" GOCACHE="$work/cache" GO111MODULE=off GOFLAGS= \
    GOTOOLCHAIN=local CGO_ENABLED=0 "$work/go/usr/lib/go-1.27/bin/go" build -o "$work/whole/usr/bin/fsck" "$1"
}

# Rust's sigstore-verify, built from crates.io by the lock beside it, outside of the workspace (about four minutes on two
# cores): for `make interop-log` alone.
sigstore() {
  local crate sum
  crate=$(cd "$(dirname "$0")" && pwd)/interop/sigstore
  sum=$(cat "$crate/Cargo.toml" "$crate/Cargo.lock" "$crate/src/main.rs" | sha256sum | cut -d' ' -f1)
  if [ "$(cat "$tools/sigstore-verify/sha256" 2>/dev/null)" = "$sum" ]; then return; fi
  echo "== building Rust's sigstore-verify into $tools/sigstore-verify (about four minutes on two cores, once a machine)"
  work=$(mktemp -d -p "$tools")
  mkdir -p "$work/whole/usr/bin"
  if (cd "$crate" && CARGO_TARGET_DIR=${CHANCERY_JUDGE_TARGET:-$work/target} CARGO_PROFILE_DEV_DEBUG=0 cargo build --quiet --locked) &&
    cp "${CHANCERY_JUDGE_TARGET:-$work/target}/debug/judge-sigstore" "$work/whole/usr/bin/"; then
    sed -n 's/^sigstore-verify = { version = "=\([^"]*\)".*/\1/p' "$crate/Cargo.toml" >"$work/whole/version"
    echo "$sum" >"$work/whole/sha256"
    rm -rf "$tools/sigstore-verify"
    mv "$work/whole" "$tools/sigstore-verify"
  else
    echo "note: sigstore-verify is not to be had here; its test will say SKIPPED" >&2
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
fsck
if [ "${1:-}" = all ]; then sigstore; fi
