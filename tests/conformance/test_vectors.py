"""Published vectors of every format, and this format's own end-to-end vector, to the byte."""

import hashlib
from decimal import Decimal

import pytest

from emdi import merkle, tiles
from emdi.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from emdi.encoding import b64_decode, b64u_decode
from emdi.entry import KIND_READING, encode_entry, parse_entry
from emdi.envelope import Envelope, env_id_of, parse_envelope, seal_envelope, verify_signature
from emdi.errors import NoteError
from emdi.keys import LocalKey, PublicKey
from emdi.note import NoteSigner, VerifierKey, format_note, parse_note, verify_note
from emdi.pack import Record
from emdi.policy import format_policy, parse_policy
from emdi.receipt import Receipt, format_receipt, verify_receipt


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# RFC 6962: the eight standard leaves ---------------------------------------------------------------------------------
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
HASHES = [merkle.leaf_hash(bytes.fromhex(text)) for text in LEAVES]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION_5_OF_8 = [
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
]
CONSISTENCY = {
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (4, 8): ["6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"],
    (3, 7): [
        "0298d122906dcfc10892cb53a73992fc5b9f493ea4c9badb27b791b4127a7fe7",
        "07506a85fd9dd2f120eb694f86011e5bb4662e5c415a62917033d4a9624487e7",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "837dbb152e9b079010717e84e865da4ebc0fa198a806d59d31bf15accef22d0e",
    ],
}


@pytest.mark.parametrize("size", range(9))
def test_rfc6962_roots(size: int) -> None:
    assert merkle.root_of(HASHES[:size]).hex() == ROOTS[size]


def test_rfc6962_proofs() -> None:
    assert [item.hex() for item in merkle.inclusion_path(HASHES, 5)] == INCLUSION_5_OF_8
    for (first, second), path in CONSISTENCY.items():
        assert [item.hex() for item in merkle.consistency_path(HASHES[:second], first)] == path


# Accumulated: leaf i is the byte i, sizes 1 to 130 -------------------------------------------------------------------
BYTES = [merkle.leaf_hash(bytes([value])) for value in range(130)]


def accumulate(lines: list[tuple[str, list[bytes]]]) -> str:
    return sha256(
        "".join(head + "".join(f" {item.hex()}" for item in tail) + "\n" for head, tail in lines).encode()
    )


def test_accumulated_roots() -> None:
    lines = [(f"{n}", [merkle.root_of(BYTES[:n])]) for n in range(1, 131)]
    assert accumulate(lines) == "d35ccec0cee406fa63d1597891bb2d66df747b4e8817cd6e010a2d58fffb1fcb"


def test_accumulated_inclusion_and_consistency() -> None:
    files: dict[str, bytes] = {}
    inclusion, consistency = [], []
    for n in range(1, 131):
        files[tiles.tile_path(0, 0, n)] = b"".join(BYTES[:n])
        reader = tiles.TileReader(files.__getitem__, n)
        root = reader.root()
        for i in range(n):
            path = reader.inclusion(i)
            merkle.verify_inclusion(i, n, BYTES[i], path, root)
            inclusion.append((f"{i} {n}", path))
        for m in range(1, n + 1):
            path = reader.consistency(m)
            merkle.verify_consistency(m, n, merkle.root_of(BYTES[:m]), root, path)
            consistency.append((f"{m} {n}", path))
    assert accumulate(inclusion) == "893ce6eea61adc33c22c0e3a952498b76dfa3c282e78ac659f6fcc0ea44f9983"
    assert accumulate(consistency) == "2498232e1aebe8d1aa8d339d897fc471f4495fe0b8a55ac08f7dae3d88bc4c2a"


def test_accumulated_subtree_inclusion() -> None:
    lines = []
    for end in range(131):
        for start in range(end + 1):
            if start % (1 << (end - start - 1).bit_length() if end > start else 1) == 0:
                subtree = BYTES[start:end]
                lines += [
                    (f"{i} [{start}, {end})", merkle.inclusion_path(subtree, i - start))
                    for i in range(start, end)
                ]
    assert accumulate(lines) == "ac2a8f989e44d99e399db448050ff5f19757df53cfb716aa81015d3955d8163f"


