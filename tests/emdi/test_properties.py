"""Properties: trees agree however they are built, forms survive a round trip, and one flipped bit never passes."""

import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given as hypothesis_given
from hypothesis import settings
from hypothesis import strategies as st
from joserfc import jws as jose
from joserfc.jwk import ECKey, OKPKey

from emdi import bundle, merkle, tiles
from emdi.chain import StationHead
from emdi.checkpoint import Checkpoint, parse_checkpoint
from emdi.encoding import MAX_UINT, b64_decode, b64_encode, b64u_decode, b64u_encode, load_json, parse_uint
from emdi.entry import KINDS, encode_entry, parse_entry
from emdi.envelope import Skip, parse_envelope, seal_envelope, verify_signature
from emdi.errors import EmdiError, ProofError
from emdi.keys import LocalKey
from emdi.note import NoteSigner, format_note, parse_note, verify_note
from emdi.pack import Record, format_pack, parse_pack
from emdi.policy import NO_QUORUM, Policy, PolicyGroup, PolicyLog, PolicyWitness, format_policy, parse_policy
from emdi.receipt import Receipt, format_receipt, parse_receipt
from emdi.scope import Run, Scope, StationScope, format_scope, parse_scope
from emdi.units import UNITS, format_at, format_value
from tests.emdi.making import seed

LEAVES = [merkle.leaf_hash(str(number).encode()) for number in range(2000)]
KEYS = [LocalKey.from_seed(seed("station"), "k-1"), LocalKey.generate("ES256", "k-2")]


def given(*strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return lambda test: settings(deadline=None, max_examples=60)(hypothesis_given(*strategies)(test))


HASH = st.binary(min_size=32, max_size=32)
SHORT = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789._-", min_size=1, max_size=12)


def mth(leaves: Sequence[bytes]) -> bytes:
    """The definition, word for word (RFC 6962 2.1), from leaf hashes."""
    if not leaves:
        return merkle.empty_root()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return merkle.node_hash(mth(leaves[:k]), mth(leaves[k:]))


def flip(data: bytes, bit: int) -> bytes:
    spoilt = bytearray(data)
    spoilt[bit // 8 % len(spoilt)] ^= 1 << bit % 8
    return bytes(spoilt)


def tile_reader(leaves: Sequence[bytes]) -> tiles.TileReader:
    files: dict[str, bytes] = {}
    levels = {0: list(leaves)}
    for level, n, width in tiles.widths(len(leaves)):
        part = levels[level][256 * n : 256 * n + width]
        files[tiles.tile_path(level, n, width)] = b"".join(part)
        if width == 256:
            levels.setdefault(level + 1, []).append(mth(part))

    def read(path: str) -> bytes:
        if path not in files:
            raise FileNotFoundError(path)
        return files[path]

    return tiles.TileReader(read, len(leaves))


@given(st.integers(0, 2000))
def test_root_by_definition_by_range_and_by_tiles(size: int) -> None:
    leaves = LEAVES[:size]
    root = mth(leaves)
    assert merkle.root_of(leaves) == root
    assert tile_reader(leaves).root() == root


@given(st.data())
def test_range_resumes_from_its_hashes(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 600))
    cut = data.draw(st.integers(0, size))
    tree = merkle.CompactRange()
    for leaf in LEAVES[:cut]:
        tree.append(leaf)
    again = merkle.CompactRange.from_hashes(cut, tree.to_hashes())
    for leaf in LEAVES[cut:size]:
        again.append(leaf)
    assert again.root() == mth(LEAVES[:size])


@given(st.data())
def test_inclusion_holds_and_nothing_else_does(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 400))
    index = data.draw(st.integers(0, size - 1))
    bit = data.draw(st.integers(0, 255))
    reader, root = tile_reader(LEAVES[:size]), mth(LEAVES[:size])
    path, leaf = reader.inclusion(index), reader.leaf(index)
    assert path == merkle.inclusion_path(LEAVES[:size], index)
    merkle.verify_inclusion(index, size, leaf, path, root)
    other = data.draw(st.integers(0, size - 1))
    spoilt: list[tuple[int, bytes, list[bytes], bytes]] = [
        (index, flip(leaf, bit), path, root),
        (index, leaf, path, flip(root, bit)),
        *((index, leaf, [*path[:at], flip(path[at], bit), *path[at + 1 :]], root) for at in range(len(path))),
    ]
    if other != index:
        spoilt.append((other, leaf, path, root))
    for at, changed_leaf, changed_path, changed_root in spoilt:
        with pytest.raises(ProofError):
            merkle.verify_inclusion(at, size, changed_leaf, changed_path, changed_root)


