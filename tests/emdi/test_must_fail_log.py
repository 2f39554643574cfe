"""Tables of what readers of the log must refuse: notes, checkpoints, policies, receipts, tiles, entries, proofs."""

import pytest

from emdi import tiles
from emdi.checkpoint import parse_checkpoint
from emdi.encoding import b64_decode, b64_encode
from emdi.entry import parse_entry
from emdi.errors import EmdiError
from emdi.merkle import CompactRange, inclusion_path, leaf_hash, root_of, verify_consistency, verify_inclusion
from emdi.note import NoteSigner, VerifierKey, format_note, parse_note, sign_note, verify_note
from emdi.policy import parse_policy
from emdi.receipt import parse_receipt
from tests.emdi.making import refused, seed

ZEROS = "A" * 43

LOG = NoteSigner("log.example/1", seed("log"))
WITNESS = NoteSigner("witness.example/1", seed("witness"), 4)
NOTE = sign_note("hello\n", LOG)
LINE = NOTE.split(b"\n\n")[1]
NOTE_FAULTS = [
    (b"", "note.form"),
    (b"hello\n", "note.form"),
    (b"hello\n\n", "note.line"),
    (b"hello\n" + LINE, "note.form"),
    (NOTE[:-1], "note.form"),
    (NOTE.replace(b"\n", b"\r\n"), "note.control"),
    (NOTE.replace(b"hello", b"hel\0o"), "note.control"),
    (NOTE.replace(b"hello", b"hel\tlo"), "note.control"),
    (NOTE.replace(b"hello", b"hel\xfflo"), "note.utf8"),
    (NOTE + LINE, "note.duplicate"),
    (b"hello\n\n" + LINE.replace(b"\xe2\x80\x94", b"-"), "note.line"),
    (b"hello\n\n" + LINE.replace(b" log.", b"  log."), "note.name"),
    (b"hello\n\n" + LINE.replace(b"log.example", b"log+example"), "note.name"),
    (b"hello\n\n" + LINE.replace(b"log.example", "log\u3000example".encode()), "note.name"),
    (b"hello\n\n" + LINE[:-6] + b"\n", "note.line"),
    (b"hello\n\n\xe2\x80\x94 log.example/1 AAAA\n", "note.line"),
    (b"x" * (1 << 20) + NOTE, "note.size"),
    (b"hello\n\n" + b"".join(b"\xe2\x80\x94 k%d AAAAAAA=\n" % i for i in range(101)), "note.count"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "code"), NOTE_FAULTS)
def test_notes(data: bytes, code: str) -> None:
    refused(code, parse_note, data)


def test_note_verification() -> None:
    assert (
        len(
            parse_note(b"h\n\n" + b"".join(b"\xe2\x80\x94 k%d AAAAAAA=\n" % i for i in range(100))).signatures
        )
        == 100
    )
    other = NoteSigner("log.example/1", seed("other"))
    refused("note.unverified", verify_note, NOTE, [other.verifier])
    refused("note.unverified", verify_note, NOTE, [NoteSigner("log.example/2", seed("log")).verifier])
    refused("note.signature", verify_note, NOTE.replace(b"hello", b"hullo"), [LOG.verifier])
    # A right name with a wrong key id is an unknown key, however good the signature.
    wrong = LINE.split(b" ")[2].rstrip(b"\n")
    blob = bytearray(b64_decode(wrong))
    blob[0] ^= 1
    spoilt = NOTE.replace(wrong, b64_encode(bytes(blob)).encode())
    refused("note.unverified", verify_note, spoilt, [LOG.verifier])
    assert verify_note(
        format_note("hello\n", [other.sign("hello\n"), LOG.sign("hello\n")]), [LOG.verifier]
    ).by == ("log.example/1",)


VKEYS = ["", "a", "a+b", "a b+00000000+AAAA", LOG.vkey.replace("+", "+0", 1), LOG.vkey + "=", LOG.vkey[:-4]]


@pytest.mark.parametrize("vkey", [*VKEYS, "log.example/1" + LOG.vkey[13:14] + "00000000" + LOG.vkey[22:]])
def test_vkeys(vkey: str) -> None:
    with pytest.raises(EmdiError):
        VerifierKey.parse(vkey)


