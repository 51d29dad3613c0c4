#!/usr/bin/env bash
# Installs what building, testing and the demo need on Debian 12. Does nothing when all of it is there.
set -euo pipefail

# command -> Debian package
declare -A packages=(
  [softhsm2-util]=softhsm2 [pkcs11-tool]=opensc [skopeo]=skopeo [umoci]=umoci [docker-registry]=docker-registry
  [notary]=notary [cc]=build-essential [openssl]=openssl [curl]=curl [jq]=jq
)
missing=()
for command in "${!packages[@]}"; do
  command -v "$command" >/dev/null 2>&1 || missing+=("${packages[$command]}")
done
[ -x /bin/busybox ] || missing+=(busybox-static)

if [ ${#missing[@]} -gt 0 ]; then
  echo "== installing: ${missing[*]}"
  as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "error: not root and no sudo; install these packages first: ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -qq
  # A registry that Debian starts by itself would take the port that the demo wants.
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! command -v cargo >/dev/null 2>&1; then
  echo "== installing Rust with rustup"
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --component rustfmt,clippy
fi