@given(st.data())
def test_consistency_holds_and_nothing_else_does(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 400))
    old = data.draw(st.integers(1, size))
    bit = data.draw(st.integers(0, 255))
    root1, root2 = mth(LEAVES[:old]), mth(LEAVES[:size])
    path = tile_reader(LEAVES[:size]).consistency(old)
    assert path == merkle.consistency_path(LEAVES[:size], old)
    merkle.verify_consistency(old, size, root1, root2, path)
    spoilt = [(flip(root1, bit), root2, path), (root1, flip(root2, bit), path)]
    spoilt += [(root1, root2, [*path[:at], flip(path[at], bit), *path[at + 1 :]]) for at in range(len(path))]
    for changed1, changed2, changed_path in spoilt:
        with pytest.raises(ProofError):
            merkle.verify_consistency(old, size, changed1, changed2, changed_path)


def test_a_partial_tile_gives_way_to_the_full_one() -> None:
    full = b"".join(LEAVES[:256])
    bundle_of_all = tiles.encode_bundle([str(number).encode() for number in range(256)])
    files = {"tile/0/000": full, "tile/entries/000": bundle_of_all}

    def read(path: str) -> bytes:
        if path not in files:
            raise FileNotFoundError(path)
        return files[path]

    reader = tiles.TileReader(read, 100)
    assert reader.root() == mth(LEAVES[:100])
    assert list(reader.entries(98, 100)) == [b"98", b"99"]
    with pytest.raises(ProofError):
        reader.entry(100)


RECORDS = st.lists(
    st.builds(
        Record,
        SHORT.filter(lambda name: name[0].isalnum()),
        st.integers(1_700_000_000_000, 1_800_000_000_000) | st.sampled_from([1_790_000_000_000, 1_790_000_060_000]),
        st.sampled_from(sorted(UNITS)),
        st.none() | st.decimals(-(10**9), 10**9, places=4) | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: Decimal(repr(x))),
        st.sampled_from("FMSDCTBHR"),
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda record: (record.name, record.at_ms),
)  # fmt: skip


@given(RECORDS)
def test_packs_round_trip(records: list[Record]) -> None:
    assert list(parse_pack(load_json(format_pack("s", records)), "s")) == records


@given(
    st.sampled_from(KEYS),
    RECORDS,
    st.integers(0, 2**53 - 1),
    st.none() | st.tuples(st.integers(1, 2**53 - 1), HASH),
    st.data(),
)
def test_envelopes_round_trip_and_one_bit_breaks_them(
    key: LocalKey, records: list[Record], iat_ms: int, cp: tuple[int, bytes] | None, data: st.DataObject
) -> None:
    seq = data.draw(st.integers(1, 2**40))
    skip = data.draw(st.none() | st.just(Skip(0, seq - 1, "flash worn out")))
    prev = data.draw(HASH)
    place: dict[str, Any] = {
        "stn": "s",
        "ep": 1,
        "seq": seq,
        "prev": prev,
        "iat_ms": iat_ms,
        "cp": cp,
        "skip": skip,
    }
    envelope = seal_envelope(key, records=records, **place)
    assert {name: getattr(envelope, name) for name in place} == place
    assert list(envelope.records) == records
    verify_signature(envelope, key.public)
    spoilt = flip(envelope.jws, data.draw(st.integers(0, 8 * len(envelope.jws) - 1)))
    with pytest.raises(EmdiError):
        verify_signature(parse_envelope(spoilt), key.public)


