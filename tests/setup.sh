#!/usr/bin/env bash
# Installs what building, testing and the demo need on Debian 12. Does nothing when all of it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

# Rust that builds this workspace, as Cargo.toml says.
rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
# cargo-deny, by which `make check` judges licences and sources: pinned, like everything that judges.
deny=0.20.2
# Where tools lie that are unpacked and not installed.
tools=target/tools

# command -> Debian package
declare -A packages=(
  [softhsm2-util]=softhsm2 [pkcs11-tool]=opensc [skopeo]=skopeo [umoci]=umoci [docker-registry]=docker-registry
  [notary]=notary [cc]=build-essential [openssl]=openssl [curl]=curl [jq]=jq [xxd]=xxd [python3]=python3
  [ps]=procps [strace]=strace [ssh-agent]=openssh-client [unshare]=util-linux [pkg-config]=pkg-config [yubico-piv-tool]=yubico-piv-tool
)
# file -> Debian package: libraries, and programs that are no commands of users
declare -A files=(
  [/usr/include/PCSC/winscard.h]=libpcsclite-dev
  [/usr/sbin/pcscd]=pcscd
  [/usr/sbin/mkfs.ext4]=e2fsprogs
  [/usr/lib/pcsc/drivers/serial/libifdvpcd.so]=vsmartcard-vpcd
)
missing=()
for command in "${!packages[@]}"; do
  command -v "$command" >/dev/null 2>&1 || missing+=("${packages[$command]}")
done
for file in "${!files[@]}"; do
  [ -e "$file" ] || missing+=("${files[$file]}")
done
ls /usr/lib/*/libykcs11.so >/dev/null 2>&1 || missing+=(ykcs11)
ldd /bin/busybox >/dev/null 2>&1 && missing+=(busybox-static) # one with shared libraries makes no image
[ -x /bin/busybox ] || missing+=(busybox-static)
[ -s /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
if [ "${1:-}" = hardware ] || [ "${1:-}" = modules ]; then
  # Python's own venv wants Debian's packages where Python is Debian's.
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
fi
if [ "${1:-}" = hardware ]; then
  command -v swig >/dev/null 2>&1 || missing+=(swig)
  [ -e "$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] || missing+=(python3-dev)
fi
as_root=()
if [ "$(id -u)" != 0 ]; then as_root=(sudo); fi

if [ ${#missing[@]} -gt 0 ]; then
  echo "== installing: ${missing[*]}"
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    echo "error: not root and no sudo; install these packages first: ${missing[*]}" >&2
    exit 1
  fi
  "${as_root[@]}" apt-get update -qq
  # RUNLEVEL=1 keeps Debian from starting the registry as a service of its own.
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# The docker client alone: Debian's package brings a daemon, which a client of content trust does not need.
if ! { command -v docker && docker trust --help; } >/dev/null 2>&1 && [ ! -x "$tools/bin/docker" ]; then
  echo "== unpacking Debian's docker client into $tools"
  unpacked=$(mktemp -d)
  trap 'rm -rf "$unpacked"' EXIT
  mkdir -p "$tools/bin"
  (cd "$unpacked" && { apt-get -o APT::Sandbox::User= -qq download docker.io || { "${as_root[@]}" apt-get update -qq && apt-get -o APT::Sandbox::User= -qq download docker.io; }; } && dpkg-deb -x docker.io_*.deb .)
  cp "$unpacked/usr/bin/docker" "$tools/bin/docker"
fi

# at_least HAVE WANT: versions of the form 1.2.3
at_least() { [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

if ! command -v cargo >/dev/null 2>&1; then
  echo "== installing Rust with rustup"
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --component rustfmt,clippy
elif ! at_least "$(rustc --version | cut -d' ' -f2)" "$rust"; then
  echo "error: $(rustc --version) is older than $rust, which this workspace needs; run: rustup update stable" >&2
  exit 1
fi

# The PKCS#11 modules that only `make test` wants.
if [ "${1:-}" = modules ]; then tests/modules.sh; fi

# The log's judges, which tell `make test` whether others' programs believe it.
if [ "${1:-}" = interop ]; then tests/interop.sh "${@:2}"; fi

# A server that speaks S3's protocol, for the tests of mirrors in buckets: pinned. A machine that cannot have it gets a note,
# and the test says SKIPPED.
moto=5.2.5
if [ "${1:-}" = modules ] && [ "$(cat "$tools/moto/version" 2>/dev/null)" != "$moto" ]; then
  echo "== installing moto $moto from PyPI into $tools (about a minute, once a checkout)"
  rm -rf "$tools/moto"
  if python3 -m venv "$tools/moto" && "$tools/moto/bin/python" -m pip install -q --disable-pip-version-check "moto[s3,iam]==$moto" flask flask-cors; then
    echo "$moto" >"$tools/moto/version"
  else
    rm -rf "$tools/moto"
    echo "note: no moto (Python's venv or PyPI is missing): tests of buckets are skipped"
  fi
fi

if [ "${1:-}" = judges ] && ! cargo deny --version 2>/dev/null | grep -qF "$deny"; then
  echo "== installing cargo-deny $deny (about four minutes on two cores, once a machine)"
  cargo install --locked --quiet "cargo-deny@$deny"
fi
