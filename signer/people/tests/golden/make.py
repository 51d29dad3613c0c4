"""Makes the files beside it with Python's `cryptography`, independently of the crate: a roster and the next version of it, a
statement, and what people sign of it by each method. Fixed seeds and deterministic signatures, so always the same bytes."""
import base64, hashlib, json, pathlib
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HERE = pathlib.Path(__file__).parent
SHA256 = lambda data: hashlib.sha256(data).digest()
B64 = lambda data: base64.b64encode(data).decode()
SINCE, LATER = "2026-11-24T08:00:00.000Z", "2026-11-24T09:00:00.000Z"
RP, PAGE = "approve.example.com", "https://approve.example.com"


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class Key:
    def __init__(self, seed, curve=ec.SECP256R1(), hash=hashes.SHA256()):
        self.private = ec.derive_private_key(int.from_bytes(SHA256(seed.encode())), curve)
        self.hash, self.seed = hash, seed
        self.spki = self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.id = SHA256(self.spki).hex()

    def sign(self, message):
        return self.private.sign(message, ec.ECDSA(self.hash, deterministic_signing=True))

    def piv(self, serial):
        method = {"piv": {"serial": serial, "slot": "9c", "attestation": SHA256(b"certificates of " + self.seed.encode()).hex()}}
        return {"spki": B64(self.spki), "added": SINCE, "method": method}

    def page(self):
        method = {"webauthn": {"rpId": RP, "origin": PAGE, "credential": B64(self.seed.encode())}}
        return {"spki": B64(self.spki), "added": SINCE, "method": method}


ALICE, BOB, CAROL, PAGE_KEY = Key("alice"), Key("bob", ec.SECP384R1(), hashes.SHA384()), Key("carol"), Key("carol's page")


def pae(kind, payload):
    return f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload


def envelope(kind, payload, *signatures):
    return canonical({"payload": B64(payload), "payloadType": kind, "signatures": list(signatures)})


def signed(key, kind, payload):
    return {"keyid": key.id, "sig": B64(key.sign(pae(kind, payload)))}


def roster():
    kind = "application/vnd.chancery.roster.v1+json"
    first = {
        "version": 1,
        "people": [
            {"name": "alice", "added": SINCE, "principals": ["token:ab12"], "keys": [ALICE.piv(1001)]},
            {"name": "bob", "added": SINCE, "keys": [BOB.piv(1002)]},
        ],
        "groups": [{"name": "keys", "members": ["alice", "bob"]}, {"name": "release", "members": ["alice", "bob"]}],
        "changes": {"group": "keys", "count": 2},
    }
    one = canonical(first)
    carol = {"name": "carol", "added": LATER, "keys": [CAROL.piv(1003), PAGE_KEY.page()]}
    two = canonical(first | {
        "version": 2,
        "previous": SHA256(one).hex(),
        "people": first["people"] + [carol],
        "groups": [{"name": "keys", "members": ["alice", "bob"]}, {"name": "release", "members": ["alice", "bob", "carol"]}],
    })
    both = sorted((signed(key, kind, two) for key in (ALICE, BOB)), key=lambda s: s["keyid"])
    return one, {"roster-1": envelope(kind, one), "roster-2": envelope(kind, two, *both)}


def statement(decision):
    return canonical({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "r.example/team/app", "digest": {"sha256": SHA256(b"manifest").hex()}}],
        "predicateType": "urn:uuid:36e898e0-2228-4a81-bf5d-5db6542dcd66",
        "predicate": {
            "decision": decision,
            "log": "log.example.com",
            "request": "019ab4f2-3c00-7000-8000-000000000001",
            "requester": "token:cd34",
            "change": {"image": {
                "tag": "v1", "size": 1234, "mediaType": "application/vnd.oci.image.index.v1+json",
                "children": ["sha256:" + SHA256(name).hex() for name in (b"amd64", b"arm64")],
            }},
            "signatures": [{"format": "dct-metadata", "key": SHA256(b"targets key").hex()}],
            "policy": {"set": SHA256(b"set").hex(), "schema": SHA256(b"schema").hex()},
            "nonce": "000102030405060708090a0b0c0d0e0f",
            "notBefore": LATER,
            "expires": "2026-11-24T21:00:00.000Z",
            "breakGlass": "the fix for CVE-2026-0001, “today”",
        },
    })


def by_page(key, payload):
    challenge = base64.urlsafe_b64encode(SHA256(b"chancery approval by webauthn v1\n" + payload)).decode().rstrip("=")
    client = json.dumps({"type": "webauthn.get", "challenge": challenge, "origin": PAGE, "crossOrigin": False}).encode()
    data = SHA256(RP.encode()) + bytes([0x05]) + (7).to_bytes(4)
    made = {"keyid": key.id, "sig": B64(key.sign(data + SHA256(client)))}
    return made | {"webauthn": {"authenticatorData": B64(data), "clientDataJSON": B64(client)}}


def main():
    kind = "application/vnd.in-toto+json"
    one, files = roster()
    yes, no = statement("approve"), statement("reject")
    files |= {
        "statement": yes,
        "approval-alice": envelope(kind, yes, signed(ALICE, kind, yes)),
        "approval-bob": envelope(kind, yes, signed(BOB, kind, yes)),
        "approval-carol": envelope(kind, yes, by_page(PAGE_KEY, yes)),
        "rejection-bob": envelope(kind, no, signed(BOB, kind, no)),
        "known": canonical({
            "pin": SHA256(one).hex(), "statement": SHA256(yes).hex(),
            "code": f"{int.from_bytes(SHA256(yes)[:8]) % 1_000_000:06}",
        }),
    }
    for name, data in files.items():
        (HERE / f"{name}.json").write_bytes(data)


main()
