"""Makes `completions.jsonl` with Python's `cryptography`, independently of the crate: one completion by a key of each kind, in
the order of `Algorithm::ALL`. Fixed seeds and deterministic signatures, so always the same bytes."""
import base64, hashlib, json, pathlib, random
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PAYLOAD = b'{"what":"is signed"}'
B64 = lambda data: base64.b64encode(data).decode()
SHA256 = lambda data: hashlib.sha256(data).digest()


def spki(key):
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def prime(bits, chance):
    while True:
        p = chance.getrandbits(bits) | 3 << bits - 2 | 1
        witnesses = [chance.randrange(2, p - 1) for _ in range(20)]
        if p % 65537 != 1 and all(p % n for n in range(3, 2000, 2)) and all(pow(w, p - 1, p) == 1 for w in witnesses):
            return p


def rsa_key(bits):
    chance = random.Random(bits)
    p, q = prime(bits // 2, chance), prime(bits // 2, chance)
    d = pow(65537, -1, (p - 1) * (q - 1))
    parts = rsa.RSAPrivateNumbers(p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q),
                                  rsa.RSAPublicNumbers(65537, p * q))
    return parts.private_key()


def pss(key, digest):
    """EMSA-PSS (RFC 8017, 9.1.1) with a fixed salt; verified by the library."""
    numbers, salt = key.private_numbers(), bytes(range(32))
    size, n = key.key_size // 8, numbers.public_numbers.n
    h = SHA256(bytes(8) + digest + salt)
    block = bytes(size - 66) + b"\1" + salt
    mask = b"".join(SHA256(h + i.to_bytes(4, "big")) for i in range(size // 32 + 1))
    block = bytes(a ^ b for a, b in zip(block, mask))
    encoded = bytes([block[0] & 0x7F]) + block[1:] + h + b"\xbc"
    signature = pow(int.from_bytes(encoded, "big"), numbers.d, n).to_bytes(size, "big")
    key.public_key().verify(signature, PAYLOAD, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    return signature


def ecdsa(key, hash):
    return key.sign(PAYLOAD, ec.ECDSA(hash, deterministic_signing=True))


def leaf(kind, version, spec):
    return json.dumps({"apiVersion": version, "kind": kind, "spec": spec}, sort_keys=True, separators=(",", ":"))


def by(details, key, content):
    return {"content": B64(content), "verifier": {"keyDetails": details, "publicKey": {"rawBytes": B64(spki(key))}}}


def rekord(details, algorithm, digest, key, content):
    data = {"algorithm": algorithm, "digest": B64(digest)}
    return leaf("hashedrekord", "0.0.2", {"hashedRekordV002": {"data": data, "signature": by(details, key, content)}})


p256 = ec.derive_private_key(int.from_bytes(bytes([7]) * 32, "big"), ec.SECP256R1())
p384 = ec.derive_private_key(int.from_bytes(bytes([7]) * 48, "big"), ec.SECP384R1())
edwards = ed25519.Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
leaves = [
    rekord("PKIX_ECDSA_P256_SHA_256", "SHA2_256", SHA256(PAYLOAD), p256, ecdsa(p256, hashes.SHA256())),
    rekord("PKIX_ECDSA_P384_SHA_384", "SHA2_384", hashlib.sha384(PAYLOAD).digest(), p384, ecdsa(p384, hashes.SHA384())),
]
for bits in (2048, 3072, 4096):
    key = rsa_key(bits)
    leaves.append(rekord(f"PKIX_RSA_PSS_{bits}_SHA256", "SHA2_256", SHA256(PAYLOAD), key, pss(key, SHA256(PAYLOAD))))
leaves.append(leaf("signature", "1", {
    "data": {"algorithm": "SHA2_256", "content": B64(PAYLOAD), "digest": B64(SHA256(PAYLOAD))},
    "signature": by("PKIX_ED25519", edwards, edwards.sign(PAYLOAD))}))
(pathlib.Path(__file__).parent / "completions.jsonl").write_text("".join(f"{line}\n" for line in leaves))
