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
    return x, y, 1, x * y % Q


def ed25519(public, message, signature):
    base = ed_point((4 * pow(5, -1, Q) % Q).to_bytes(32, "little"))
    r, s, a = ed_point(signature[:32]), int.from_bytes(signature[32:], "little"), ed_point(public)
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    p, q = ed_mul(s, base), ed_add(r, ed_mul(k, a))
    return s < ORDER and (p[0] * q[2] - q[0] * p[2]) % Q == 0 and (p[1] * q[2] - q[1] * p[2]) % Q == 0


# ECDSA over P-256 (FIPS 186-5), in Jacobian coordinates; None is the point at infinity.
M = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
BASE = (0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
        0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5, 1)
SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200" "04")


def ec_double(p):
    if p is None:
        return None
    x, y, z = p
    square, delta = y * y % M, z * z % M
    beta, alpha = x * square % M, 3 * (x - delta) * (x + delta) % M
    x3 = (alpha * alpha - 8 * beta) % M
    return x3, (alpha * (4 * beta - x3) - 8 * square * square) % M, 2 * y * z % M


def ec_add(p, q):
    if p is None or q is None:
        return p or q
    zp, zq = p[2] * p[2] % M, q[2] * q[2] % M
    u, s = p[0] * zq % M, p[1] * q[2] * zq % M
    h, r = (q[0] * zp - u) % M, (q[1] * p[2] * zp - s) % M
    if h == 0:
        return ec_double(p) if r == 0 else None
    hh, v = h * h % M, u * h * h % M
    x = (r * r - h * hh - 2 * v) % M
    return x, (r * (v - x) - s * h * hh) % M, h * p[2] * q[2] % M


def ecdsa(spki, digest, signature):
    need(spki.startswith(SPKI) and len(spki) == len(SPKI) + 64, "a key that is not of P-256")
    x, y = int.from_bytes(spki[-64:-32]), int.from_bytes(spki[-32:])
    need(x < M and y < M and (y * y - x * x * x + 3 * x - B) % M == 0, "a key that is no point of P-256")
    r, s = der_integers(signature)
    if not (0 < r < N and 0 < s < N):
        return False
    w = pow(s, -1, N)
    u, v, key, point = int.from_bytes(digest) * w % N, r * w % N, (x, y, 1), None
    table = [None, BASE, key, ec_add(BASE, key)]
    for bit in range(255, -1, -1):
        point = ec_add(ec_double(point), table[(u >> bit & 1) + 2 * (v >> bit & 1)])
    return point is not None and point[0] * pow(point[2] * point[2], -1, M) % M % N == r


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
        need(len(key) == 33 and key[0] == 1, "it is not of Ed25519")
        need(sha256(name.encode() + b"\n" + key)[:4].hex() == key_id, "its parts do not belong together")
    except (Wrong, ValueError) as error:
        raise Usage(f"{text!r} is no verifier key of a log: {error}") from error
    return name, key_id, key


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
            need(len(data) == 68 and ed25519(key[1:], text.encode(), data[4:]), "a signature of the log that does not verify")
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


