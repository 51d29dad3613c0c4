#!/usr/bin/env python3
"""A second verifier of Chancery's rosters and approvals, written from docs/people-formats.md alone, with nothing but Python's own library.

    verify_people.py PIN FILE...

PIN is the SHA-256 of the first roster, as charters have it; the files are signed rosters, in the order of their versions, and
approvals and rejections. It checks that each roster follows the one before by the word of that one's people, and that each approval
is signed by a key of the newest roster in the way that stands there, and says who said what of which statement. Whether they are
enough is the rule of a key: it stands in the charter, and is not asked for here. One JSON object goes to standard output.
Exit codes: 0 right, 10 not right, 9 a file cannot be read, 2 wrong usage.
"""
import base64, hashlib, json, sys

# What is verified may lie in a folder that nobody writes to.
sys.dont_write_bytecode = True
from verify_log import P256, P384, Unreadable, Wrong, need, sha256, shaped, unbase64

ROSTER, STATEMENT = "application/vnd.chancery.roster.v1+json", "application/vnd.in-toto+json"
IN_TOTO, PREDICATE = "https://in-toto.io/Statement/v1", "urn:uuid:36e898e0-2228-4a81-bf5d-5db6542dcd66"

# What is in each document: names with "?" may be absent, [x] is a list of such.
ENVELOPE = {"payload": str, "payloadType": str, "signatures": [
    {"keyid": str, "sig": str, "webauthn?": {"authenticatorData": str, "clientDataJSON": str}}]}
METHOD = {"piv?": {"serial": int, "slot": str, "attestation": str}, "webauthn?": {"rpId": str, "origin": str, "credential": str}}
PEOPLE = {"version": int, "previous?": str, "changes": {"group": str, "count": int}, "groups": [{"name": str, "members": [str]}],
          "people": [{"name": str, "added": str, "principals?": [str], "keys": [{"spki": str, "added": str, "method": METHOD}]}]}
CHANGE = {"image?": {"tag": str, "size": int, "mediaType": str, "children?": [str]}, "bytes?": {}}
SAID = {"_type": str, "predicateType": str, "subject": [{"name": str, "digest": {"sha256": str}}], "predicate": {
    "decision": str, "log": str, "request": str, "requester": str, "change": CHANGE, "signatures": [{"format": str, "key": str}],
    "policy": {"set": str, "schema": str}, "nonce": str, "notBefore": str, "expires": str, "breakGlass?": str}}


def document(data, shape, what):
    """A JSON document of this shape, in its one spelling."""
    value = json.loads(data)
    shaped(value, shape, what)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    need(text == data, f"{what} is not in canonical form")
    return value


def pae(kind, payload):
    return f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload


def signed(spki, message, signature):
    """ECDSA in the hash that belongs to the key's curve."""
    if spki.startswith(P384.spki):
        return P384.verifies(spki, hashlib.sha384(message).digest(), signature)
    return P256.verifies(spki, sha256(message), signature)


