"""What other processes check of a large log finds exactly what looking at every entry finds."""

from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from emdi.encoding import b64u_decode, b64u_encode
from emdi.envelope import parse_envelope, seal_envelope
from emdi.errors import EmdiError
from emdi.keys import LocalKey
from emdi.pack import Record
from stackwitness.log.fsck import check, fsck, parallel
from stackwitness.log.fsck.report import Report
from stackwitness.log.fsck.spelling import Spellings
from stackwitness.log.sequencer import read_head
from stackwitness.log.service_keys import load_key
from stackwitness.log.service_rotation import rotate_service_key
from stackwitness.settings import Settings
from tests.service.log_station import SmallStation
from tests.service.log_support import SmallLog, make_log
from tests.service.test_service_key import forge

KEY = LocalKey.from_seed(b"k" * 32, "k1")
NUMBERS = {("S1", "SO2"): 1, ("S1", "flow"): 2, ("S1", "NOx"): 3}
START_MS = 1_767_312_000_000


@pytest.fixture
def log(settings: Settings, engine: sa.Engine) -> SmallLog:
    log = make_log(settings, engine)
    loop = log.start()
    station = SmallStation(log)
    station.register()
    for _ in range(3):
        station.push(260)
        station.raise_flag()
    loop.sequence()
    loop.publish()
    return log


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Hear of each span whether it was taken as its process found it."""
    seen: list[bool] = []
    original = check.fits
    monkeypatch.setattr(check, "fits", lambda *given: seen.append(original(*given)) or seen[-1])
    return seen


def look(log: SmallLog, seen: list[bool], *statements: str) -> Report:
    """Edit the database, then check it both ways: the same must come out; `seen` is of spans of one tile."""
    with log.engine.begin() as conn:
        conn.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for table in ("envelope", "event", "log_entry", "station_key", "service_key"):
            conn.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        for statement in statements:
            assert conn.execute(sa.text(statement)).rowcount != 0
    slow = fsck(log.engine, log.settings.log_dir, log.policy)
    for span in (512, 256):  # in two tiles, of which perhaps only one is in doubt, and each by itself
        seen.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(check, "WORTH_ENTRIES", 0)
            patch.setattr(parallel, "SPAN", span)
            assert fsck(log.engine, log.settings.log_dir, log.policy) == slow
    return slow


def test_spans_find_what_looking_at_every_entry_finds(log: SmallLog, seen: list[bool]) -> None:
    def both(*statements: str) -> None:
        look(log, seen, *statements)

    both()
    assert seen == [True, True]
    both(
        "UPDATE reading SET value = value + 1 WHERE envelope_no = 300 AND value IS NOT NULL",
        "DELETE FROM reading WHERE envelope_no = 560",
        "INSERT INTO reading SELECT at, channel_no, 99999, value, status FROM reading WHERE envelope_no = 2",
    )
    assert seen == [False, False]
    both(
        "UPDATE envelope SET last_at = last_at + interval '1 s' WHERE seq = 400",
        "UPDATE log_entry SET leaf = sha256('x') WHERE idx = 600",
        "UPDATE station_key SET public_key = sha256('x')",
    )
    bundle = Path(log.settings.log_dir) / "tile/entries/001"
    bundle.write_bytes(bundle.read_bytes().replace(b"e", b"f", 1))
    both("UPDATE event SET sseq = sseq + 100 WHERE typ = 'flag.raised'")


def test_a_surplus_row_with_a_null_is_named(log: SmallLog, seen: list[bool]) -> None:
    found = look(
        log,
        seen,
        "ALTER TABLE reading ALTER status DROP NOT NULL",
        "INSERT INTO reading SELECT at + interval '1 s', channel_no, envelope_no, value, NULL FROM reading"
        " WHERE envelope_no = 300",
    )
    assert seen == [False, True]
    assert any(one.code == "reading.surplus" and one.idx is not None for one in found.findings)


def test_an_orphan_is_named_though_another_row_makes_up_the_number(log: SmallLog, seen: list[bool]) -> None:
    columns = "{} + 100000, sha256('x'), stn, ep, seq + 100000, kid, iat_ms, recv_ms, first_at, last_at, reading_count, jws"
    names = "envelope_no, env_id, stn, ep, seq, kid, iat_ms, recv_ms, first_at, last_at, reading_count, jws"
    found = look(
        log,
        seen,
        "INSERT INTO log_entry SELECT idx + 500000, kind, sha256('y'), recv_ms, leaf, qid + 500000 FROM log_entry WHERE idx = 300",
        f"INSERT INTO envelope ({names}) SELECT {columns.format('envelope_no')} FROM envelope WHERE seq = 400",
    )
    assert {one.code for one in found.findings} >= {"envelope.unlogged", "log_entry.place"}


def test_spans_follow_the_services_key(settings: Settings, engine: sa.Engine, seen: list[bool]) -> None:
    log = make_log(settings, engine)
    loop, station = log.start(), SmallStation(log)
    station.register()
    thief = load_key(settings.key_dir, "service-1")
    loop.sequence()
    with engine.connect() as conn:
        size = read_head(conn).size
    for place in (300, 511, 768):  # inside a span, its last entry, and the first of one
        if place == 768:
            station.push(600 - size)
            forge(
                engine, thief, subj=station.subj
            )  # by a key that ended, in a span where nothing else is odd
            size = 601
        station.push(place - size)
        rotate_service_key(engine, log.service_key, act="operator-1")
        station.raise_flag()
        size = place + 2
    station.push(1280 - size)
    loop.sequence()
    loop.publish()
    with engine.connect() as conn:
        query = "SELECT e.idx FROM service_key k JOIN log_entry e ON e.entry_id = k.event_id ORDER BY 1"
        assert list(conn.scalars(sa.text(query))) == [300, 511, 768]
    report = look(log, seen)
    assert seen == [False, False, False, True]
    assert [(one.code, one.idx) for one in report.findings if one.table == "event"] == [("key.revoked", 600)]
    hint = "UPDATE service_key SET public_key = (SELECT public_key FROM service_key WHERE kid = 'service-4')"
    named = look(log, seen, hint)  # what the processes start from, edited
    assert {one.table for one in named.findings} >= {"event", "service_key"}


numbers = st.decimals(-(10**6), 10**6, places=3) | st.sampled_from(
    [Decimal("0"), Decimal("1E+3"), Decimal("-0.0")]
)
packs = st.lists(
    st.tuples(
        st.sampled_from(["SO2", "flow", "NOx"]),
        st.integers(0, 2),
        st.none() | numbers,
        st.sampled_from("NNND"),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda item: item[:2],
)


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.lists(packs, min_size=1, max_size=3), st.integers(0, 10**9), st.integers(0, 10**6))
def test_a_remembered_spelling_reads_as_the_parser_does(
    shapes: list[list[tuple[str, int, Decimal | None, str]]], seq: int, shift_ms: int
) -> None:
    remembering = Spellings(NUMBERS)
    for turn in range(3):
        for pack in shapes:
            records = [
                Record(
                    name,
                    START_MS + shift_ms + (turn * 100 + minute) * 60_000,
                    "mg/m3",
                    None if value is None else value + turn,
                    "D" if value is None else status,
                )
                for name, minute, value, status in pack
            ]
            jws = seal_envelope(
                KEY, stn="S1", ep=turn, seq=seq + 1, prev=b"p" * 32, iat_ms=seq, cp=None, records=records
            ).jws
            here, there = remembering.read(jws), Spellings(NUMBERS).read(jws)
            assert here == there


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.integers(0, 200), st.sampled_from(list('0123456789.-+eE"{},:[]nul ANz\\')))
def test_what_the_parser_refuses_no_spelling_takes(place: int, letter: str) -> None:
    record = Record("SO2", START_MS, "mg/m3", Decimal("35.10"), "N")
    jws = seal_envelope(KEY, stn="S1", ep=0, seq=5, prev=bytes(32), iat_ms=9, cp=None, records=[record]).jws
    remembering = Spellings(NUMBERS)
    remembering.read(jws)
    header, payload, signature = jws.split(b".")
    text = b64u_decode(payload)
    at = place % len(text)
    changed = text[:at] + letter.encode() + text[at + 1 :]
    spelled = b".".join((header, b64u_encode(changed).encode(), signature))
    try:
        wanted = parse_envelope(spelled)
    except EmdiError:
        with pytest.raises((EmdiError, KeyError)):
            remembering.read(spelled)
        return
    try:
        read = remembering.read(spelled)
    except KeyError:  # a channel that is not registered
        assert wanted.records[0].name != "SO2" or wanted.stn != "S1"
        return
    assert (read.stn, read.ep, read.seq, read.env_id) == (wanted.stn, wanted.ep, wanted.seq, wanted.env_id)
    assert read.first_ms == wanted.records[0].at_ms
