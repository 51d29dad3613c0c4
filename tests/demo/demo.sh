#!/usr/bin/env bash
# The whole story on this machine: a service on two fresh tokens, a real registry, the real clients, and an attacker.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$PWD/target/debug
PATH=$PWD/target/tools/bin:$PATH # tests/setup.sh unpacks there what is not installed
work=$(mktemp -d /tmp/chancery-demo.XXXXXX)
pids=()
stop() {
  status=$?
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  if [ $status -ne 0 ]; then echo "DEMO FAILED (exit $status); what it wrote is in $work" >&2; else rm -rf "$work"; fi
}
trap stop EXIT
checks=0
step() { printf '\n== %s. %s\n' "$1" "$2"; }
ok() { checks=$((checks + 1)); printf '   ok: %s\n' "$*"; }
fail() { printf '   FAILED: %s\n' "$*" >&2; exit 1; }
# must TEXT COMMAND...: the command succeeds and prints TEXT.
must() { local want=$1; shift; "$@" >"$work/out" 2>&1 || { cat "$work/out"; fail "$*"; }; grep -qF -- "$want" "$work/out" || { cat "$work/out"; fail "no '$want' from $*"; }; }
# must_not CODE TEXT COMMAND...: the command fails with this code (any if -) and prints TEXT.
must_not() { local code=$1 want=$2 got=0; shift 2; "$@" >"$work/out" 2>&1 || got=$?; [ $got -ne 0 ] || { cat "$work/out"; fail "succeeded: $*"; }
  [ "$code" = - ] || [ "$got" = "$code" ] || { cat "$work/out"; fail "exit $got, not $code: $*"; }
  grep -qiF -- "$want" "$work/out" || { cat "$work/out"; fail "no '$want' from $*"; }; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

registry=localhost:$(free_port) listen=$(free_port) evil=$(free_port)
gun=$registry/demo/busybox short=$registry/short/busybox

step 1 "two SoftHSM tokens, keys that cannot leave them, and a service on top"
# A PKCS#11 module stands before SoftHSM and writes down every signature that a key really made: the demo's witness.
HSM_SIM_MODULE=$(find /usr/lib -name libsofthsm2.so -print -quit) HSM_SIM_JOURNAL=$work/signatures.jsonl
export HSM_SIM_MODULE HSM_SIM_JOURNAL
"$bin/chancery" dev --dir "$work/dev" --listen "localhost:$listen" --registry "$registry=http" \
  --repository "$registry/demo/" --repository "$registry/short/" --pkcs11-module "$bin/libhsm_sim_pkcs11.so" \
  --keeper-env HSM_SIM_MODULE --keeper-env HSM_SIM_JOURNAL \
  >"$work/dev.out" 2>"$work/dev.err" &
pids+=($!)
for _ in $(seq 300); do grep -q '^ready ' "$work/dev.out" && break; kill -0 "${pids[0]}" || { cat "$work/dev.err"; fail "chancery dev ended"; }; sleep 0.1; done
cat "$work/dev.out"
# shellcheck disable=SC1091
. "$work/dev/env"
"$bin/chancery" key list
"$bin/chancery" key list -o json >"$work/keys.json"
# key PURPOSE: what the keeper read back from the token for the key of this purpose.
evidence() { jq -r --arg p "$1" '.keys[] | select(.key.purpose == $p) | .key.evidence[]' "$work/keys.json"; }
for purpose in root targets snapshot timestamp; do
  for attribute in CKA_SENSITIVE=true CKA_EXTRACTABLE=false CKA_NEVER_EXTRACTABLE=true CKA_LOCAL=true; do
    evidence "$purpose" | grep -qx "$attribute" || fail "the $purpose key lacks $attribute"
  done
done
echo "   read back from the token for the targets key: $(evidence targets | tr '\n' ' ')"
sed -n '/^\[\[key\]\]/,/^$/p' "$work/dev/signing/charter.toml" | grep -v spki | head -n 7 | sed 's/^/   charter: /'
ok "four keys, one a purpose, that were made in the token and cannot leave it"
ok "the service is ready: chanceryd, a log keeper and a signing keeper"

step 2 "a real registry, and a real image in it"
cat >"$work/registry.yml" <<YML
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $work/registry}, delete: {enabled: true}}
http: {addr: "${registry/localhost/127.0.0.1}"}
YML
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
pids+=($!)
for _ in $(seq 100); do curl -sf "http://$registry/v2/" >/dev/null && break; sleep 0.1; done
# image NAME FILE TAG: an image of busybox with one more file, pushed; prints its digest.
image() {
  local layout=$work/oci-$3
  umoci init --layout "$layout" && umoci new --image "$layout:$3"
  umoci insert --image "$layout:$3" /bin/busybox /bin/busybox && umoci insert --image "$layout:$3" "$2" /etc/motd
  skopeo copy -q --dest-tls-verify=false "oci:$layout:$3" "docker://$registry/$1:$3"
  skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$registry/$1:$3"
}
echo "welcome" >"$work/motd" && echo "defaced" >"$work/defaced"
good=$(image demo/busybox "$work/motd" v1 2>/dev/null)
bad=$(image demo/busybox "$work/defaced" v9 2>/dev/null)
skopeo copy -q --src-tls-verify=false --dest-tls-verify=false "docker://$registry/demo/busybox@$good" "docker://$registry/short/busybox:v1"
skopeo copy -q --src-tls-verify=false --dest-tls-verify=false "docker://$registry/demo/busybox@$good" "docker://$registry/other/busybox:v1"
ok "$registry/demo/busybox:v1 is $good"

