"""The pusher brings everything to the server, whatever happens, and trusts only verified receipts."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from emdi.entry import KIND_QUARANTINED, KIND_READING, encode_entry
from emdi.keys import LocalKey
from emdi.note import NoteSigner
from emdi.pack import Record
from emdi.policy import parse_policy
from stackwitness_client.errors import (
    ChainLost,
    ReceiptRefused,
    ServerBusy,
    ServerRefused,
    ServerUnreachable,
)
from stackwitness_client.http import Backoff, ServerLink, retry_after_s
from stackwitness_client.pusher import Pusher
from stackwitness_client.registration import register
from stackwitness_client.station import Station
from tests.support.small_server import POLICY_TEXT, Exchange, SmallServer, policy, small_server

AT_MS = 1_700_000_000_000
KEY = LocalKey.generate("Ed25519", "s1-1")
CHANNEL = {
    "name": "NOX",
    "quantity": "NOx",
    "unit": "mg/m3",
    "role": "pollutant",
    "limit": None,
    "resolution": None,
}


@pytest.fixture
def server() -> Iterator[SmallServer]:
    with small_server() as running:
        link = ServerLink(running.url)
        register(link, {"stn": "s1", "channels": [CHANNEL]}, KEY)
        link.close()
        yield running


@pytest.fixture
def station(server: SmallServer, tmp_path: Path) -> Iterator[Station]:
    made = Station(tmp_path / "home", "s1", KEY, server.url, policy(), units={"NOX": "mg/m3"})
    waits: list[float] = []
    made.pusher = Pusher(
        made.spool, made.link, policy(), sleep=waits.append, backoff=Backoff(random=random.Random(1))
    )
    made.waits = waits  # type: ignore[attr-defined]
    yield made
    made.close()


def fill(station: Station, count: int, first: int = 0) -> None:
    rows = [
        [Record("NOX", AT_MS + number * 60_000, "mg/m3", Decimal(number), "N")]
        for number in range(first, first + count)
    ]
    station.record_packs(rows)


def waits(station: Station) -> list[float]:
    return list(station.waits)  # type: ignore[attr-defined]


def test_record_push_prove_free(server: SmallServer, station: Station) -> None:
    station.record({"NOX": 41.25}, AT_MS)
    fill(station, 300, first=1)
    account = station.pusher.drain(give_up_s=5)
    assert (account.sent, account.stored, account.known, account.freed) == (301, 301, 0, 301)
    assert server.readings("s1") == 301
    count = station.spool.count()
    assert (count.waiting, count.stored, count.receipts) == (0, 0, 301)
    assert station.spool.seen() == (302, station.spool.seen()[1])  # type: ignore[index]
    fill(station, 1, first=400)
    assert station.spool.waiting()[0].jws
    station.push(give_up_s=5)
    # The device says which tree it last verified, and the next tree is checked against it from tiles.
    assert server.chains["s1"][-1].cp[0] == 302  # type: ignore[index]
    assert any(path.startswith("/log/tile/") for _, path in server.seen)


def test_nothing_is_sent_twice_by_a_second_push(server: SmallServer, station: Station) -> None:
    fill(station, 3)
    station.pusher.drain(give_up_s=5)
    before = len(server.seen)
    assert station.push().sent == 0
    assert len(server.seen) == before


def test_busy_servers_are_asked_again_no_earlier_than_they_say(server: SmallServer, station: Station) -> None:
    replies = [(503, "7"), (429, "2"), (502, None)]

    def fault(x: Exchange) -> bool:
        if x.path != "/v1/envelopes":
            return False
        status, retry_after = replies.pop(0)
        x.answer(status, b"busy", {"Retry-After": retry_after} if retry_after else {})
        return True

    server.faults += [fault, fault, fault]
    fill(station, 2)
    account = station.pusher.push()
    assert account.stored == 2
    assert replies == []
    first, second, third = waits(station)
    assert first >= 7.0
    assert second >= 2.0
    assert 0.25 <= third <= 1.0


def test_an_answer_lost_on_the_way_is_asked_for_again(server: SmallServer, station: Station) -> None:
    def cut(x: Exchange) -> bool:
        if x.path != "/v1/envelopes":
            return False
        silent = x.answer
        x.answer = lambda *_: None  # type: ignore[method-assign]
        server._take(x)
        x.answer = silent  # type: ignore[method-assign]
        x.handler.close_connection = True
        x.handler.connection.shutdown(2)
        return True

    server.faults.append(cut)
    fill(station, 2)
    account = station.pusher.push()
    assert (account.stored, account.known) == (0, 2)
    assert server.readings("s1") == 2


def test_giving_up_keeps_everything(tmp_path: Path) -> None:
    station = Station(tmp_path, "s1", KEY, "http://127.0.0.1:9", policy())
    station.pusher = Pusher(station.spool, station.link, policy(), sleep=lambda _: None)
    fill(station, 2)
    with pytest.raises(ServerUnreachable):
        station.push(give_up_s=0)
    assert station.spool.count().waiting == 2


def test_a_refusal_keeps_the_stored_prefix_and_stops(server: SmallServer, station: Station) -> None:
    fill(station, 2)
    other = LocalKey.generate("Ed25519", "s1-2")
    station.signer = other
    fill(station, 1, first=2)
    with pytest.raises(ServerRefused) as refused:
        station.push()
    assert refused.value.problem["line"] == 3
    assert (station.spool.count().waiting, station.spool.count().stored) == (1, 2)


def test_a_gap_is_filled_from_the_spool(server: SmallServer, station: Station) -> None:
    fill(station, 5)
    station.pusher.push()
    # The server comes back from an older backup and the log with it.
    del server.chains["s1"][2:]
    del server.entries[3:]
    fill(station, 1, first=5)
    account = station.pusher.drain(give_up_s=5)
    assert account.freed == 6
    assert [envelope.seq for envelope in server.chains["s1"]] == list(range(6))


def test_a_server_that_lost_what_it_proved_is_not_helped_to_hide_it(
    server: SmallServer, station: Station
) -> None:
    fill(station, 3)
    station.pusher.drain(give_up_s=5)
    del server.chains["s1"][1:]
    fill(station, 1, first=3)
    with pytest.raises(ChainLost) as lost:
        station.push()
    assert lost.value.code == "chain.rolled_back"


def test_a_lost_spool_is_a_clear_error_until_a_new_epoch(
    server: SmallServer, station: Station, tmp_path: Path
) -> None:
    fill(station, 3)
    station.pusher.drain(give_up_s=5)
    fresh = Station(tmp_path / "fresh", "s1", KEY, server.url, policy())
    fill(fresh, 1, first=3)
    with pytest.raises(ServerRefused) as refused:
        fresh.push()
    assert refused.value.code == "equivocation"
    fresh.close()
    opened = Station(tmp_path / "opened", "s1", KEY, server.url, policy())
    opened.spool.open_epoch(1)
    fill(opened, 2, first=4)
    assert opened.push(give_up_s=5).freed == 2
    opened.close()


# A server that lies ----------------------------------------------------------------------------------------


def lie(server: SmallServer, make: object) -> None:
    def fault(x: Exchange) -> bool:
        if x.path != "/v1/receipts":
            return False
        asked = [bytes.fromhex(env_id) for env_id in json.loads(x.body)["env_ids"]]
        texts = {env_id.hex(): make(env_id).decode() for env_id in asked}  # type: ignore[operator]
        x.answer(200, {"receipts": texts})
        return True

    server.faults.append(fault)


def flipped(text: bytes, at: bytes) -> bytes:
    place = text.index(at) + len(at)
    return text[:place] + (b"B" if text[place : place + 1] == b"A" else b"A") + text[place + 1 :]


def other_log(entries: list[bytes]) -> list[bytes]:
    """Another history of the same length, that holds the same last entries."""
    return [b"other", *entries[1:]]


def set_aside(entries: list[bytes], index: int) -> list[bytes]:
    """The same log, with one envelope logged as quarantined."""
    entry = entries[index]
    return [*entries[:index], entry[:4] + bytes([KIND_QUARANTINED]) + entry[5:], *entries[index + 1 :]]


STRANGER = NoteSigner("small.example/log", b"\x05" * 32)
LIES = {
    "another log's key": lambda s, e: s.receipt(e, signer=STRANGER),
    "no signature at all": lambda s, e: s.receipt(e).replace(
        "— small.example/log".encode(), b"\xe2\x80\x94 someone"
    ),
    "a broken path": lambda s, e: flipped(s.receipt(e), b"index 1\n"),
    "another index": lambda s, e: s.receipt(e).replace(b"index 1\n", b"index 0\n"),
    "another envelope's receipt": lambda s, e: s.receipt(s.chains["s1"][1].env_id),
    "a time that was not logged": lambda s, e: flipped(s.receipt(e), b"extra RU1EAQEAAAG"),
    "no receipt but words": lambda s, e: b"trust me\n",
    "set aside instead of accepted": lambda s, e: s.receipt(e, set_aside(s.entries, s.index_of[e])),
}


@pytest.mark.parametrize("name", LIES)
def test_a_wrong_receipt_frees_nothing(server: SmallServer, station: Station, name: str) -> None:
    fill(station, 2)
    station.pusher.push()
    first = server.chains["s1"][0].env_id
    lie(server, lambda env_id: LIES[name](server, first) if env_id == first else server.receipt(env_id))
    with pytest.raises(ReceiptRefused):
        station.pusher.collect()
    assert (station.spool.count().stored, station.spool.count().receipts) == (2, 0)
    assert station.spool.seen() is None
    assert station.pusher.collect().freed == 2


@pytest.mark.parametrize(
    ("code", "history"),
    [
        ("checkpoint.back", lambda entries: entries[:5]),
        ("checkpoint.fork", lambda entries: [b"other", *entries[1:8]]),
        ("checkpoint.inconsistent", lambda entries: [b"other", *entries[1:]]),
    ],
)
def test_a_log_that_shrinks_or_forks_frees_nothing(
    server: SmallServer, station: Station, code: str, history: object
) -> None:
    # Three of ours, four of others: the station has verified a tree of 8.
    fill(station, 3)
    station.pusher.push()
    server.entries += [encode_entry(KIND_READING, 1, b"another station's %d" % n) for n in range(4)]
    assert station.pusher.collect().freed == 3
    fill(station, 1, first=3)
    station.pusher.push()
    new = server.chains["s1"][-1].env_id
    at = server.index_of[new]
    told = history(list(server.entries))  # type: ignore[operator]
    if code != "checkpoint.inconsistent":
        # The forked tree must hold the new envelope for its receipt to verify at all.
        told[-1] = server.entries[at]
        server.index_of[new] = len(told) - 1
    lie(server, lambda env_id: server.receipt(env_id, entries=told))
    with pytest.raises(ReceiptRefused) as refused:
        station.pusher.collect()
    assert refused.value.code == code
    assert station.spool.count().stored == 1
    assert station.spool.seen()[0] == 8  # type: ignore[index]


def test_tiles_withheld_free_nothing_and_are_asked_again(server: SmallServer, station: Station) -> None:
    fill(station, 1)
    station.pusher.drain(give_up_s=5)
    fill(station, 1, first=1)

    def hide(x: Exchange) -> bool:
        if not x.path.startswith("/log/tile/"):
            return False
        x.problem(404, "tile.unknown")
        return True

    server.faults += [hide, hide]
    station.pusher.push()
    with pytest.raises(ServerUnreachable):
        station.pusher.collect(give_up_s=0)
    assert station.spool.count().stored == 1
    assert station.pusher.collect(give_up_s=5).freed == 1


def test_receipts_that_are_not_there_yet_are_waited_for(server: SmallServer, station: Station) -> None:
    server.publishing = False
    fill(station, 2)
    assert station.push().freed == 0
    server.publishing = True
    assert station.push().freed == 2


def test_a_receipt_without_the_quorum_frees_nothing_yet(server: SmallServer, station: Station) -> None:
    w1, w2 = (NoteSigner(f"{name}.example", name.encode() * 16, 4) for name in ("w1", "w2"))
    lines = [f"witness w1 {w1.vkey}", f"witness w2 {w2.vkey}", "group both all w1 w2", "quorum both", ""]
    station.pusher.policy = parse_policy(POLICY_TEXT.replace("quorum none\n", "\n".join(lines)))
    fill(station, 3)
    server.witnesses = [w1]
    station.pusher.push()
    assert station.pusher.collect().freed == 0
    assert station.pusher.unwitnessed == 3
    with pytest.raises(ServerUnreachable, match="quorum"):
        station.pusher.drain(give_up_s=0)
    server.witnesses = [
        NoteSigner("w1.example", b"forger!!" * 4, 4),
        w2,
    ]  # the right name is not the right key
    assert station.pusher.collect().freed == 0
    server.witnesses = [w1, w2]
    assert station.pusher.collect().freed == 3
    assert station.pusher.unwitnessed == 0


@pytest.mark.parametrize(
    "body", [b"not json", b'{"stored": 7}', b'{"stored": [{"env_id": "zz"}]}', b'{"stored": []}', b"[]"]
)
def test_a_nonsense_acknowledgement_acknowledges_nothing(
    server: SmallServer, station: Station, body: bytes
) -> None:
    def fault(x: Exchange) -> bool:
        if x.path != "/v1/envelopes":
            return False
        x.answer(202, body)
        return True

    server.faults.append(fault)
    fill(station, 1)
    with pytest.raises(ServerUnreachable):
        station.pusher.push(give_up_s=0)
    assert station.spool.count().waiting == 1


def test_es256_stations_push_too(server: SmallServer, tmp_path: Path) -> None:
    key = LocalKey.generate("ES256", "s2-1")
    link = ServerLink(server.url)
    register(link, {"stn": "s2", "channels": [CHANNEL]}, key)
    station = Station(tmp_path / "s2", "s2", key, server.url, policy())
    fill(station, 3)
    assert station.pusher.drain(give_up_s=5).freed == 3
    station.close()


def test_the_backoff_grows_jitters_and_is_capped() -> None:
    backoff = Backoff(first_s=1.0, cap_s=8.0, random=random.Random(3))
    spans = [backoff.next_s() for _ in range(40)]
    for ceiling, span in zip([1, 2, 4, *[8] * 37], spans, strict=True):
        assert ceiling / 2 <= span <= ceiling
    assert len(set(spans)) == len(spans)
    backoff.reset()
    assert backoff.next_s() <= 1.0
    assert backoff.next_s(60.0) >= 60.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (None, None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("-1", None),
        ("9" * 40, None),
    ],
)
def test_retry_after_is_read_only_as_seconds(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header) == seconds


def test_busy_errors_tell_when_to_come_back() -> None:
    assert ServerBusy(503, 2.0, "busy").retry_after_s == 2.0
