"""Makes the files beside it with Python's `cryptography`, independently of the crate: fixed seeds, so always the same bytes."""
import base64, hashlib, pathlib, struct
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HERE = pathlib.Path(__file__).parent
B64 = lambda data: base64.b64encode(data).decode()
LEAF = lambda entry: hashlib.sha256(b"\0" + entry).digest()
NODE = lambda left, right: hashlib.sha256(b"\1" + left + right).digest()


class Key:
    def __init__(self, name, kind, seed):
        self.name, self.secret = name, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        public = self.secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.id = hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]
        self.vkey = f"{name}+{self.id.hex()}+{B64(bytes([kind]) + public)}"

    def line(self, text):
        return f"\u2014 {self.name} {B64(self.id + self.secret.sign(text.encode()))}\n"

    def cosign(self, text, time):
        signature = self.secret.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
        return f"\u2014 {self.name} {B64(self.id + struct.pack('>Q', time) + signature)}\n"


log = Key("log.example.com", 1, 1)
one, two, three = (Key(f"w{n}.example.com/witness", 4, n + 10) for n in (1, 2, 3))
a, b, c = (LEAF(entry) for entry in (b"first", b"second", b"third"))
text = f"log.example.com\n3\n{B64(NODE(NODE(a, b), c))}\n"
note = f"{text}\n{log.line(text)}"
cosigned = note + one.cosign(text, 1790000000) + two.cosign(text, 1790000007)

(HERE / "second-of-three.tlog-proof").write_text(
    f"c2sp.org/tlog-proof@v1\nextra {B64(b'by the way')}\nindex 1\n{B64(a)}\n{B64(c)}\n\n{cosigned}")
(HERE / "add-checkpoint.txt").write_text(f"old 2\n{B64(c)}\n\n{note}")
(HERE / "answer.txt").write_text(one.cosign(text, 1790000000) + two.cosign(text, 1790000007))
(HERE / "policy.txt").write_text(f"""# Two of three.
log {log.vkey} https://log.example.com/v1/log

witness one {one.vkey} https://w1.example.com/
witness\ttwo  {two.vkey}
  witness three {three.vkey}
group own 2 one two three
quorum own
""")
