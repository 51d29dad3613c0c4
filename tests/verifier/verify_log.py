#!/usr/bin/env python3
"""A second verifier of a Chancery log, written from the formats alone, with nothing but Python's own library.

    verify_log.py FOLDER|URL VKEY [OTHER_CHECKPOINT...]

It reads what `chancery log fetch` has written, or a server (its auditor's token in CHANCERY_TOKEN, its CA in CHANCERY_CACERT),
and checks what `chancery log verify` checks: the note's signature, every entry, tile and the root, every signature, every
intent's end, and that the log begins with each other checkpoint that is named. One JSON object goes to standard output.
Exit codes: 0 right, 10 not right, 5 no log there, 9 it cannot be read (a server that is away or refuses, a file without
permission), 2 wrong usage. Of a leaf it checks every member's name and whether it is a text, a whole number or a list; whether a
text is a time, a name or a hash it checks only where it works with it, and neither the order nor the number of items of a list.
It shares no code with the service, and is made for reading: the curves are the textbook's, neither fast nor constant in time,
which checking public signatures need not be.

How to read its 560 lines: 160 check signatures, which Python's library cannot (Ed25519, ECDSA, RSA-PSS, DER); 120 are the tree, the
note and the files; 85 name the members of every kind of leaf; 95 are what the leaves promise, in `Meaning`. `verify` ties them up.
"""
import base64, hashlib, http.client, json, os, ssl, sys, urllib.error, urllib.request


class Wrong(Exception):
    """The log is not what it says."""


class Unreadable(Exception):
    """Nothing can be said of the log."""


class Usage(Exception):
    """The command line is wrong."""


def need(condition, what):
    if not condition:
        raise Wrong(what)


def sha256(data):
    return hashlib.sha256(data).digest()


def unbase64(text):
    data = base64.b64decode(text, validate=True)
    need(base64.b64encode(data).decode() == text, f"{text[:20]} is not the one spelling of its bytes")
    return data


# Ed25519 (RFC 8032), in extended coordinates.
Q = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, Q) % Q


def ed_add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % Q, (p[1] + p[0]) * (q[1] + q[0]) % Q
    c, d = 2 * p[3] * q[3] * D % Q, 2 * p[2] * q[2] % Q
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % Q, g * h % Q, f * g % Q, e * h % Q


def ed_mul(scalar, point):
    total = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = ed_add(total, point)
        point, scalar = ed_add(point, point), scalar >> 1
    return total