# A log of 70,000 entries, each the decimal text of its index ---------------------------------------------------------
BIG_ROOTS = {
    1: "db3426e878068d28d269b6c87172322ce5372b65756d0789001d34835f601c03",
    2: "cb00989d94a569c0a678ae042b63dcd4625db96440517f37a6eb7976ea24ed4b",
    255: "32f85bcaa87d7bcd05728f09e9aeba350ba6a2f733830087f0597682848be5cb",
    256: "828515d033c19d8c901f37eccb8aed919667703486f8d2fff1cf7040321c5db1",
    257: "1eda049a4351d86f76252bd7ec0b7746ad75b7fa0316ad5f541dbda458a312c4",
    65536: "f025d06ed804859fd274a1bdacadd6e48ea87634aa91e1edb20143f9498cd02b",
    65535: "74f13a0e1a75689372efb990cf68c664e44c763d9304844955b2eaff624e8df1",
    65537: "dc8795a25fd4bd52a0b84f639fd3139ba160824023d188e428eb5db0f3ce221a",
    70000: "1a4cdfcb66374a0c0dcbef49acbd4976d13ee864fb3cb241fc943cad04f02f7e",
}
BIG_FILES = {
    "tile/0/000": (8192, "b9704a8bfbee2c61185ceb38904a49f3f703c81e194b5b2ccdc254c2bdaaa62b"),
    "tile/0/273.p/112": (3584, "4d21244557c976993a9a89bf928a46b5a876585228df279878239fd84489e5a5"),
    "tile/1/000": (8192, "ea7b038bc73489c89c31a27ac355aaca65a4ed73f0dd7484e68deb29d30f10a2"),
    "tile/1/001.p/17": (544, "adfaca2731630fe7944a4b98a0f98ef3e98685eafda09e6f81070218fb759ce4"),
    "tile/2/000.p/1": (32, "f0113c8bad855b49f9a5dd661d50012cd94f19aae87a45eb8334666835e3caea"),
    "tile/entries/000": (1170, "94693d5c6d6a0355ec07bac8214516c1ce6a5100b0588f226fd95f26571157d7"),
    "tile/entries/273.p/112": (784, "36c3ec44895d1b8098dbe8523078d6750bf09e0f12cd64671ebfe165b7647405"),
}


def build_files(entries: list[bytes]) -> dict[str, bytes]:
    """Write every tile and bundle of a log, each level from the full tiles of the one below."""
    files = {}
    level_hashes: dict[int, list[bytes]] = {0: [merkle.leaf_hash(entry) for entry in entries]}
    for level, n, width in tiles.widths(len(entries)):
        hashes = level_hashes[level][256 * n : 256 * n + width]
        files[tiles.tile_path(level, n, width)] = b"".join(hashes)
        if width == 256:
            level_hashes.setdefault(level + 1, []).append(merkle.root_of(hashes))
        if level == 0:
            files[tiles.entries_path(n, width)] = tiles.encode_bundle(entries[256 * n : 256 * n + width])
    return files


def test_log_of_70000_entries() -> None:
    entries = [str(index).encode() for index in range(70000)]
    tree = merkle.CompactRange()
    for entry in entries:
        tree.append(merkle.leaf_hash(entry))
        if tree.size in BIG_ROOTS:
            assert tree.root().hex() == BIG_ROOTS[tree.size]
    files = build_files(entries)
    for path, (size, digest) in BIG_FILES.items():
        assert (len(files[path]), sha256(files[path])) == (size, digest)
    assert sum(path.startswith("tile/0/") for path in files) == 274
    reader = tiles.TileReader(files.__getitem__, 70000)
    assert reader.root() == tree.root()
    assert reader.range().to_hashes() == tree.to_hashes()
    for index in (0, 255, 256, 65535, 65536, 69999):
        merkle.verify_inclusion(index, 70000, reader.leaf(index), reader.inclusion(index), tree.root())
        assert reader.entry(index) == entries[index]
    for old in (1, 2, 255, 256, 257, 65535, 65536, 65537):
        merkle.verify_consistency(
            old, 70000, bytes.fromhex(BIG_ROOTS[old]), tree.root(), reader.consistency(old)
        )