step 3 "CI asks for a signature with a scoped token"
"$bin/chancery" sign "$gun@$good" --tag v1 --wait
# log_json: the published log, every line proven. The published checkpoint is at most a second old.
log_json() { CHANCERY_TOKEN=$CHANCERY_AUDITOR_TOKEN "$bin/chancery" log show --from 0 --limit 10000 -o json; }
# payloads FILTER: SHA-256 of what log entries of a kind are about, sorted.
intents() { log_json | jq -r 'select(.kind == "intent") | .leaf.spec.payload' | sort; }
# The token's own words: what its image keys signed (CKM_ECDSA; the log key's notes are Ed25519).
signed() { jq -r 'select(.mechanism == "0x1041") | .input' "$work/signatures.jsonl" | sort; }
same() { for _ in $(seq 50); do [ "$(intents)" = "$(signed)" ] && return; sleep 0.1; done; diff <(intents) <(signed); }
same || fail "the log's intents and the token's signatures differ"
ok "signed: $(signed | wc -l) signatures in the token's own journal, each of them announced by an entry of the log"

step 4 "unmodified clients verify it"
trust=(notary -s "$CHANCERY_DCT_SERVER" --tlscacert "$CHANCERY_CACERT")
"${trust[@]}" -d "$work/notary" list "$gun"
must "${good#sha256:}" "${trust[@]}" -d "$work/notary" lookup "$gun" v1
root_seen=$(sha256sum <"$work/notary/tuf/$gun/metadata/root.json" | cut -d' ' -f1)
root_ours=$("$bin/chancery" repo show "$gun" -o json | jq -r .root_sha256)
[ "$root_seen" = "$root_ours" ] || fail "the client pinned another root"
ok "notary shows the tag and the digest, and the root it pinned is ours"
export DOCKER_CONFIG=$work/docker DOCKER_CONTENT_TRUST_SERVER=$CHANCERY_DCT_SERVER
mkdir -p "$DOCKER_CONFIG/tls/localhost:$listen" && cp "$CHANCERY_CACERT" "$DOCKER_CONFIG/tls/localhost:$listen/ca.crt"
if command -v docker >/dev/null && docker trust --help >/dev/null 2>&1; then
  docker trust inspect --pretty "$gun:v1"
  must "${good#sha256:}" docker trust inspect --pretty "$gun:v1"
  ok "docker trust inspect shows the tag, the digest and the signer ($(docker --version))"
else
  fail "no docker client with the trust command: tests/setup.sh unpacks one into target/tools"
fi

step 5 "what policy refuses is in the log, and no key was used for it"
"$bin/chancery" sign "$registry/short/busybox@$good" --tag v1 --wait >/dev/null
before=$(signed | wc -l)
must_not 3 "unknown-repository" "$bin/chancery" sign "$registry/nowhere/app@$good" --tag v1 --wait
CHANCERY_TOKEN=$CHANCERY_ADMIN_TOKEN "$bin/chancery" token create --scope sign --repository "$registry/short/" \
  --expires 1d --note "CI of another team" -o json >"$work/other.json"