class Roster:
    """A roster that is in force."""

    def __init__(self, payload):
        self.payload, self.content = payload, document(payload, PEOPLE, "a roster")
        self.keys = {}
        for person in self.content["people"]:
            need(person["keys"], f"{person['name']} has no key")
            for key in person["keys"]:
                spki = unbase64(key["spki"])
                need(len(key["method"]) == 1, "a key with other than one method")
                need(sha256(spki).hex() not in self.keys, "a key that stands in a roster twice")
                self.keys[sha256(spki).hex()] = person["name"], spki, key["method"]
        names = [person["name"] for person in self.content["people"]]
        self.groups = {group["name"]: group["members"] for group in self.content["groups"]}
        need(names == sorted(set(names)) and len(self.groups) == len(self.content["groups"]), "a person or a group that stands in a roster twice")
        need(all(member in names for members in self.groups.values() for member in members), "a member of a group who is not among the people")
        changes = self.content["changes"]
        need(1 <= changes["count"] <= len(set(self.groups[changes["group"]])), "a roster that nobody could follow")

    def followed_by(self, payload, signatures):
        after = Roster(payload)
        need(after.content["version"] == self.content["version"] + 1, "a roster that is not the next version")
        need(after.content.get("previous") == sha256(self.payload).hex(), "a roster that follows another one")
        signers = set()
        for one in signatures:
            name, spki, method = self.keys.get(one["keyid"], (None, None, {}))
            need("piv" in method and "webauthn" not in one, "a roster signed by a key that is no PIV key of the one before")
            need(signed(spki, pae(ROSTER, payload), unbase64(one["sig"])), f"a roster with a signature by {name} that does not verify")
            signers.add(name)
        changes = self.content["changes"]
        need(len(signers & set(self.groups[changes["group"]])) >= changes["count"], "a roster that too few people of the one before have signed")
        return after

    def by_page(self, key, one, statement):
        """An assertion of WebAuthn: a verified user touched, on the site that the roster names, for this statement."""
        _, spki, method = key
        data, client = (unbase64(one["webauthn"][name]) for name in ("authenticatorData", "clientDataJSON"))
        words = json.loads(client, object_pairs_hook=once)
        challenge = base64.urlsafe_b64encode(sha256(b"chancery approval by webauthn v1\n" + statement)).decode().rstrip("=")
        asked = words["type"], words["challenge"], words["origin"], words.get("crossOrigin", False), words.get("topOrigin")
        need(asked == ("webauthn.get", challenge, method["webauthn"]["origin"], False, None), "an assertion about something else")
        need(data[:33] == sha256(method["webauthn"]["rpId"].encode()) + b"\5" and len(data) == 37, "an assertion by an authenticator that saw no verified user")
        return signed(spki, data + sha256(client), unbase64(one["sig"]))

    def word(self, payload, signatures):
        """Who said what of which statement."""
        said = document(payload, SAID, "a statement")
        need((said["_type"], said["predicateType"]) == (IN_TOTO, PREDICATE), "a statement of another kind")
        need(len(said["subject"]) == 1 and len(said["predicate"]["change"]) == 1, "a statement about other than one change")
        need(said["predicate"]["decision"] in ("approve", "reject"), "a decision that is none")
        [one] = signatures
        key = self.keys.get(one["keyid"])
        need(key, "an approval by a key that the roster does not have")
        name, spki, method = key
        need(("webauthn" in one) == ("webauthn" in method), f"an approval by {name} made in another way than the roster has it")
        right = self.by_page(key, one, payload) if "webauthn" in one else signed(spki, pae(STATEMENT, payload), unbase64(one["sig"]))
        need(right, f"an approval by {name} whose signature does not verify")
        return name, said


def once(pairs):
    need(len({name for name, _ in pairs}) == len(pairs), "a member that stands twice")
    return dict(pairs)


def verify(pin, files):
    roster, statements = None, {}
    for path, data in files:
        try:
            outer = document(data, ENVELOPE, "an envelope")
            payload, kind, signatures = unbase64(outer["payload"]), outer["payloadType"], outer["signatures"]
            if kind == ROSTER and roster is None:
                need(sha256(payload).hex() == pin and signatures == [], "the first roster is not the one that is pinned")
                roster = Roster(payload)
                need(roster.content["version"] == 1 and "previous" not in roster.content, "the first roster is not version 1")
            elif kind == ROSTER:
                roster = roster.followed_by(payload, signatures)
            else:
                need(kind == STATEMENT and roster, "neither a roster nor an approval behind one")
                name, said = roster.word(payload, signatures)
                # An approval and a rejection differ in one word: both are about the statement that approves.
                decision, said["predicate"]["decision"] = said["predicate"]["decision"], "approve"
                about = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
                entry = statements.setdefault(about, {
                    "sha256": sha256(about).hex(), "code": f"{int.from_bytes(sha256(about)[:8]) % 1_000_000:06}",
                    "subject": said["subject"][0], "notBefore": said["predicate"]["notBefore"],
                    "expires": said["predicate"]["expires"], "requester": said["predicate"]["requester"], "approved": [], "rejected": []})
                entry["approved" if decision == "approve" else "rejected"].append(name)
        except (Wrong, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            return 10, {"error": f"{path}: {error}"}
    if roster is None:
        return 10, {"error": "there is no roster among the files"}
    version, digest = roster.content["version"], sha256(roster.payload).hex()
    return 0, {"roster": {"version": version, "sha256": digest}, "statements": list(statements.values())}


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error}") from error


def main(arguments):
    if len(arguments) < 2 or len(arguments[0]) != 64:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        code, answer = verify(arguments[0], [(path, read(path)) for path in arguments[1:]])
    except Unreadable as error:
        code, answer = 9, {"error": str(error)}
    print(json.dumps(answer))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
