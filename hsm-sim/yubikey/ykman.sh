#!/usr/bin/env bash
# Runs the device tests of ykman's own sources (BSD-2) against virtual cards: 4.0.9 against profile 5.4.3, and 5.9.2
# against 5.7.4. These tests reset the card they are pointed at; here they can reach virtual ones only.
#
#   hsm-sim/yubikey/ykman.sh [PROGRAM]    PROGRAM is hsm-sim-yubikey, by default the debug build
#
# Needs root (for pcscd), pcscd, vsmartcard-vpcd, libpcsclite-dev, swig, a C compiler, python3-venv and PyPI.
# YKMAN_CACHE keeps sources and virtual environments, by default ~/.cache/hsm-sim-yubikey.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=$(realpath "${1:-${CARGO_TARGET_DIR:-$here/../../target}/debug/hsm-sim-yubikey}")
cache=${YKMAN_CACHE:-$HOME/.cache/hsm-sim-yubikey}
work=$(mktemp -d)
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT

for tool in python3 swig cc pcscd; do
  command -v "$tool" >/dev/null || { echo "error: $tool is not here; see the head of $0" >&2; exit 1; }
done

# source_of VERSION FILE SHA256 PYTHON: the unpacked sdist
source_of() {
  local file=$cache/$2
  if [ ! -f "$file" ]; then
    # 4.0.9 declares its dependencies in a form that pip refuses after the download.
    "$4" -m pip download -q --no-deps --no-binary yubikey-manager -d "$cache" "yubikey-manager==$1" \
      >"$cache/$1.download.log" 2>&1 || true
    [ -f "$file" ] || { cat "$cache/$1.download.log" >&2; echo "error: PyPI did not give $2" >&2; return 1; }
  fi
  echo "$3  $file" | sha256sum --check --quiet >&2
  tar -xzf "$file" -C "$work"
  echo "$work/${2%.tar.gz}"
}

# environment VERSION PACKAGE...: its python
environment() {
  local version=$1 python=$cache/venv-$1/bin/python
  shift
  [ -x "$python" ] || python3 -m venv "$cache/venv-$version"
  "$python" -m pip install -q --disable-pip-version-check "$@" >&2
  echo "$python"
}

# suite VERSION PROFILE SERIAL SOURCE PYTHON
suite() {
  local version=$1 profile=$2 serial=$3 source=$4 python=$5 dir=$work/$1
  mkdir "$dir"
  background "$dir/pcscd.out" pcscd --dir "$dir" --cards 2
  local first second
  { read -r _; read -r _ first _; read -r _ second _; } <"$dir/pcscd.out"
  background "$dir/card.out" run --state "$dir/state" --profile "$profile" --serial "$serial" --vpcd "$first" \
    --control "$dir/ctl" --journal "$dir/journal"
  "$program" blank --vpcd "$second" &
  started+=($!)
  echo "== ykman $version, card with firmware $profile"
  (
    cd "$source"
    PCSCLITE_CSOCK_NAME=$dir/pcscd.comm PYTHONPATH=$source timeout 1800 \
      "$python" -m pytest -q -p no:cacheprovider -rfEs tests/device/test_piv.py tests/device/cli/piv --device "$serial"
  ) | tee "$dir/said" || failed=1
  # pytest's last line: "140 passed, 8 skipped in 83.12s"
  count() { tail -n 1 "$dir/said" | grep -oE "[0-9]+ $1" | cut -d' ' -f1 || echo 0; }
  local errors
  errors=$(count 'errors?')
  summary+=("ykman $version, firmware $profile: $(count passed) passed, $(($(count failed) + errors)) failed, $(count skipped) skipped")
}

# background FILE ARGUMENT...: our program, until it has printed what it prints when it is ready
background() {
  local out=$1
  shift
  "$program" "$@" >"$out" &
  started+=($!)
  timeout 30 sh -c 'until [ -s "$0" ]; do sleep 0.1; done' "$out"
}

mkdir -p "$cache"
failed=0
summary=()
echo "== sources and virtual environments of ykman in $cache (about two minutes, once a machine)"
old_python=$(environment 4.0.9 cryptography==38.0.4 fido2==1.2.0 click==8.1.8 pyscard==2.0.7 pytest==7.4.4 makefun==1.16.0)
new_python=$(environment 5.9.2 cryptography==50.0.2 fido2==2.2.1 click==8.5.1 pyscard==2.3.1 keyring==25.7.0 \
  python-pskc==1.4 pytest==9.2.0 makefun==1.16.0)
old=$(source_of 4.0.9 yubikey-manager-4.0.9.tar.gz 384e3a2a66df4ce417aede734eb8c5d0c1b7981290e9bc940c85cc000ef833b4 "$old_python")
new=$(source_of 5.9.2 yubikey_manager-5.9.2.tar.gz 9584c7377449e6487140da6c3f13a289e618b0023c8414be91c1c212fce3c473 "$new_python")
suite 4.0.9 5.4.3 5430001 "$old" "$old_python"
suite 5.9.2 5.7.4 5740001 "$new" "$new_python"
echo "== in all"
printf '%s\n' "${summary[@]}"
exit "$failed"