def test_cosigners_of_kind_6() -> None:
    cosigner = NoteSigner("w.example/1", seed("kind 6"), 6)
    text = f"log.example/1\n7\n{ZEROS}=\n"
    line = cosigner.cosign(text, 1_790_000_000)
    note = format_note(text, [LOG.sign(text), line])
    verified = verify_note(note, [LOG.verifier, VerifierKey.parse(cosigner.vkey)])
    assert (verified.by, verified.times_s) == (("log.example/1", "w.example/1"), (0, 1_790_000_000))
    # Name, origin, size, root and time are all signed.
    renamed = NoteSigner("w.example/2", seed("kind 6"), 6)
    for changed in ("log.example/2\n7\n", "log.example/1\n8\n", "log.example/1\n07\n"):
        refused(
            "note.cosigned" if "07" in changed else "note.signature",
            verify_note,
            format_note(f"{changed}{ZEROS}=\n", [line]),
            [cosigner.verifier],
        )
    other = line.replace("w.example/1", "w.example/2")
    blob = b64_decode(other.split(" ")[2].rstrip("\n"))
    moved = f"\u2014 w.example/2 {b64_encode(renamed.verifier.keyid + blob[4:])}\n"
    refused("note.signature", verify_note, format_note(text, [moved]), [renamed.verifier])
    late = b64_encode(blob[:4] + (1_790_000_001).to_bytes(8, "big") + blob[12:])
    refused(
        "note.signature",
        verify_note,
        format_note(text, [f"\u2014 w.example/1 {late}\n"]),
        [cosigner.verifier],
    )
    refused("note.cosigned", cosigner.cosign, "no checkpoint\n", 1)
    refused("note.kind", cosigner.sign, text)
    refused("note.kind", NoteSigner, "w", seed("w"), 5)
    refused("note.cosigned", NoteSigner("w" * 256, seed("w"), 6).cosign, text, 1)
    for vkey in (cosigner.vkey[:-8], cosigner.vkey.replace("example/1", "example/2")):
        with pytest.raises(EmdiError):
            VerifierKey.parse(vkey)


def test_without_mldsa_kind_6_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    vkey = NoteSigner("w.example/1", seed("kind 6"), 6).vkey
    monkeypatch.setattr("emdi.note.mldsa", None)
    refused("note.unsupported", VerifierKey.parse, vkey)
    refused("note.unsupported", NoteSigner, "w", seed("w"), 6)


CHECKPOINTS = ["", "o\n", "o\n1\n", f"o\n01\n{ZEROS}=\n", f"o\n-1\n{ZEROS}=\n", f"o\n1\n{ZEROS}=\nextra\n", f"o\n1\n{ZEROS}\n",
               f"o\n1\n{ZEROS}=", f"o o\n1\n{ZEROS}=\n", f"\n1\n{ZEROS}=\n", f"o\n{2**63}\n{ZEROS}=\n", f"o\n1\u2028\n{ZEROS}=\n",
               "o\n1\nAAAA\n"]  # fmt: skip


@pytest.mark.parametrize("text", CHECKPOINTS)
def test_checkpoints(text: str) -> None:
    with pytest.raises(EmdiError):
        parse_checkpoint(text)


