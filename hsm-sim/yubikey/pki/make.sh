#!/usr/bin/env bash
# Makes the test attestation chains of both profiles anew. The keys above f9 are thrown away: nobody can issue a second
# f9 certificate under these roots. Shapes follow Yubico's own chains (before and from firmware 5.7.4).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat > ca.cnf <<'CONF'
[ca]
default_ca = ours
[ours]
new_certs_dir = .
database = index.txt
rand_serial = yes
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[intermediate]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[f9]
basicConstraints = critical, CA:TRUE, pathlen:0
CONF
: > index.txt

key() { openssl genpkey -algorithm RSA -pkeyopt "rsa_keygen_bits:$2" -out "$1.key"; }
request() { openssl req -new -config ca.cnf -key "$1.key" -subj "/CN=$2" -out "$1.csr"; }

# certificate NAME SUBJECT ISSUER EXTENSIONS HASH FROM UNTIL; an issuer of "-" is the certificate itself
certificate() {
  local signer=(-cert "$3.pem" -keyfile "$3.key")
  if [ "$3" = - ]; then signer=(-selfsign -keyfile "$1.key"); fi
  request "$1" "$2"
  openssl ca -batch -notext -preserveDN -config ca.cnf "${signer[@]}" -in "$1.csr" -out "$1.pem" \
    -extensions "$4" -md "$5" -startdate "$6" -enddate "$7" 2>/dev/null
}

for name in root-263751 f9-5.4.3 intermediate attestation f9-5.7.4; do key "$name" 2048; done
key root-1 4096

certificate root-263751 "TEST PIV Root CA, not Yubico" - root sha256 20160314000000Z 20520417000000Z
certificate f9-5.4.3 "TEST PIV Attestation, not Yubico" root-263751 f9 sha256 20160314000000Z 20520417000000Z

certificate root-1 "TEST Attestation Root 1, not Yubico" - root sha512 20241201000000Z 99991231235959Z
certificate intermediate "TEST Attestation Intermediate B 1, not Yubico" root-1 intermediate sha256 20241201000000Z 99991231235959Z
certificate attestation "TEST PIV Attestation B 1, not Yubico" intermediate intermediate sha256 20241201000000Z 99991231235959Z
certificate f9-5.7.4 "TEST YubiKey PIV Attestation, not Yubico" attestation f9 sha256 20241201000000Z 99991231235959Z

for name in root-263751 f9-5.4.3 root-1 intermediate attestation f9-5.7.4; do
  openssl x509 -in "$name.pem" -outform DER -out "$here/$name.der"
done
for name in f9-5.4.3 f9-5.7.4; do
  openssl pkcs8 -topk8 -nocrypt -in "$name.key" -outform DER -out "$here/$name.key.der"
done