def ed_point(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, -1, Q) % Q
    x = pow(square, (Q + 3) // 8, Q)
    if (x * x - square) % Q:
        x = x * pow(2, (Q - 1) // 4, Q) % Q
    need(y < Q and (x * x - square) % Q == 0 and (x or not sign), "32 bytes that are no point of Ed25519")
    x = Q - x if x & 1 != sign else x
    need(ed_mul(8, (x, y, 1, x * y % Q))[0], "a point of small order, under which anything verifies")
    return x, y, 1, x * y % Q


def ed25519(public, message, signature):
    base = ed_point((4 * pow(5, -1, Q) % Q).to_bytes(32, "little"))
    r, s, a = ed_point(signature[:32]), int.from_bytes(signature[32:], "little"), ed_point(public)
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    p, q = ed_mul(s, base), ed_add(r, ed_mul(k, a))
    return s < ORDER and (p[0] * q[2] - q[0] * p[2]) % Q == 0 and (p[1] * q[2] - q[1] * p[2]) % Q == 0


class Curve:
    """ECDSA over y^2 = x^3 - 3x + b (FIPS 186-5), in Jacobian coordinates; None is the point at infinity."""

    def __init__(self, name, m, n, b, x, y, spki):
        self.name, self.m, self.n, self.b, self.base = name, m, n, b, (x, y, 1)
        self.size, self.spki = (m.bit_length() + 7) // 8, bytes.fromhex(spki) + b"\4"

    def double(self, p):
        if p is None:
            return None
        (x, y, z), m = p, self.m
        square, delta = y * y % m, z * z % m
        beta, alpha = x * square % m, 3 * (x - delta) * (x + delta) % m
        x3 = (alpha * alpha - 8 * beta) % m
        return x3, (alpha * (4 * beta - x3) - 8 * square * square) % m, 2 * y * z % m

    def add(self, p, q):
        if p is None or q is None:
            return p or q
        m = self.m
        zp, zq = p[2] * p[2] % m, q[2] * q[2] % m
        u, s = p[0] * zq % m, p[1] * q[2] * zq % m
        h, r = (q[0] * zp - u) % m, (q[1] * p[2] * zp - s) % m
        if h == 0:
            return self.double(p) if r == 0 else None
        hh, v = h * h % m, u * h * h % m
        x = (r * r - h * hh - 2 * v) % m
        return x, (r * (v - x) - s * h * hh) % m, h * p[2] * q[2] % m

    def verifies(self, spki, digest, signature):
        need(spki.startswith(self.spki) and len(spki) == len(self.spki) + 2 * self.size, f"a key that is not of {self.name}")
        x, y = int.from_bytes(spki[-2 * self.size:-self.size]), int.from_bytes(spki[-self.size:])
        m, n = self.m, self.n
        need(x < m and y < m and (y * y - x * x * x + 3 * x - self.b) % m == 0, f"a key that is no point of {self.name}")
        r, s = der_integers(signature)
        if not (0 < r < n and 0 < s < n):
            return False
        w = pow(s, -1, n)
        u, v, key, point = int.from_bytes(digest) * w % n, r * w % n, (x, y, 1), None
        table = [None, self.base, key, self.add(self.base, key)]
        for bit in range(n.bit_length() - 1, -1, -1):
            point = self.add(self.double(point), table[(u >> bit & 1) + 2 * (v >> bit & 1)])
        return point is not None and point[0] * pow(point[2] * point[2], -1, m) % m % n == r


P256 = Curve("P-256", 2**256 - 2**224 + 2**192 + 2**96 - 1,
             0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
             0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
             0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
             0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
             "3059301306072a8648ce3d020106082a8648ce3d030107034200")
P384 = Curve("P-384", 2**384 - 2**128 - 2**96 + 2**32 - 1,
             0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
             0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
             0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
             0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F,
             "3076301006072a8648ce3d020106052b81040022036200")


def der(tag, *parts):
    """One DER value."""
    content = b"".join(parts)
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8 or 1)
    return bytes([tag]) + (length if len(content) < 128 else bytes([128 + len(length)]) + length) + content


def rsa_pss(spki, bits, digest, signature):
    """RSASSA-PSS with SHA-256 and a salt of 32 bytes (RFC 8017, 8.1.2 and 9.1.2)."""
    def key(n, e):
        parts = [der(2, number.to_bytes(number.bit_length() // 8 + 1)) for number in (n, e)]
        return der(48, bytes.fromhex("300d06092a864886f70d0101010500"), der(3, b"\0", der(48, *parts)))

    # The one spelling of a key of this size is longer than its exponent by a fixed number of bytes.
    start = key(2**bits - 1, 65537).index(b"\xff" * (bits // 8))
    n, rest = int.from_bytes(spki[start:start + bits // 8]), spki[start + bits // 8:]
    e = int.from_bytes(rest[2:])
    need(n.bit_length() == bits and 1 < e < 2**33 and n & e & 1 and spki == key(n, e), f"a key that is not of RSA with {bits} bits")
    s, size = int.from_bytes(signature), bits // 8
    need(len(signature) == size, "a signature of another length than its key's")
    block = pow(s, e, n).to_bytes(size) if s < n else bytes(size)
    masked, h = block[:-33], block[-33:-1]
    mask = b"".join(sha256(h + i.to_bytes(4)) for i in range(len(masked) // 32 + 1))
    plain = bytes(a ^ b for a, b in zip(masked, mask))
    plain = bytes([plain[0] & 0x7F]) + plain[1:]
    salt = plain[-32:]
    return (s < n and block[-1] == 0xBC and masked[0] < 128 and plain[:-32] == bytes(len(plain) - 33) + b"\1"
            and h == sha256(bytes(8) + digest + salt))


ED25519_SPKI = bytes.fromhex("302a300506032b6570032100")


def ed25519_spki(spki, message, signature):
    need(spki.startswith(ED25519_SPKI) and len(spki) == 44 and len(signature) == 64, "a key or a signature that is not of Ed25519")
    return ed25519(spki[12:], message, signature)


# Each kind of key: the hash that it signs, and whether a signature is its. Ed25519 signs the message itself.
ALGORITHMS = {
    "PKIX_ECDSA_P256_SHA_256": ("SHA2_256", P256.verifies),
    "PKIX_ECDSA_P384_SHA_384": ("SHA2_384", P384.verifies),
    **{f"PKIX_RSA_PSS_{bits}_SHA256": ("SHA2_256", lambda key, digest, made, bits=bits: rsa_pss(key, bits, digest, made))
       for bits in (2048, 3072, 4096)},
}
HASH_BYTES = {"SHA2_256": 32, "SHA2_384": 48}


def der_signature(raw):
    """An ECDSA signature in DER, from the two numbers in their full length."""
    halves = [int.from_bytes(half) for half in (raw[:len(raw) // 2], raw[len(raw) // 2:])]
    return der(48, *(der(2, number.to_bytes(number.bit_length() // 8 + 1)) for number in halves))


def der_integers(data):
    length = data[3] if len(data) > 3 else 0
    parts = data[4:4 + length], data[6 + length:]
    canonical = b"".join(b"\2" + bytes([len(p)]) + p for p in parts)
    need(data == b"0" + bytes([len(canonical)]) + canonical, "a signature that is not DER")
    for part in parts:
        need(part and part[0] < 128 and (part[0] or len(part) == 1 or part[1] > 127), "a DER number with more bytes than it needs")
    return [int.from_bytes(part) for part in parts]


# The tree (RFC 6962 2.1), the note (C2SP signed-note, tlog-checkpoint), the files (C2SP tlog-tiles).
def root_of(hashes):
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256(b"")
    k = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\1" + root_of(hashes[:k]) + root_of(hashes[k:]))


def verifier_key(text):
    """Name, id and key (with its kind's byte) of a verifier key."""
    try:
        name, key_id, key = text.split("+", 2)
        key = unbase64(key)
        need(key[:1] in (b"\1", b"\2"), "it is neither of Ed25519 nor of ECDSA")
        need(len(key) == (33 if key[0] == 1 else 92), "its key has another length")
        # The id of an ECDSA key does not depend on the name.
        named = name.encode() + b"\n" + key if key[0] == 1 else key[1:]
        need(sha256(named)[:4].hex() == key_id, "its parts do not belong together")
    except (Wrong, ValueError) as error:
        raise Usage(f"{text!r} is no verifier key of a log: {error}") from error
    return name, key_id, key


def signs(key, text, signature):
    """Whether this log key (with its kind's byte) signed a note's text."""
    if key[0] == 1:
        return len(signature) == 64 and ed25519(key[1:], text, signature)
    return P256.verifies(key[1:], sha256(text), signature)


def checkpoint(note, vkey):
    """Origin, size and root of a note that this key has signed."""
    name, key_id, key = verifier_key(vkey)
    need("\n\n" in note and note.endswith("\n"), "a checkpoint without signatures")
    text, _, lines = note.rpartition("\n\n")
    text, signed = text + "\n", False
    for line in lines[:-1].split("\n"):
        dash, by, data = line.split(" ")
        data = unbase64(data)
        need(dash == "\u2014" and len(data) > 4, "a line that is no signature")
        if by == name and data[:4].hex() == key_id:
            need(signs(key, text.encode(), data[4:]), "a signature of the log that does not verify")
            signed = True
    need(signed, "a checkpoint that the log's key has not signed")
    origin, size, root = text[:-1].split("\n")
    need(origin == name and str(int(size)) == size, "a checkpoint of another log, or with an odd size")
    return origin, int(size), unbase64(root)


def tile_path(kind, index, width):
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.insert(0, f"x{index % 1000:03}")
    return f"tile/{kind}/{'/'.join(groups)}" + (f".p/{width}" if width < 256 else "")


class Files:
    def __init__(self, place):
        self.place = place
        cafile = os.environ.get("CHANCERY_CACERT")
        try:
            self.tls = ssl.create_default_context(cafile=cafile) if "://" in place else None
        except OSError as error:
            raise Unreadable(f"CHANCERY_CACERT {cafile}: {error}") from error

    def read(self, path):
        try:
            return self.found(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unreadable(f"cannot read {path} of {self.place}: {error}") from error

    def found(self, path):
        if self.tls is None:
            with open(os.path.join(self.place, path), "rb") as file:
                return file.read()
        token = os.environ.get("CHANCERY_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"{self.place.rstrip('/')}/v1/log/{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, context=self.tls, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def tile(self, kind, index, width):
        """The file and how many items its name promises: the full one may have taken a partial one's place."""
        for found in dict.fromkeys([width, 256]):
            data = self.read(tile_path(kind, index, found))
            if data is not None:
                return data, found
        raise Wrong(f"{tile_path(kind, index, width)} is missing")


def entries(files, size):
    for index in range((size + 255) // 256):
        width = min(256, size - index * 256)
        data, promised = files.tile("entries", index, width)
        found, at = [], 0
        while at < len(data):
            end = at + 2 + int.from_bytes(data[at:at + 2])
            need(end <= len(data) and len(data) - at >= 2, f"bundle {index} ends inside an entry")
            found.append(data[at + 2:end])
            at = end
        need(len(found) == promised, f"bundle {index} has {len(found)} entries")
        yield from found[:width]


def tiles(files, hashes):
    """Every hash tile of every level is what the leaf hashes give."""
    level = 0
    while hashes:
        for index in range((len(hashes) + 255) // 256):
            ours = b"".join(hashes[index * 256:index * 256 + 256])
            data, promised = files.tile(level, index, len(ours) // 32)
            need(len(data) == promised * 32 and data.startswith(ours), f"tile {index} of level {level} is not that of the entries")
        hashes = [root_of(hashes[i:i + 256]) for i in range(0, len(hashes) // 256 * 256, 256)]
        level += 1


class Signed:
    """A whole number that may be negative."""


# What is in each leaf's spec: names with "?" may be absent, [x] is a list of such, int is a number as RFC 8785 carries it, from 0
# on, and Signed one of any sign.
ANYTHING = object()
EVIDENCE = {"facts": ANYTHING, "engine": str}
POLICY = {"set": str, "schema": str}
REQUESTED = {"request": str, "by": str, "rules": [str], "decision?": str, "statement?": str}
KEEPER = {"name": str, "charter": str, "keys": [{"spki": str, "purpose": str, "repositories": [str], "evidence": [str]}]}
FILE = {"sha256": str, "length": int}
CHANGE = {"tag": str, "digest": str, "size": int, "media_type": str, "requested": REQUESTED}
METADATA = {"version": int, "expires": str}
ROLES = {"root": str, "targets": str, "snapshot": str, "timestamp": str}
ACTIONS = {
    "root-certificate": {"serial": str, "not_before": str, "not_after": str},
    "root": METADATA | {"certificate": str, "roles": ROLES},
    "targets": METADATA | {"prev?": str, "changes": [CHANGE]},
    "snapshot": METADATA | {"root": FILE, "targets": FILE},
    "timestamp": METADATA | {"snapshot": FILE},
}
EVENT = {"event": str, "time": str, "nonce": str}
EVENTS = {
    "started": EVENT | {"version": str, "policy": POLICY, "config": str, "witness_policy?": str},
    "stopped": EVENT,
    "recovered": EVENT,
    "unsealed": EVENT | {"reason": str, "at": str},
    "token-trouble": EVENT | {"keeper": str, "problems": [{"key?": str, "code": str}]},
    "token-well": EVENT | {"keeper": str},
    "policy-changed": EVENT | {"old": POLICY, "new": POLICY},
    "clock-stepped": EVENT | {"by_ms": Signed},
    "keeper": EVENT | {"keeper": KEEPER},
    "token-created": EVENT | {"by": str, "token": str, "secret_sha256": str, "scopes": [str], "repositories": [str],
                              "expires": str, "note": str},
    "token-revoked": EVENT | {"by": str, "token": str},
    "store-rolled-back": EVENT | {"database": int, "spool": int},
    "spool-rolled-back": EVENT | {"spool": int, "noted": int},
    "refusals-limited": EVENT | {"by": str, "from": str},
    "refusals-counted": EVENT | {"by?": str, "from": str, "until": str, "count": int},
    "witness-lost": EVENT | {"witness": str, "code": str},
    "witness-conflict": EVENT | {"witness": str, "claimed": int, "size": int},
    "witness-back": EVENT | {"witness": str, "since": str},
    "adopted": EVENT | {"repository": str, "role": str, "version": int, "reserved?": int, "key": str, "payload": str,
                        "file": FILE, "expires": str, "parts": int, "content": str},
    "adopted-part": EVENT | {"content": str},
    "adopted-reservation": EVENT | {"repository": str, "role": str, "version": int,
                                    "root?": {"certificate": str, "roles": ROLES, "expires": str}},
}
CONTINUES = {"log": str, "vkey": str, "size": int, "root": str, "reason": str, "without?": [str]}
SIGNATURE = {"content": str, "verifier": {"keyDetails": str, "publicKey": {"rawBytes": str}}}
KINDS = {
    "genesis": {"log": str, "vkey": str, "time": str, "nonce": str, "keepers": [KEEPER], "continues?": CONTINUES},
    "intent": {"log": str, "keeper": str, "key": str, "purpose": str, "format": str, "time": str, "nonce": str,
               "repository": str, "policy?": POLICY, "requested?": REQUESTED, "retries?": int, "action": ACTIONS, "payload": str,
               "payload_sha384?": str},
    "hashedrekord": {"hashedRekordV002": {"data": {"algorithm": str, "digest": str}, "signature": SIGNATURE}},
    "signature": {"data": {"algorithm": str, "content": str, "digest": str}, "signature": SIGNATURE},
    "outcome": {"intent": int, "outcome": str, "time": str, "keeper": str, "code?": str},
    "denied": {"request": str, "by": str, "time": str, "nonce": str, "action": str, "repository": str, "tag?": str,
               "digest?": str, "policy": POLICY, "reasons": [{"rule": str, "remedy": str, "message": str}], "evidence?": EVIDENCE},
    "allowed": {"request": str, "by": str, "time": str, "nonce": str, "action": str, "repository": str, "tag?": str,
                "digest?": str, "policy": POLICY, "rules": [str], "evidence": EVIDENCE},
    "event": EVENTS,
}


def shaped(value, shape, where):
    """Demands that a value has exactly the members of its shape."""
    if shape is EVENTS:
        shape = EVENTS[value["event"]]
    elif shape is ACTIONS:
        [action] = value
        shape = {action: ACTIONS[action]}
    if isinstance(shape, list):
        need(type(value) is list, f"{where} is no list")
        for item in value:
            shaped(item, shape[0], where)
    elif isinstance(shape, dict):
        need(type(value) is dict, f"{where} has no members")
        known = {name.rstrip("?") for name in shape}
        need(set(value) <= known, f"{where} has members that it must not have: {sorted(set(value) - known)}")
        for name, inner in shape.items():
            plain = name.rstrip("?")
            need(plain in value or name != plain, f"{where} has no {plain}")
            if plain in value:
                shaped(value[plain], inner, plain)
    elif shape is ANYTHING:
        # Policy's facts: whoever decides again reads them.
        need(type(value) is dict, f"{where} has no members")
    elif shape is Signed:
        need(type(value) is int and abs(value) <= 2**53, f"{where} is no whole number")
    else:
        # In Python, true is a number.
        need(type(value) is shape and (shape is str or 0 <= value <= 2**53), f"{where} is of another type")


class Meaning:
    """What the leaves promise: no signature without an intent, and one end to each intent."""

    def __init__(self, origin, vkey):
        self.origin, self.vkey = origin, vkey
        self.open, self.presented, self.findings, self.decisions = {}, {}, [], {}
        self.continues, self.adopting, self.parts, self.root = None, None, [], (None, None)
        self.ends = {"signed": 0, "failed": 0, "unknown": 0, "void": 0}

    def entry(self, index, data):
        try:
            leaf = json.loads(data)
            canonical = json.dumps(leaf, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
            need(canonical == data and set(leaf) == {"apiVersion", "kind", "spec"}, "not a leaf in canonical form")
            version = "0.0.2" if leaf["kind"] == "hashedrekord" else "1"
            need(leaf["apiVersion"] == version, "a leaf of another version")
            shaped(leaf["spec"], KINDS[leaf["kind"]], leaf["kind"])
            need((index == 0) == (leaf["kind"] == "genesis"), "the genesis entry is the first one, and no other")
            kinds = {"genesis": self.genesis, "intent": self.intent, "hashedrekord": self.completion,
                     "signature": self.completion_with_message, "outcome": self.outcome, "event": self.event, "denied": lambda *_: None,
                     "allowed": lambda index, spec: self.decisions.update({sha256(data).hex(): (index, spec)})}
            if self.parts and leaf["spec"].get("event") not in ("adopted", "adopted-part"):
                self.parts = []
                self.findings.append(f"entry {index}: parts of a file of a former log, and no such file directly behind them")
            kinds[leaf["kind"]](index, leaf["spec"])
        except (Wrong, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            self.findings.append(f"entry {index}: {error!r}")

    def genesis(self, index, spec):
        self.continues = spec.get("continues")
        self.adopting = index + 1 if self.continues else None
        for keeper in spec["keepers"]:
            self.keeper(keeper)
        need((spec["log"], spec["vkey"]) == (self.origin, self.vkey), "a genesis entry of another log")

    def event(self, index, spec):
        if spec["event"].startswith("adopted"):
            need(self.adopting == index, "a file of a former log, and not directly behind a genesis entry that continues one")
            self.adopting += 1
            if spec["event"] != "adopted-reservation":
                self.adopted(spec)
        if spec["event"] == "keeper":
            self.keeper(spec["keeper"])

    def adopted(self, spec):
        """The bytes of a file that is taken over are those that its entry names."""
        self.parts.append(unbase64(spec["content"]))
        if spec["event"] == "adopted":
            file, parts, self.parts = b"".join(self.parts), len(self.parts) - 1, []
            need(parts == spec["parts"], "a file of another number of parts")
            need({"sha256": sha256(file).hex(), "length": len(file)} == spec["file"], "a file that is not the one that its entry names")
            self.adopted_file(spec, file)

    def adopted_file(self, spec, file):
        """Its collection's root names the key for its role, which has signed it; a root is signed by its own certificate's."""
        whole, role, repository = json.loads(file), spec["role"], spec["repository"]
        signed = whole["signed"]
        text = json.dumps(signed, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        named = sha256(text).hex(), signed["version"], signed["_type"]
        need(named == (spec["payload"], spec["version"], role.title()), "a file whose role, version or payload is not what its entry says")
        root = signed if role == "root" else self.root[1] if self.root[0] == repository else None
        need(root, "a file of a former log, and not behind the root of its collection")
        [key_id] = root["roles"][role]["keyids"]
        key = unbase64(root["keys"][key_id]["keyval"]["public"])
        if role == "root":
            # A certificate: it names the one collection, and holds the key.
            key = unbase64("".join(key.decode().splitlines()[1:-1]))
            need(der(12, repository.encode()) in key, "a root whose certificate is another collection's")
            key = key[key.index(P256.spki):][:len(P256.spki) + 2 * P256.size]
        need(sha256(key).hex() == spec["key"], "a file whose key is not the one that its entry names")
        made = [unbase64(one["sig"]) for one in whole["signatures"] if one["keyid"] == key_id and one["method"].lower() == "ecdsa"]
        need(any(len(raw) == 64 and P256.verifies(key, sha256(text), der_signature(raw)) for raw in made),
             "a file of a former log whose signature does not verify")
        self.root = (repository, root)

    def keeper(self, spec):
        for key in spec["keys"]:
            self.presented[spec["name"], sha256(unbase64(key["spki"])).hex()] = key["purpose"]

    def intent(self, index, spec):
        # A completion names the payload in the hash that its key signs, and so does the intent.
        self.open[index] = spec["keeper"], spec["key"], spec.get("payload_sha384", spec["payload"])
        need(spec["log"] == self.origin, "an intent of another log")
        [action] = spec["action"]
        certificate = action == "root-certificate"
        need(spec["purpose"] == ("root" if certificate else action), "a purpose that is not the action's")
        need(spec["format"] == ("dct-root-certificate" if certificate else "dct-metadata"), "a format that is not the action's")
        need(self.presented.get((spec["keeper"], spec["key"])) == spec["purpose"], "a key that its keeper has not presented")

        changes = spec["action"].get("targets", {"changes": []})["changes"]
        for asked in [spec] * ("requested" in spec) + changes:
            self.decided(index, spec, asked)

    def decided(self, index, intent, asked):
        """The decision that an intent names stands directly before it, and is about what the intent says."""
        requested = asked["requested"]
        if "decision" in requested:
            self.decisions = {name: found for name, found in self.decisions.items() if found[0] + 512 >= index}
            need(requested["decision"] in self.decisions, "a decision that does not stand directly before its intent")
            _, said = self.decisions[requested["decision"]]
            need(all(said[name] == requested[name] for name in ("request", "by", "rules")), "the decision about another request")
            need((said["repository"], said["policy"]) == (intent["repository"], intent["policy"]), "a decision about something else")
            same = "tag" not in asked or (said["tag"], said["digest"]) == (asked["tag"], asked["digest"])
            need(same, "the decision about another image")

    def completion(self, _, spec):
        record = spec["hashedRekordV002"]
        algorithm, digest = record["data"]["algorithm"], unbase64(record["data"]["digest"])
        details = record["signature"]["verifier"]["keyDetails"]
        hash_of, verifies = ALGORITHMS.get(details, (None, None))
        need(algorithm == hash_of and len(digest) == HASH_BYTES[algorithm], f"a completion of the algorithm {details}, {algorithm}")
        self.ended(record["signature"], digest, lambda spki, content: verifies(spki, digest, content))

    def completion_with_message(self, _, spec):
        data, details = spec["data"], spec["signature"]["verifier"]["keyDetails"]
        message, digest = unbase64(data["content"]), unbase64(data["digest"])
        need((details, data["algorithm"]) == ("PKIX_ED25519", "SHA2_256"), f"a completion of the algorithm {details}")
        need(sha256(message) == digest and len(message) <= 32768, "a digest that is not the message's, or too long a message")
        self.ended(spec["signature"], digest, lambda spki, content: ed25519_spki(spki, message, content))

    def ended(self, signature, digest, verifies):
        """Closes the oldest open intent for this key and payload."""
        spki = unbase64(signature["verifier"]["publicKey"]["rawBytes"])
        wanted = sha256(spki).hex(), digest.hex()
        oldest = next((i for i, (_, *rest) in self.open.items() if tuple(rest) == wanted), None)
        need(oldest is not None, "a signature that no open intent announced")
        del self.open[oldest]
        self.ends["signed"] += 1
        need(verifies(spki, unbase64(signature["content"])), "a signature that does not verify")

    def outcome(self, _, spec):
        need(spec["intent"] in self.open, "an outcome of no open intent")
        need(self.open[spec["intent"]][0] == spec["keeper"], "an outcome in the name of another keeper")
        need(spec["outcome"] in ("failed", "unknown", "void"), "an outcome of another kind")
        del self.open[spec["intent"]]
        self.ends[spec["outcome"]] += 1


def kept(path):
    """A checkpoint that somebody has kept."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise Usage(f"cannot read the checkpoint {path}: {error}") from error


def verify(place, vkey, others):
    verifier_key(vkey)
    others = {path: kept(path) for path in others}
    files = Files(place)
    note = files.read("checkpoint")
    if note is None:
        return 5, {"error": f"there is no checkpoint in {place}"}
    try:
        origin, size, root = checkpoint(note.decode(), vkey)
        meaning, hashes = Meaning(origin, vkey), []
        for index, data in enumerate(entries(files, size)):
            meaning.entry(index, data)
            hashes.append(sha256(b"\0" + data))
        tiles(files, hashes)
        need(root_of(hashes) == root, "the entries do not give the root that the log's key has signed")
        for path, other in others.items():
            _, before, old_root = checkpoint(other, vkey)
            need(before <= size and root_of(hashes[:before]) == old_root, f"the log does not begin with the checkpoint {path}")
    except (Wrong, ValueError) as error:
        return 10, {"error": str(error)}
    continues = {"continues": meaning.continues} if meaning.continues else {}
    report = {"origin": origin, "size": size, "root": base64.b64encode(root).decode(), **continues, **meaning.ends,
              "open_total": len(meaning.open), "findings_total": len(meaning.findings), "findings": meaning.findings[:100]}
    return (10 if meaning.findings else 0), report


def main(arguments):
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        code, answer = verify(arguments[0], arguments[1], arguments[2:])
    except Usage as error:
        code, answer = 2, {"error": str(error)}
    except Unreadable as error:
        code, answer = 9, {"error": str(error)}
    print(json.dumps(answer))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
