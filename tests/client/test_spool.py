"""The spool never uses a place in the chain twice and never forgets what was recorded, whatever kills it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from emdi.chain import StationHead, check_next
from emdi.envelope import Envelope, parse_envelope, seal_envelope
from emdi.keys import LocalKey
from emdi.pack import Record
from stackwitness_client.errors import ChainLost, SpoolError
from stackwitness_client.spool import Link, Proven, Spool

KEY = LocalKey.generate("Ed25519", "s1-1")
AT_MS = 1_700_000_000_000


def seal(number: int, link: Link) -> Envelope:
    record = Record("NOX", AT_MS + number * 60_000, "mg/m3", Decimal(number), "N")
    return seal_envelope(
        KEY,
        stn=link.stn,
        ep=link.ep,
        seq=link.seq,
        prev=link.prev,
        iat_ms=AT_MS,
        cp=link.cp,
        records=(record,),
    )


def fill(spool: Spool, count: int) -> list[Envelope]:
    return [spool.append(partial(seal, number)) for number in range(count)]


def proven(envelope: Envelope, size: int = 10) -> Proven:
    return Proven(
        envelope.env_id, 1, AT_MS, bytes(13), (bytes(32), b"\x01" * 32), b"note %d" % size, size, bytes(32)
    )


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool.db", "s1")


def test_a_chain_continues_after_reopening(tmp_path: Path) -> None:
    first = Spool(tmp_path / "spool.db", "s1")
    kept = fill(first, 3)
    first.close()
    again = Spool(tmp_path / "spool.db", "s1")
    kept.append(again.append(partial(seal, 3)))
    head: StationHead | None = None
    for envelope in kept:
        check_next(head, envelope)
        head = StationHead(envelope.ep, envelope.seq, envelope.env_id)
    assert [spooled.env_id for spooled in again.waiting()] == [envelope.env_id for envelope in kept]
    assert again.head().sealed == again.head().readings == 4


def test_a_failed_seal_uses_no_place(spool: Spool) -> None:
    def fail(link: Link) -> Envelope:
        raise ValueError("no pen")

    fill(spool, 1)
    with pytest.raises(ValueError, match="no pen"):
        spool.append_many([partial(seal, 1), fail])
    assert spool.head().seq == 0
    assert spool.append(partial(seal, 2)).seq == 1


def test_what_does_not_continue_the_chain_is_refused(spool: Spool) -> None:
    with pytest.raises(SpoolError) as refused:
        spool.append(lambda link: seal(0, Link(link.stn, link.ep, link.seq + 1, b"\x01" * 32, None)))
    assert refused.value.code == "spool.link"
    assert spool.head().seq == -1


def test_the_file_is_private_and_belongs_to_one_station(tmp_path: Path, spool: Spool) -> None:
    assert (tmp_path / "spool.db").stat().st_mode & 0o077 == 0
    with pytest.raises(SpoolError) as refused:
        Spool(tmp_path / "spool.db", "another")
    assert refused.value.code == "spool.station"


def test_something_that_is_no_spool_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"not a database, only long enough to be taken for one" * 20)
    with pytest.raises(SpoolError) as refused:
        Spool(tmp_path / "spool.db", "s1")
    assert refused.value.code == "spool.open"


def test_batches_respect_both_caps(spool: Spool) -> None:
    kept = fill(spool, 5)
    assert len(spool.waiting(limit=2)) == 2
    assert len(spool.waiting(limit_bytes=1)) == 1
    assert len(spool.waiting(limit_bytes=2 * (len(kept[0].jws) + 1) + 1)) == 2


def test_freeing_keeps_the_receipt_and_the_newest_checkpoint(spool: Spool) -> None:
    kept = fill(spool, 3)
    spool.mark_stored(envelope.env_id for envelope in kept)
    spool.free([proven(kept[0], 10), proven(kept[1], 12)], AT_MS)
    assert [spooled.seq for spooled in spool.unproven()] == [2]
    assert spool.seen() == (12, bytes(32))
    assert spool.receipt(kept[1].env_id) == proven(kept[1], 12)
    assert spool.append(partial(seal, 9)).cp == (12, bytes(32))


def test_old_receipts_go_but_the_newest_stays(spool: Spool) -> None:
    kept = fill(spool, 3)
    spool.mark_stored(envelope.env_id for envelope in kept)
    spool.free([proven(envelope) for envelope in kept], AT_MS)
    assert spool.forget_receipts(AT_MS + 86_400_000, keep_days=2) == 0
    assert spool.forget_receipts(AT_MS + 3 * 86_400_000, keep_days=2) == 2
    assert spool.receipt(kept[2].env_id) is not None


def test_meeting_the_server_sends_again_what_it_lacks(spool: Spool) -> None:
    kept = fill(spool, 4)
    spool.mark_stored(envelope.env_id for envelope in kept)
    spool.meet((0, 1, kept[1].env_id))
    assert [spooled.seq for spooled in spool.waiting()] == [2, 3]
    assert [spooled.seq for spooled in spool.unproven()] == [0, 1]
    spool.meet(None)
    assert [spooled.seq for spooled in spool.waiting()] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("server", "code"),
    [
        ((0, 1, b"\x07" * 32), "chain.fork"),
        ((0, 9, b"\x07" * 32), "chain.lost"),
        ((3, 0, bytes(32)), "chain.lost"),
    ],
)
def test_a_server_that_knows_another_chain_is_a_clear_error(
    spool: Spool, server: tuple[int, int, bytes], code: str
) -> None:
    fill(spool, 3)
    with pytest.raises(ChainLost) as lost:
        spool.meet(server)
    assert lost.value.code == code


def test_a_server_that_lost_proven_envelopes_is_told_so(spool: Spool) -> None:
    kept = fill(spool, 3)
    spool.mark_stored(envelope.env_id for envelope in kept)
    spool.free([proven(envelope) for envelope in kept[:2]], AT_MS)
    with pytest.raises(ChainLost) as lost:
        spool.meet((0, 0, kept[0].env_id))
    assert lost.value.code == "chain.rolled_back"


def test_a_new_epoch_starts_at_zero_and_never_goes_back(spool: Spool) -> None:
    kept = fill(spool, 1)
    with pytest.raises(SpoolError, match="still wait"):
        spool.open_epoch(1)
    spool.mark_stored([kept[0].env_id])
    spool.free([proven(kept[0])], AT_MS)
    spool.open_epoch(4)
    opened = spool.append(partial(seal, 5))
    assert (opened.ep, opened.seq, opened.prev) == (4, 0, bytes(32))
    spool.meet((0, 0, kept[0].env_id))
    with pytest.raises(SpoolError):
        spool.open_epoch(3)


WRITER = """
import sys
from pathlib import Path
from tests.client.test_spool import seal
from functools import partial
from stackwitness_client.spool import Spool
spool = Spool(Path(sys.argv[1]), "s1")
number = spool.head().seq + 1
while True:
    for envelope in spool.append_many([partial(seal, number), partial(seal, number + 1)]):
        # Printed only after the commit: this is what could have left the process.
        sys.stdout.write(f"{envelope.ep} {envelope.seq} {envelope.env_id.hex()}\\n")
        sys.stdout.flush()
    number += 2
"""


def test_kill_9_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    root = Path(__file__).resolve().parents[2]
    said: dict[tuple[int, int], str] = {}
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(5)]
        time.sleep(0.03)
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.read().splitlines()
        writer.wait()
        for line in (line.split() for line in lines):
            if len(line) == 3 and len(line[2]) == 64:
                place = (int(line[0]), int(line[1]))
                assert said.setdefault(place, line[2]) == line[2], "a place in the chain had two contents"
    spool = Spool(path, "s1")
    kept = {
        (spooled.ep, spooled.seq): spooled.env_id.hex()
        for spooled in spool.waiting(limit=100_000, limit_bytes=1 << 40)
    }
    assert said.items() <= kept.items()
    head: StationHead | None = None
    for spooled in spool.waiting(limit=100_000, limit_bytes=1 << 40):
        envelope = parse_envelope(spooled.jws)
        check_next(head, envelope)
        head = StationHead(envelope.ep, envelope.seq, envelope.env_id)
    assert head is not None
    assert (head.seq, head.env_id) == (spool.head().seq, spool.head().env_id)