L, W = f"log {LOG.vkey}\n", f"witness w {WITNESS.vkey}\n"
POLICIES = [
    ("", "policy.log"), ("quorum none\n", "policy.log"), (L, "policy.quorum"), (L + "quorum none\nquorum none\n", "policy.quorum"),
    (L + L + "quorum none\n", "policy.duplicate"), (L + W + W + "quorum w\n", "policy.duplicate"),
    (L + W + W.replace(" w ", " x ") + "quorum w\n", "policy.duplicate"), (L + "quorum w\n" + W, "policy.reference"),
    (L + "group g all w\n" + W + "quorum g\n", "policy.reference"), (L + W + "group g 2 w\nquorum g\n", "policy.group"),
    (L + W + "group g 0 w\nquorum g\n", "policy.group"), (L + W + "group g 01 w\nquorum g\n", "policy.group"),
    (L + W + "group g all w w\nquorum g\n", "policy.duplicate"), (L + W + "group w all w\nquorum w\n", "policy.duplicate"),
    (L + W + "group g all\nquorum g\n", "policy.group"), (L + W.replace(" w ", " none ") + "quorum none\n", "policy.name"),
    (L + "quorum none\x0b\n", "policy.control"), (L + "quorum none\r\n", "policy.control"), (L + "quorum\u2028none\n", "policy.control"),
    (L + "trust me\nquorum none\n", "policy.keyword"), (f"log {WITNESS.vkey}\nquorum none\n", "policy.log"),
    (L + f"witness w {LOG.vkey}\nquorum w\n", "policy.witness"), ("log x\nquorum none\n", "note.vkey"),
    (L + "quorum none extra\n", "policy.quorum"), (L + "log\nquorum none\n", "policy.log"), ("x" * 140_000, "policy.size"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code"), POLICIES)
def test_policies(text: str, code: str) -> None:
    refused(code, parse_policy, text)


def test_policy_supports_32_of_each() -> None:
    signers = [NoteSigner(f"w{n}", seed(f"w{n}"), 4) for n in range(32)]
    text = "".join(f"log {NoteSigner(f'l{n}', seed(f'l{n}')).vkey}\n" for n in range(32))
    text += "".join(f"witness w{n} {signer.vkey}\n" for n, signer in enumerate(signers))
    text += "".join(f"group g{n} any w{n}\n" for n in range(32))
    policy = parse_policy(f"# mine\n\n{text}group g 2 w1 g2\tw3\nquorum g\n")
    checkpoint = f"l0\n1\n{ZEROS}=\n"
    lines = [NoteSigner("l0", seed("l0")).sign(checkpoint), signers[1].cosign(checkpoint, 5)]
    refused("policy.quorum", policy.check, format_note(checkpoint, lines))
    policy.check(format_note(checkpoint, [*lines, signers[2].cosign(checkpoint, 6)]))


RECEIPT = (
    b"c2sp.org/tlog-proof@v1\nextra RU1EAQEAAAGgxFFaUg==\nindex 1\n" + (ZEROS + "=\n").encode() + b"\n" + NOTE
)
RECEIPTS = [
    b"", RECEIPT.replace(b"@v1", b"@v2"), RECEIPT.replace(b"extra ", b"extra"), RECEIPT.replace(b"index 1", b"index 01"),
    RECEIPT.replace(b"index 1\n", b""), RECEIPT.replace(b"RU1E", b"RU1"), RECEIPT.replace(b"\n\n", b"\n"),
    RECEIPT.replace(b"AAA=", b"AAB="), RECEIPT.replace(b"index 1", b"index 9223372036854775808"),
    RECEIPT.replace(b"\n\n", b"\n" + (ZEROS + "=\n").encode() * 63 + b"\n", 1), RECEIPT.replace(b"index", b"Index"),
    RECEIPT.replace(b"RU1EAQEAAAGgxFFaUg==", b"RU1EAQEAAAGgxFFa"), RECEIPT.partition(b"\n\n")[0] + b"\n\n", RECEIPT + b"x" * 140000,
]  # fmt: skip


@pytest.mark.parametrize("data", RECEIPTS)
def test_receipts(data: bytes) -> None:
    parse_receipt(RECEIPT)
    with pytest.raises(EmdiError) as caught:
        parse_receipt(data)
    assert caught.value.code in ("receipt.form", "receipt.size")


PATHS = [
    "tile/0/x01/000", "tile/00/0", "tile/0/0", "tile/0/00", "tile/0/x000/001", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01",
    "tile/0/000.p/", "tile/64/000", "tile/-1/000", "/tile/0/000", "tile/0/000/", "tile/0/x001/x002", "tile/data/000", "tile/0/000\n",
    "tile/entries/", "tile/0/001/002", "tile/0/x001002", "tile/0/\u0660\u0660\u0660", "tile/0/../000",
    "tile/0/x009/x223/x372/x036/x854/x775/808",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_tile_paths(path: str) -> None:
    refused("tile.path", tiles.parse_tile_path, path)


def test_tile_path_of_the_specification() -> None:
    assert tiles.tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tiles.parse_tile_path("tile/0/x001/x234/067.p/8") == (0, 1234067, 8)


BUNDLES = [b"\x00", b"\x00\x05abc", b"\x00\x00", b"\x00\x01a\xff\xff", b"\x00\x01a" * 257]


@pytest.mark.parametrize("data", BUNDLES)
def test_entry_bundles(data: bytes) -> None:
    refused("tile.bundle", tiles.decode_bundle, data)


ENTRIES = [b"", b"EMD\x01", b"EMD\x02\x01" + bytes(8) + b"x", b"EMD\x01\x04" + bytes(8) + b"x", b"EMD\x01\x01" + bytes(8),
           b"EMD\x01\x01\x80" + bytes(7) + b"x", b"EMD\x01\x01" + bytes(8) + b"x" * 65523]  # fmt: skip


@pytest.mark.parametrize("data", ENTRIES)
def test_entries(data: bytes) -> None:
    with pytest.raises(EmdiError):
        parse_entry(data)


def test_proofs_of_impossible_places() -> None:
    leaves = [leaf_hash(bytes([n])) for n in range(7)]
    root, path = root_of(leaves), inclusion_path(leaves, 3)
    refused("proof.index", verify_inclusion, 7, 7, leaves[3], path, root)
    refused("proof.index", verify_inclusion, -1, 7, leaves[3], path, root)
    refused("proof.index", verify_inclusion, 0, 0, leaves[3], [], root)
    refused("proof.length", verify_inclusion, 3, 7, leaves[3], [*path, path[0]], root)
    refused("proof.length", verify_inclusion, 3, 7, leaves[3], path[:-1], root)
    refused("proof.length", verify_inclusion, 3, 2**63, leaves[3], path, root)
    refused("proof.hash", verify_inclusion, 3, 7, leaves[3][:31], path, root)
    refused("proof.hash", verify_inclusion, 3, 7, leaves[3], [path[0][:31], *path[1:]], root)
    refused("proof.size", verify_consistency, 0, 7, root, root, [])
    refused("proof.size", verify_consistency, 8, 7, root, root, [])
    refused("proof.consistency", verify_consistency, 7, 7, root, leaves[0], [])
    refused("proof.consistency", verify_consistency, 7, 7, root, root, [root])
    refused("proof.length", verify_consistency, 3, 7, root, root, [])
    refused("merkle.range", CompactRange, 3, [root])