# Signed notes --------------------------------------------------------------------------------------------------------
NOTES = [
    (
        ["example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"],
        "This is an example message.\n",
        ["example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="],
    ),
    (
        [
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
        ],
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n",
        [
            "PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=",
            "EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=",
        ],
    ),
    (
        ["example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"],
        "example.com/log/testdata\n15\nrKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs=\n",
        [
            "example.com/log/testdata "
            "M9e0luh4jTG+UMBqOUo9/q+yAEvx1ilBEniMvjf1zfcBOhg+CKubMt53MvIt/uEWP6zdkdIQzd/fmwlM/dlPWF74ewI="
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("vkeys", "text", "lines"), NOTES)
def test_published_notes(vkeys: list[str], text: str, lines: list[str]) -> None:
    data = format_note(text, [f"\u2014 {line}\n" for line in lines])
    keys = [VerifierKey.parse(vkey) for vkey in vkeys]
    assert [key.format() for key in keys] == vkeys
    assert verify_note(data, keys).by == tuple(key.name for key in keys)
    assert parse_note(data).text == text
    with pytest.raises(NoteError, match=r"note\.signature"):
        verify_note(data.replace(text[:4].encode(), b"Yyyy", 1), keys)


def test_note_signing_key_of_x_mod() -> None:
    seed = b64_decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
    vkeys, text, lines = NOTES[1]
    signer = NoteSigner("PeterNeumann", seed)
    assert (signer.vkey, signer.sign(text)) == (vkeys[0], f"\u2014 {lines[0]}\n")


def test_published_checkpoint_and_its_tree() -> None:
    words = [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eit",
        "nain",
        "ten",
        "ileven",
        "twelf",
        "threeten",
        "fourten",
        "fivten",
    ]
    checkpoint = parse_checkpoint(NOTES[2][1])
    assert (checkpoint.size, checkpoint.text()) == (15, NOTES[2][1])
    assert merkle.root_of([merkle.leaf_hash(word.encode()) for word in words]) == checkpoint.root


# A witness: three checkpoints of one log, consistency between them, and a cosignature --------------------------------
TREE = "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562"
TREE_VKEY = f"{TREE}+5202289b+Af/cLU2Y5BJNP+r3iMDC+av9eWCD0fBJVDfzAux5zxAP"
WITNESSED = {
    1: (
        "KgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "UgIom7fPZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSzVnnNuWRTYrajXpNUbIQY=",
        [],
    ),
    3: (
        "RcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=",
        "UgIom2VbtIcdFbwFAy1n7s6IkAxIY6J/GQOTuZF2ORV39d75cbAj2aQYwyJre36kezNobZs4SUUdrcawfAB8WVrx6go=",
        ["KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "KgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="],
    ),
    5: (
        "QrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=",
        "UgIomw/EOJmWi0i1FQsOj+etB7F8IccFam/jgd6wzRns4QPVmyEZtdvl1U2KEmLOZ/ASRcWJi0tW90dJWAShei7sDww=",
        [
            "KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "+fUDV+k970B4I3uKrqJM4aP1lloPZP8mvr2Z4wRw2LI=",
            "KgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ],
    ),
}


@pytest.mark.parametrize("size", WITNESSED)
def test_witnessed_checkpoints(size: int) -> None:
    root, signature, path = WITNESSED[size]
    policy = parse_policy(f"log {TREE_VKEY}\nquorum none\n")
    note = format_note(f"{TREE}\n{size}\n{root}\n", [f"\u2014 {TREE} {signature}\n"])
    checkpoint, _ = open_checkpoint(note, policy)
    merkle.verify_consistency(
        1, size, b64_decode(WITNESSED[1][0]), checkpoint.root, [b64_decode(item) for item in path]
    )


def test_cosignature() -> None:
    seed = bytes.fromhex("31ffc2116ecbe003acaa800ab70757bd7d53206e3febef6a6d0796d95530b34f")
    witness = NoteSigner("example.com/witness", seed, 4)
    assert witness.vkey == "example.com/witness+10a1c019+BGSEitir7W6FmBs7OHWyUrh2frtLAvcDrKOx5xu9ao5Q"
    assert NoteSigner("example.com/witness", seed).verifier.keyid.hex() == "05828f80"
    text = f"{TREE}\n1\n{WITNESSED[1][0]}\n"
    line = witness.cosign(text, 1679315147)
    assert line == (
        "\u2014 example.com/witness "
        "EKHAGQAAAABkGFDL6nT3tdWsnr60QRZM37d3Muo2MeCQf6qCeVmIcJczUPW+0wqqcKXKPaU7yt6vRIaGiaTt8vwiEciBIHFemInCDA==\n"
    )
    verified = verify_note(format_note(text, [line]), [witness.verifier])
    assert (verified.by, verified.times_s) == (("example.com/witness",), (1679315147,))


# JWS: RFC 8037 A.4 ---------------------------------------------------------------------------------------------------
def test_rfc8037_signature() -> None:
    jws = (
        b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
        b"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    )
    key = LocalKey.from_seed(STATION_SEED, "any")
    assert key.public.raw == b64u_decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    signing_input, _, signature = jws.rpartition(b".")
    assert key.sign(signing_input) == b64u_decode(signature)
    assert PublicKey.from_bytes("Ed25519", key.public.raw).verify(b64u_decode(signature), signing_input)


# The end-to-end vector of this format --------------------------------------------------------------------------------
STATION_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
ORIGIN = "emdi.example/log/test"
PAYLOAD_0 = (
    b'{"v":1,"stn":"4711","ep":1,"seq":0,"prev":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",'
    b'"iat":1790000000123,"cp":null,'
    b'"p":[{"bn":"urn:emdi:4711:","bt":1790000000,"n":"no2","u":"mg/m3","v":123.40}]}'
)
SIGNATURE_0 = b"6-hJqQ1N0VXL0Bh4NJ30FFqjogivz4ndplrPDLHnXWTrXkQ31Qqh9UHKufgjEV689LxDkMwGdGhPMVNSfI45Bg"


def vector_envelope(seq: int, prev: bytes, iat_ms: int, value: str) -> Envelope:
    record = Record("no2", 1790000000000, "mg/m3", Decimal(value), "N")
    key = LocalKey.from_seed(STATION_SEED, "stn-4711-1")
    return seal_envelope(key, stn="4711", ep=1, seq=seq, prev=prev, iat_ms=iat_ms, cp=None, records=[record])


ENVELOPE_0 = vector_envelope(0, bytes(32), 1790000000123, "123.40")
ENVELOPE_1 = vector_envelope(1, ENVELOPE_0.env_id, 1790000060123, "118.05")
ENTRY_0 = encode_entry(KIND_READING, 1790000000900, ENVELOPE_0.jws)
ENTRY_1 = encode_entry(KIND_READING, 1790000061010, ENVELOPE_1.jws)
RECEIPT = """c2sp.org/tlog-proof@v1
extra RU1EAQEAAAGgxFFaUg==
index 1
JppKla2yE2pJ+j2QH7ckcoNDu1UuBgvuE1YYdLUQbUA=

emdi.example/log/test
2
Nks++3tjmhafTWu+br2xuRCr5DzN/ZDyuy4jPls8T8s=

\u2014 emdi.example/log/test 6JXMUCoqn0T8bUIZMYUvBgNwtMFQ06DOSdig1hlJQAg2PjcMEwfntoT94nEuK1oUgimyP1p8oOysrBPczdClQe7PFQk=
\u2014 witness.example/w1 InIzVgAAAABqsTu+r8WXJiIKoxMNylHhN26Iv9pMYQqPKrHNF49tNZ5HHFYkw+fiKZLKh4Du3qNAeVF8ZnQ2Miht8nhHcvgTJFJQBA==
""".encode()


def test_envelope_vector() -> None:
    assert ENVELOPE_0.payload == PAYLOAD_0
    assert ENVELOPE_0.jws.endswith(b"." + SIGNATURE_0)
    assert len(ENVELOPE_0.jws) == 426
    assert ENVELOPE_0.env_id.hex() == "58eeb10c30d81cadb0940bc73bf643fed153d64b3390e4fbfe4181fc33e149e1"
    assert env_id_of(ENVELOPE_0.jws) == ENVELOPE_0.env_id
    assert parse_envelope(ENVELOPE_0.jws) == ENVELOPE_0
    verify_signature(ENVELOPE_0, LocalKey.from_seed(STATION_SEED, "stn-4711-1").public)


def test_entry_and_tree_vector() -> None:
    assert ENTRY_0[:13].hex() == "454d440101000001a0c4506f84"
    leaves = [merkle.leaf_hash(ENTRY_0), merkle.leaf_hash(ENTRY_1)]
    assert leaves[0].hex() == "269a4a95adb2136a49fa3d901fb724728343bb552e060bee13561874b5106d40"
    assert leaves[1].hex() == "3f618a12a84299c88acfa6d5babb472346934afd8c78a8f009d501c016fbd1eb"
    assert merkle.root_of(leaves).hex() == "364b3efb7b639a169f4d6bbe6ebdb1b910abe43ccdfd90f2bb2e233e5b3c4fcb"
    bundle = tiles.encode_bundle([ENTRY_0, ENTRY_1])
    assert len(bundle) == 882
    assert sha256(bundle) == "b05351bec26ab4929b699e9902739ab88b49707049e38c94d748072f70187417"
    assert tiles.decode_bundle(bundle) == [ENTRY_0, ENTRY_1]
    assert parse_entry(ENTRY_0) == (KIND_READING, 1790000000900, ENVELOPE_0.jws)


def test_receipt_vector() -> None:
    log = NoteSigner(ORIGIN, hashlib.sha256(b"emdi test log key").digest())
    witness = NoteSigner("witness.example/w1", hashlib.sha256(b"emdi test witness key").digest(), 4)
    assert log.vkey == f"{ORIGIN}+e895cc50+AVaucjJRx9CY4uuVcOey8e8h+IVRtoVgpm4m+DtV5wRW"
    assert witness.vkey == "witness.example/w1+22723356+BAT3cxsAhem3asK9eFcjCpVFZZ9UigK/YB9KBSEqUTRC"
    leaves = [merkle.leaf_hash(ENTRY_0), merkle.leaf_hash(ENTRY_1)]
    text = Checkpoint(ORIGIN, 2, merkle.root_of(leaves)).text()
    note = format_note(text, [log.sign(text), witness.cosign(text, 1790000062)])
    receipt = format_receipt(Receipt(ENTRY_1[:13], 1, (leaves[0],), note))
    assert receipt == RECEIPT
    assert sha256(receipt) == "5d6150c6260f0f2b920c87687840b6c1e4aee6d5eaabbb68946ac22fd5814bb2"
    policy_text = f"log {log.vkey}\nwitness w1 {witness.vkey}\ngroup g all w1\nquorum g\n"
    policy = parse_policy(policy_text)
    assert format_policy(policy) == policy_text
    verified = verify_receipt(receipt, ENVELOPE_1.jws, policy)
    assert (verified.index, verified.size, verified.recv_ms, verified.kind) == (1, 2, 1790000061010, 1)
