#!/usr/bin/env bash
# Sets up the PKCS#11 modules of the matrix (tests/tests/matrix.rs) that `apt-get install` does not: once a machine, into
# a folder that survives fresh clones. Does nothing when all of them are there. Kryoptic is required; the others are not,
# and a machine that cannot have them gets a note, and their tests say SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=${CHANCERY_TOOLS:-$HOME/.cache/chancery-tools}
# Kryoptic as crates.io has it: pinned, like everything that judges.
kryoptic=1.5.4
kryoptic_sha256=21b64b7679ce821f19a7a48b7e40146f26fbb9daa64ee2acb6376788a26d7ae8
# What is unpacked instead of installed: `apt-get install` of the first set would bring another udev and systemd, and of the
# second another libnss3 than programs here may run with.
tpm2=(swtpm swtpm-libs libtpms0 libtpm2-pkcs11-1 libtss2-esys-3.0.2-0 libtss2-mu0 libtss2-rc0 libtss2-sys1
  libtss2-tctildr0 libtss2-tcti-cmd0 libtss2-tcti-device0 libtss2-tcti-mssim0 libtss2-tcti-swtpm0)
nss=(libnss3 libnss3-tools libnspr4)

as_root=()
if [ "$(id -u)" != 0 ]; then as_root=(sudo); fi
work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

# The folder appears when it is whole: a set-up that was stopped begins anew.
keep() { # FOLDER
  rm -rf "${tools:?}/$1"
  mv "$work/whole" "$tools/$1"
  rm -rf "$work"
  work=
}

build_kryoptic() {
  local packages=()
  [ -e /usr/lib/llvm-14/lib/libclang.so.1 ] || packages+=(libclang1-14)
  [ -e /usr/lib/llvm-14/lib/clang/14.0.6/include/stddef.h ] || packages+=(libclang-common-14-dev)
  [ -e /usr/include/openssl/ssl.h ] || packages+=(libssl-dev)
  [ -e /usr/include/sqlite3.h ] || packages+=(libsqlite3-dev)
  if [ ${#packages[@]} -gt 0 ]; then
    echo "== installing, to build Kryoptic: ${packages[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  fi
  echo "== building Kryoptic $kryoptic, a PKCS#11 module (about a minute on two cores, once a machine)"
  curl --proto '=https' --tlsv1.2 -sSfL -o "$work/crate" "https://static.crates.io/crates/kryoptic/kryoptic-$kryoptic.crate"
  echo "$kryoptic_sha256  $work/crate" | sha256sum --check --quiet
  tar -C "$work" -xzf "$work/crate"
  # Debian 12 has OpenSSL 3.0: `minimal` is what builds with it. Little optimising, since tests sign little.
  (cd "$work/kryoptic-$kryoptic" && LIBCLANG_PATH=/usr/lib/llvm-14/lib \
    BINDGEN_EXTRA_CLANG_ARGS=-I/usr/lib/llvm-14/lib/clang/14.0.6/include CARGO_TARGET_DIR="$work/target" \
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_TERM_PROGRESS_WHEN=never \
    cargo build --release --locked --no-default-features --features minimal,kryoptic-lib/openssl-sys 2>&1 |
    awk '/Compiling/ { if (++n % 20 == 0) print "   " n " crates"; next } /Downloaded|Downloading|Updating|Locking/ { next } { print "   " $0 }')
  mkdir "$work/whole"
  install -m 0644 "$work/target/release/libkryoptic_pkcs11.so" "$work/whole/"
  echo "$kryoptic" >"$work/whole/version"
}

# unpack PACKAGE... : into the folder `whole`, whose file `version` is the version of the package that VERSION_OF names
unpack() {
  mkdir "$work/debs" "$work/whole"
  (cd "$work/debs" && { apt-get -o APT::Sandbox::User= -qq download "$@" ||
    { "${as_root[@]}" apt-get update -qq && apt-get -o APT::Sandbox::User= -qq download "$@"; }; }) || return 1
  for package in "$work"/debs/*.deb; do dpkg-deb -x "$package" "$work/whole" || return 1; done
  dpkg-deb -f "$work"/debs/"$version_of"_*.deb Version >"$work/whole/version" || return 1
}

# optional FOLDER VERSION_OF PACKAGE...
optional() {
  local folder=$1 version_of=$2
  shift 2
  if [ -e "$tools/$folder/version" ]; then return; fi
  echo "== unpacking Debian's $version_of and what it needs into $tools/$folder"
  work=$(mktemp -d -p "$tools")
  if unpack "$@"; then keep "$folder"; else echo "note: not to be had here: $*; its tests will say SKIPPED" >&2; fi
  rm -rf "$work"
  work=
}

mkdir -p "$tools"
if [ ! -e "$tools/kryoptic/version" ] || [ "$(cat "$tools/kryoptic/version")" != "$kryoptic" ]; then
  work=$(mktemp -d -p "$tools")
  build_kryoptic
  keep kryoptic
fi
optional tpm2-pkcs11 libtpm2-pkcs11-1 "${tpm2[@]}"
optional nss libnss3 "${nss[@]}"