@pytest.mark.parametrize("key", KEYS)
def test_another_implementation_agrees_on_the_signature(key: LocalKey) -> None:
    record = Record("no2", 1_790_000_000_000, "mg/m3", Decimal("1.5"), "N")
    jws = seal_envelope(key, stn="s", ep=0, seq=0, prev=bytes(32), iat_ms=1, cp=None, records=[record]).jws
    raw = key.public.raw
    if key.public.alg == "Ed25519":
        oracle: Any = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": b64u_encode(raw)})
    else:
        point = {"x": b64u_encode(raw[1:33]), "y": b64u_encode(raw[33:])}
        oracle = ECKey.import_key({"kty": "EC", "crv": "P-256", **point})
    checked = jose.deserialize_compact(jws, oracle, algorithms=[key.public.alg])
    assert checked.payload == parse_envelope(jws).payload
    for bit in range(8 * jws.rindex(b".") + 8, 8 * len(jws), 37):
        spoilt = flip(jws, bit)
        with pytest.raises(EmdiError):
            verify_signature(parse_envelope(spoilt), key.public)


@given(st.binary(max_size=200))
def test_base64_round_trips(data: bytes) -> None:
    assert b64_decode(b64_encode(data)) == data
    assert b64u_decode(b64u_encode(data)) == data


@given(st.text(max_size=8))
def test_base64_accepts_only_what_it_writes(text: str) -> None:
    for decode, encode in ((b64_decode, b64_encode), (b64u_decode, b64u_encode)):
        try:
            data = decode(text)
        except EmdiError:
            continue
        assert encode(data) == text


@given(st.integers(0, MAX_UINT), st.text(max_size=6))
def test_numbers_round_trip(number: int, text: str) -> None:
    assert parse_uint(str(number)) == number
    with suppress(EmdiError):
        assert str(parse_uint(text)) == text


SIGNERS = [NoteSigner(f"n{number}.example/x", seed(f"n{number}")) for number in range(4)]
TEXTS = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]) | st.just("\n"), max_size=60).map(
    lambda text: text + "\n"
)


@given(TEXTS, st.sets(st.integers(0, 3), min_size=1), st.data())
def test_notes_round_trip_and_one_bit_breaks_them(text: str, who: set[int], data: st.DataObject) -> None:
    signers = [SIGNERS[number] for number in sorted(who)]
    note = format_note(text, [signer.sign(text) for signer in signers])
    verified = verify_note(note, [signer.verifier for signer in SIGNERS])
    assert (verified.text, len(verified.by)) == (text, len(who))
    parsed = parse_note(note)
    again = [f"\u2014 {item.name} {b64_encode(item.keyid + item.blob)}\n" for item in parsed.signatures]
    assert format_note(parsed.text, again) == note
    spoilt = flip(note, data.draw(st.integers(0, 8 * len(note) - 1)))
    try:
        loose = verify_note(spoilt, [signer.verifier for signer in SIGNERS])
    except EmdiError:
        return
    # A flipped name or key id makes an unknown key, which is ignored; then the text must be whole, and one key fewer.
    assert loose.text == text
    assert len(loose.by) < len(who)


@given(SHORT, st.integers(0, MAX_UINT), HASH)
def test_checkpoints_round_trip(origin: str, size: int, root: bytes) -> None:
    checkpoint = Checkpoint(origin, size, root)
    assert parse_checkpoint(checkpoint.text()) == checkpoint


@given(st.sampled_from(sorted(KINDS)), st.integers(0, MAX_UINT), st.binary(min_size=1, max_size=80))
def test_entries_round_trip(kind: int, recv_ms: int, body: bytes) -> None:
    assert parse_entry(encode_entry(kind, recv_ms, body)) == (kind, recv_ms, body)


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=256))
def test_bundles_of_entries_round_trip(entries: list[bytes]) -> None:
    assert tiles.decode_bundle(tiles.encode_bundle(entries)) == entries