# What is in each leaf's spec: names with "?" may be absent, [x] is a list of such, int is a number as RFC 8785 carries it.
POLICY = {"set": str, "schema": str}
REQUESTED = {"request": str, "by": str, "rules": [str]}
KEEPER = {"name": str, "charter": str, "keys": [{"spki": str, "purpose": str, "repositories": [str], "evidence": [str]}]}
FILE = {"sha256": str, "length": int}
CHANGE = {"tag": str, "digest": str, "size": int, "media_type": str, "requested": REQUESTED}
METADATA = {"version": int, "expires": str}
ACTIONS = {
    "root-certificate": {"serial": str, "not_before": str, "not_after": str},
    "root": METADATA | {"certificate": str, "roles": {"root": str, "targets": str, "snapshot": str, "timestamp": str}},
    "targets": METADATA | {"prev?": str, "changes": [CHANGE]},
    "snapshot": METADATA | {"root": FILE, "targets": FILE},
    "timestamp": METADATA | {"snapshot": FILE},
}
EVENT = {"event": str, "time": str, "nonce": str}
EVENTS = {
    "started": EVENT | {"version": str, "policy": POLICY},
    "stopped": EVENT,
    "recovered": EVENT,
    "unsealed": EVENT | {"reason": str, "at": str},
    "token-trouble": EVENT | {"keeper": str, "problems": [{"key?": str, "code": str}]},
    "token-well": EVENT | {"keeper": str},
    "clock-stepped": EVENT | {"by_ms": int},
    "keeper": EVENT | {"keeper": KEEPER},
    "token-created": EVENT | {"by": str, "token": str, "secret_sha256": str, "scopes": [str], "repositories": [str],
                              "expires": str, "note": str},
    "token-revoked": EVENT | {"by": str, "token": str},
    "store-rolled-back": EVENT | {"database": int, "spool": int},
    "spool-rolled-back": EVENT | {"spool": int, "noted": int},
    "refusals-limited": EVENT | {"by": str, "from": str},
    "refusals-counted": EVENT | {"by?": str, "from": str, "until": str, "count": int},
}
KINDS = {
    "genesis": {"log": str, "vkey": str, "time": str, "nonce": str, "keepers": [KEEPER]},
    "intent": {"log": str, "keeper": str, "key": str, "purpose": str, "format": str, "time": str, "nonce": str,
               "repository": str, "policy?": POLICY, "requested?": REQUESTED, "retries?": int, "action": ACTIONS, "payload": str},
    "hashedrekord": {"hashedRekordV002": {
        "data": {"algorithm": str, "digest": str},
        "signature": {"content": str, "verifier": {"keyDetails": str, "publicKey": {"rawBytes": str}}}}},
    "outcome": {"intent": int, "outcome": str, "time": str, "keeper": str, "code?": str},
    "denied": {"request": str, "by": str, "time": str, "nonce": str, "action": str, "repository": str, "tag?": str,
               "digest?": str, "policy": POLICY, "reasons": [{"rule": str, "remedy": str, "message": str}]},
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
    else:
        # In Python, true is a number.
        need(type(value) is shape and (shape is str or 0 <= value <= 2**53), f"{where} is of another type")


class Meaning:
    """What the leaves promise: no signature without an intent, and one end to each intent."""

    def __init__(self, origin, vkey):
        self.origin, self.vkey = origin, vkey
        self.open, self.presented, self.findings = {}, {}, []
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
                     "outcome": self.outcome, "event": self.event, "denied": lambda *_: None}
            kinds[leaf["kind"]](index, leaf["spec"])
        except (Wrong, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            self.findings.append(f"entry {index}: {error!r}")

    def genesis(self, _, spec):
        for keeper in spec["keepers"]:
            self.keeper(keeper)
        need((spec["log"], spec["vkey"]) == (self.origin, self.vkey), "a genesis entry of another log")

    def event(self, _, spec):
        if spec["event"] == "keeper":
            self.keeper(spec["keeper"])

    def keeper(self, spec):
        for key in spec["keys"]:
            self.presented[spec["name"], sha256(unbase64(key["spki"])).hex()] = key["purpose"]

    def intent(self, index, spec):
        self.open[index] = spec["keeper"], spec["key"], spec["payload"]
        need(spec["log"] == self.origin, "an intent of another log")
        [action] = spec["action"]
        certificate = action == "root-certificate"
        need(spec["purpose"] == ("root" if certificate else action), "a purpose that is not the action's")
        need(spec["format"] == ("dct-root-certificate" if certificate else "dct-metadata"), "a format that is not the action's")
        need(self.presented.get((spec["keeper"], spec["key"])) == spec["purpose"], "a key that its keeper has not presented")

    def completion(self, _, spec):
        [(name, record)] = spec.items()
        verifier = record["signature"]["verifier"]
        need((name, record["data"]["algorithm"], verifier["keyDetails"]) ==
             ("hashedRekordV002", "SHA2_256", "PKIX_ECDSA_P256_SHA_256"), "a completion of another algorithm")
        spki, digest = unbase64(verifier["publicKey"]["rawBytes"]), unbase64(record["data"]["digest"])
        wanted = sha256(spki).hex(), digest.hex()
        oldest = next((i for i, (_, *rest) in self.open.items() if tuple(rest) == wanted), None)
        need(oldest is not None, "a signature that no open intent announced")
        del self.open[oldest]
        self.ends["signed"] += 1
        need(ecdsa(spki, digest, unbase64(record["signature"]["content"])), "a signature that does not verify")

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
    report = {"origin": origin, "size": size, "root": base64.b64encode(root).decode(), **meaning.ends,
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