jq -r .bearer "$work/other.json" >"$work/other.token"
must_not 3 "token-scope" "$bin/chancery" --token-file "$work/other.token" sign "$gun@$good" --tag v3 --wait
must_not 3 "not-in-registry" "$bin/chancery" sign "$gun@sha256:$(printf 'ab%.0s' {1..32})" --tag v2 --wait
must_not 3 "tag-immutable" "$bin/chancery" sign "$gun@$bad" --tag v1 --wait
cat "$work/out"
after=$(signed | wc -l)
[ "$before" = "$after" ] || fail "a refused request led to a signature ($before, then $after in the token's journal)"
denials() { log_json | jq -r 'select(.kind == "denied") | .leaf.spec.reasons[].rule'; }
for _ in $(seq 50); do [ "$(denials | wc -l)" = 4 ] && break; sleep 0.1; done
[ "$(denials | sort | tr '\n' ' ')" = "builtin/not-in-registry builtin/tag-immutable builtin/token-scope builtin/unknown-repository " ] || fail "the log has other refusals: $(denials)"
same || fail "the log's intents and the token's signatures differ"
ok "four refusals, each with its reasons and its entry; the token made $before signatures before and $after after"

step 6 "the registry is taken over: v1 now serves a defaced image"
skopeo copy -q --src-tls-verify=false --dest-tls-verify=false "docker://$registry/demo/busybox@$bad" "docker://$registry/demo/busybox:v1"
served=$(skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$registry/demo/busybox:v1")
[ "$served" = "$bad" ] || fail "the registry was not taken over"
must "${good#sha256:}" "${trust[@]}" -d "$work/notary" lookup "$gun" v1
ok "the registry says $served; the client that asks us gets $good"

step 7 "the man in the middle"
# record FOLDER GUN: what the real server sends now.
record() {
  mkdir -p "$1"; local url=$CHANCERY_URL/v2/$2/_trust/tuf name
  get() { curl -sf --cacert "$CHANCERY_CACERT" "$url/$1.json"; }
  for name in root timestamp snapshot targets; do
    get $name >"$1/$name.json"; cp "$1/$name.json" "$1/$name.$(sha256sum <"$1/$name.json" | cut -d' ' -f1).json"
  done
  cp "$1/root.json" "$1/1.root.json"
}
# attack FOLDER: the attacker answers for the server, from this folder.
attack() {
  "$bin/mitm" --listen "127.0.0.1:$evil" --folder "$1" --certificate "$work/dev/tls/server.pem" --key "$work/dev/tls/server.key" >"$work/mitm.log" 2>&1 &
  attacker=$!; pids+=($attacker)
  for _ in $(seq 100); do curl -sf --cacert "$CHANCERY_CACERT" "https://localhost:$evil/v2/" >/dev/null && return; sleep 0.1; done
  fail "the attacker's server did not start"
}
retreat() { kill "$attacker"; wait "$attacker" 2>/dev/null || true; }
mitm=(notary -s "https://localhost:$evil" --tlscacert "$CHANCERY_CACERT")
record "$work/old" "$gun"
"$bin/chancery" sign "$gun@$bad" --tag v2 --wait >/dev/null
"${trust[@]}" -d "$work/notary" list "$gun" >/dev/null
record "$work/tampered" "$gun"
for file in "$work"/tampered/targets*.json; do
  sed -i "s|$(printf %s "${good#sha256:}" | xxd -r -p | base64 | sed 's/[+]/[+]/g')|$(printf %s "${bad#sha256:}" | xxd -r -p | base64)|" "$file"
done
attack "$work/tampered"
must_not - "checksum" "${mitm[@]}" -d "$work/fresh" lookup "$gun" v1
ok "tampered targets: refused by the client ($(tail -n 1 "$work/out" | cut -c1-100))"
retreat; attack "$work/old"
must_not - "version" "${mitm[@]}" -d "$work/notary" lookup "$gun" v2
ok "old metadata: refused by the client ($(tail -n 1 "$work/out" | cut -c1-100))"
retreat
# A collection whose timestamp lives ten seconds, so that an expired one can be shown: policy is data, a restart loads it.
kill -TERM "${pids[0]}"; wait "${pids[0]}" || true
cat >>"$work/dev/policy/repositories.toml" <<TOML

[[repository]]
name = "$registry/short/busybox"
create_on_first_sign = true
validity = { timestamp = "10s" }
TOML
"$bin/chancery" dev --dir "$work/dev" --listen "localhost:$listen" >"$work/dev.out" 2>"$work/dev.err" &
pids[0]=$!
for _ in $(seq 300); do grep -q '^ready ' "$work/dev.out" && break; kill -0 "${pids[0]}" || { cat "$work/dev.err"; fail "chancery dev did not start again"; }; sleep 0.1; done
ok "stopped and started again: the same directory goes on where it was"
"$bin/chancery" sign "$registry/short/busybox@$good" --tag v2 --wait >/dev/null
record "$work/expired" "$registry/short/busybox"
expires=$(jq -r .signed.expires "$work/expired/timestamp.json")
echo "   waiting until $expires"
while [ "$(date +%s)" -le "$(date -d "$expires" +%s)" ]; do sleep 0.5; done
attack "$work/expired"
must_not - "expired" "${mitm[@]}" -d "$work/late" lookup "$registry/short/busybox" v2
ok "expired metadata: refused by the client ($(tail -n 1 "$work/out" | cut -c1-100))"
retreat
must "${good#sha256:}" "${trust[@]}" -d "$work/late2" lookup "$registry/short/busybox" v2
ok "our own server has renewed it meanwhile"

step 8 "a root key on a YubiKey: a new repository's first root waits for a finger"
# A virtual card behind a real pcscd; its attestation leads to a test root, which the configuration must name.
yubikey=$work/yubikey gold=$registry/demo/gold/app
mkdir -m 700 "$yubikey"
"$bin/hsm-sim-yubikey" pcscd --dir "$yubikey" >"$yubikey/pcscd.out" 2>"$yubikey/pcscd.err" &
pids+=($!)
for _ in $(seq 100); do grep -qs '^vpcd ' "$yubikey/pcscd.out" && break; sleep 0.1; done
"$bin/hsm-sim-yubikey" run --state "$yubikey/card.json" --serial 12345678 --touch manual \
  --vpcd "$(awk '/^vpcd / {print $2}' "$yubikey/pcscd.out")" --control "$yubikey/ctl" --journal "$yubikey/journal" >"$yubikey/card.out" 2>&1 &
pids+=($!)
for _ in $(seq 200); do grep -qs 'plugged in' "$yubikey/card.out" && break; sleep 0.1; done
{ "$bin/hsm-sim-yubikey" root 5.7.4 | openssl x509 -inform DER; } >"$yubikey/root.pem"
for name in intermediate attestation; do openssl x509 -inform DER -in "hsm-sim/yubikey/pki/$name.der"; done >"$yubikey/chain.pem"
chmod 644 "$yubikey"/*.pem
# other_key SPKI PURPOSE: what one keeper's charter says of another's key.
other_key() { printf '\n[[other_key]]\nspki = "%s"\npurpose = "%s"\nrepositories = ["%s/demo/gold/"]\n' "$1" "$2" "$registry"; }
{
  printf 'schema = 1\nkeeper = "root"\n'
  grep -E '^(origin|log_vkey) = ' "$work/dev/signing/charter.toml"
  for purpose in targets snapshot timestamp; do
    other_key "$(jq -r --arg p $purpose '.keys[] | select(.key.purpose == $p) | .key.spki' "$work/keys.json")" $purpose
  done
} >"$yubikey/charter.toml"
printf 'role = "sign"\nname = "root"\ncharter = "charter.toml"\nstate = "state"\nsocket = "keeper.sock"\n\n[token]\n' >"$yubikey/keeper.toml"
chmod 644 "$yubikey"/*.toml
PCSCLITE_CSOCK_NAME=$(sed -n 's/^PCSCLITE_CSOCK_NAME=//p' "$yubikey/pcscd.out")
export PCSCLITE_CSOCK_NAME
# The finger: it touches each time that it is asked to, N times, by a line in this file.
asked=$yubikey/asked
finger() {
  for n in $(seq "$1"); do
    for _ in $(seq 300); do [ "$(grep -c '^Touch ' "$asked")" -ge "$n" ] && break; sleep 0.1; done
    "$bin/hsm-sim-yubikey" ctl "$yubikey/ctl" touch --wait-ms 10000 >/dev/null
  done
}
signed_by_card() { grep -c '"operation":"sign"' "$yubikey/journal" || true; }
proof=(--attestation-chain "$yubikey/chain.pem" --attestation-root "$yubikey/root.pem")
: >"$asked"
finger 1 & finger=$!
"$bin/chancery-keeper" admin piv setup --serial 12345678 --slot 9c --touch-policy always "${proof[@]}" \
  --new-pin-file "$yubikey/pin" --new-puk-file "$yubikey/puk" --new-management-key-file "$yubikey/management-key" \
  --charter "$yubikey/charter.toml" --purpose root --repository "$registry/demo/gold/" --out "$yubikey/proof" -o json \
  >"$yubikey/setup.json" 2>"$asked" || { cat "$asked"; fail "the card was not set up"; }
wait $finger
grep '^Touch ' "$asked" | sed 's/^/   /'
(cd "$yubikey/proof" && openssl verify -CAfile root.pem -untrusted intermediates.pem attestation.pem) | sed 's/^/   /'
ok "a card from the factory: PIN, PUK and management key changed, a key made and proven by the card, a test signature by touch"
"$bin/chancery-keeper" admin token enrol --piv-serial 12345678 --pin-file "$yubikey/pin" --config "$yubikey/keeper.toml" \
  --write "${proof[@]}" >/dev/null 2>"$yubikey/enrol.log" || { cat "$yubikey/enrol.log"; fail "the card was not enrolled"; }
other_key "$(jq -r .spki "$yubikey/setup.json")" root >>"$work/dev/signing/charter.toml"
kill -TERM "${pids[0]}"; wait "${pids[0]}" || true
rm "$work/dev.out"
printf '\n[[keeper]]\nname = "root"\nsocket = "%s"\n' "$yubikey/keeper.sock" >>"$work/dev/chanceryd.toml"
"$bin/chancery-keeper" init --config "$yubikey/keeper.toml" 2>"$yubikey/keeper.log"
"$bin/chancery-keeper" serve --config "$yubikey/keeper.toml" 2>>"$yubikey/keeper.log" &
pids+=($!)
"$bin/chancery" dev --dir "$work/dev" --listen "localhost:$listen" >"$work/dev.out" 2>"$work/dev.err" &
pids[0]=$!
for _ in $(seq 300); do grep -qs '^ready ' "$work/dev.out" && break; kill -0 "${pids[0]}" || { cat "$work/dev.err"; fail "chancery dev did not start again"; }; sleep 0.1; done
proven=$("$bin/chancery" key list -o json | jq -r '.keys[] | select(.keeper == "root") | .key.evidence | join(" ")')
[[ $proven == *PIV_ATTESTED=true* && $proven == *PIV_TOUCH=always* ]] || fail "the root key is not proven: $proven"
echo "   proven of the root key: $proven"
skopeo copy -q --src-tls-verify=false --dest-tls-verify=false "docker://$registry/demo/busybox@$good" "docker://$registry/demo/gold/app:v1"
before=$(signed_by_card)
# Twice: for the root key's certificate, and for the root.
: >"$asked"
finger 2 & finger=$!
"$bin/chancery" sign "$gold@$good" --tag v1 --wait 2>"$asked" >/dev/null || { cat "$asked" "$yubikey/keeper.log"; fail "no signature with a YubiKey"; }
wait $finger
grep '^Touch YubiKey 12345678 (slot 9c) within' "$asked" | sed 's/^/   /'
[ "$(grep -c "^Touch YubiKey" "$asked")" = 2 ] && [ "$(signed_by_card)" = $((before + 2)) ] || fail "not two touches and two signatures"
must "${good#sha256:}" "${trust[@]}" -d "$work/gold" lookup "$gold" v1
[ "$(sha256sum <"$work/gold/tuf/$gold/metadata/root.json" | cut -d' ' -f1)" = "$("$bin/chancery" repo show "$gold" -o json | jq -r .root_sha256)" ] || fail "the client pinned another root"
ok "two touches, two signatures in the card's journal, and the client pinned the root that they made"
"$bin/chancery" sign "$gold@$good" --tag v2 --wait >/dev/null 2>&1
[ "$(signed_by_card)" = $((before + 2)) ] || fail "the next tag used the root key"
ok "the next tag needs no touch: the root key rests"

step 9 "the log, from its published files alone"
export CHANCERY_TOKEN=$CHANCERY_AUDITOR_TOKEN
"$bin/chancery" log show --limit 12
"$bin/chancery" log fetch --out "$work/published"
cat "$work/published/checkpoint"
env -u CHANCERY_URL -u CHANCERY_TOKEN "$bin/chancery" log verify "$work/published" --vkey "$CHANCERY_LOG_VKEY"
ok "every leaf, tile, root, signature and an inclusion proof checked offline"
cp -r "$work/published" "$work/forged"
bundle=$(find "$work/forged/tile/entries" -type f | head -n 1)
printf 'X' | dd of="$bundle" bs=1 seek=100 conv=notrunc status=none
must_not 10 "" env -u CHANCERY_URL "$bin/chancery" log verify "$work/forged" --vkey "$CHANCERY_LOG_VKEY"
ok "one changed byte: refused"

step 10 "everything stops"
kill -INT "${pids[0]}"
wait "${pids[0]}" || fail "chancery dev ended with $?"
for pid in "${pids[@]:1}"; do kill -TERM "$pid" 2>/dev/null || true; done
for pid in "${pids[@]:1}"; do wait "$pid" 2>/dev/null || true; done
pids=()
if pgrep -f "$work" >"$work/left"; then fail "still running: $(tr '\n' ' ' <"$work/left")"; fi
printf '\n%s\n' "DEMO PASSED: $checks things shown on this machine, nothing left running."