@given(st.integers(0, 63), st.integers(0, MAX_UINT), st.integers(1, 256))
def test_tile_paths_round_trip(level: int, n: int, width: int) -> None:
    assert tiles.parse_tile_path(tiles.tile_path(level, n, width)) == (level, n, width)
    assert tiles.parse_tile_path(tiles.entries_path(n, width)) == (None, n, width)


@given(st.binary(min_size=13, max_size=13), st.integers(0, MAX_UINT), st.lists(HASH, max_size=63))
def test_receipts_round_trip(extra: bytes, index: int, path: list[bytes]) -> None:
    receipt = Receipt(extra, index, tuple(path), b"checkpoint\n")
    data = format_receipt(receipt)
    assert parse_receipt(data) == receipt
    assert format_receipt(parse_receipt(data)) == data


@given(st.integers(1, 3), st.integers(0, 4), st.sampled_from(["any", "all", "1", NO_QUORUM]))
def test_policies_round_trip(logs: int, witnesses: int, quorum: str) -> None:
    named = tuple(
        PolicyWitness(
            f"w{n}",
            NoteSigner("w.example", seed(f"w{n}"), 6 if n == 3 else 4).verifier,
            "https://w.example" if n % 2 else "",
        )
        for n in range(witnesses)
    )
    groups = (
        (PolicyGroup("g", quorum, tuple(item.name for item in named)),)
        if named and quorum != NO_QUORUM
        else ()
    )
    policy = Policy(
        tuple(PolicyLog(SIGNERS[n].verifier) for n in range(logs)),
        named,
        groups,
        "g" if groups else NO_QUORUM,
    )
    assert parse_policy(format_policy(policy)) == policy
    assert format_policy(parse_policy(format_policy(policy))) == format_policy(policy)


@given(
    st.lists(
        st.tuples(st.integers(0, MAX_UINT), st.binary(min_size=1, max_size=40)),
        unique_by=lambda item: item[0],
    )
)
def test_entries_bin_round_trips(entries: list[tuple[int, bytes]]) -> None:
    ordered = sorted(entries)
    data = b"".join(bundle.pack_entries(ordered))
    assert list(bundle.iter_entries(io.BytesIO(data))) == ordered


@given(st.integers(0, MAX_UINT), st.lists(HASH, max_size=63))
def test_proof_lines_round_trip(idx: int, path: list[bytes]) -> None:
    assert bundle.parse_proof(bundle.format_proof(idx, path)[:-1]) == (idx, path)


@given(HASH, HASH, st.text(st.characters(exclude_categories=["Cs"])))
def test_disclosures_round_trip(event_id: bytes, salt: bytes, text: str) -> None:
    disclosure = bundle.Disclosure(event_id, salt, text)
    assert bundle.parse_disclosure(bundle.format_disclosure(disclosure)[:-1]) == disclosure


@given(st.integers(0, 253_402_300_799_999), st.none() | st.integers(0, 9))
def test_scopes_round_trip(at_ms: int, number: int | None) -> None:
    head = None if number is None else StationHead(number, 2, bytes(32))
    runs = () if number is None else (Run(0, 1, 0, 2), Run(0, 9, number, 9))
    stations = (StationScope("a", (), None), StationScope("s", runs, head))
    entries = None if number is None else (number, 17)
    scope = Scope("e-1", stations, 0, at_ms, entries, "r", "why", number == 1, 5, (2, 4), 4, 4, 3, 2, 1)
    assert parse_scope(format_scope(scope)) == scope


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_values_read_back_as_the_same_double(value: float) -> None:
    assert float(format_value(value)) == value


def test_times_are_written_to_the_millisecond() -> None:
    assert format_at(0) == "1970-01-01T00:00:00.000Z"
    assert format_at(1_767_323_045_678) == "2026-01-02T03:04:05.678Z"
