"""Daily heads: made at the first publication of a day and when somebody asks, exactly as the entries say."""

import threading
from pathlib import Path

import httpx2 as httpx
import pytest
import sqlalchemy as sa

from emdi.entry import KIND_EVENT, KIND_READING, parse_entry
from emdi.envelope import parse_envelope
from emdi.event import parse_event
from emdi.head import HeadsBuilder, format_head, head_root, parse_head
from stackwitness import clock
from stackwitness.errors import LogUnavailable
from stackwitness.log.disk import Disk
from stackwitness.log.heads import Heads, find_newest, list_heads, make_head, read_lines, request_head
from stackwitness.settings import Settings
from tests.service.log_station import SmallStation
from tests.service.log_support import SmallLog, make_log
from tests.service.rig import Rig
from tests.support.service import Service


@pytest.fixture
def small_log(settings: Settings, engine: sa.Engine) -> SmallLog:
    return make_log(settings, engine)


def recomputed(log: SmallLog, as_of: int) -> list[str]:
    """Return the head's lines from the published entries alone, as a stranger would."""
    builder, tiles = HeadsBuilder(), log.reader.tiles()
    for idx in range(as_of):
        entry = parse_entry(tiles.entry(idx))
        if entry.kind == KIND_EVENT:
            builder.take(parse_event(entry.body), idx)
        elif entry.kind == KIND_READING:
            builder.take(parse_envelope(entry.body), idx)
    return builder.lines()


def test_heads_are_what_the_entries_below_say_whatever_waits_or_came_later(small_log: SmallLog) -> None:
    loop = small_log.start()
    stations = [SmallStation(small_log, stn) for stn in ("S1", "S1.b", "s-2")]
    sizes = []
    for number, station in enumerate(stations):
        station.key = type(station.key).from_seed(bytes([number]) * 32, f"k{number}")
        station.register()
        station.push(3)
        loop.sequence()
        sizes.append(loop.publish().size)
    stations[0].push(2)  # it waits: no head knows it
    with small_log.engine.connect() as conn:
        for as_of in [*sizes, 1, 2, 5]:
            assert read_lines(conn, as_of) == recomputed(small_log, as_of), as_of
    disk = Disk(small_log.settings.log_dir)
    head = make_head(small_log.engine, disk, small_log.service_key, sizes[-1])
    lines = parse_head(disk.read(head.path))
    assert lines == recomputed(small_log, sizes[-1])
    assert (head.lines, head.root) == (len(lines), head_root(lines))
    # Once a size: the same head again is the same event.
    assert make_head(small_log.engine, disk, small_log.service_key, sizes[-1]) == head
    with small_log.engine.connect() as conn:
        jws = conn.scalar(sa.text("SELECT jws FROM event WHERE event_id = :id"), {"id": head.event_id})
    event = parse_event(bytes(jws))
    assert (event.typ, event.subj, event.data["as_of"]) == ("head.daily", "log", sizes[-1])


def test_the_first_publication_of_a_day_makes_one(
    small_log: SmallLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = small_log.start()
    loop.sequence()
    size = loop.publish().size
    disk = Disk(small_log.settings.log_dir)
    heads = Heads(small_log.engine, disk, small_log.service_key)
    first = heads.make_due(size)
    assert first is not None
    assert (first.as_of, first.occasion) == (1, "schedule")
    assert heads.make_due(size) is None
    loop.sequence()
    size = loop.publish().size
    assert (
        Heads(small_log.engine, disk, small_log.service_key).make_due(size) is None
    )  # a restart the same day
    tomorrow = clock.now_utc().replace(year=clock.now_utc().year + 1)
    monkeypatch.setattr(clock, "now_utc", lambda: tomorrow)
    second = heads.make_due(size)
    assert second is not None
    assert (second.as_of, second.date) == (2, tomorrow.strftime("%Y-%m-%d"))


def test_requests_that_wait_together_share_one_head(small_log: SmallLog) -> None:
    loop = small_log.start()
    small_log.note(3)
    loop.sequence()
    size = loop.publish().size
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(request_head(small_log.engine, size))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    while len(found) < len(threads):
        loop.sequence()
        loop.publish()
    for thread in threads:
        thread.join()
    with small_log.engine.connect() as conn:
        made = list_heads(conn, None, 100)
        assert conn.scalar(sa.text("SELECT count(*) FROM head_request")) == 0
    assert len(made) <= 2  # the last thread may have asked after the first head was under way
    assert all(head.as_of >= size and head in made for head in found)
    assert request_head(small_log.engine, size) == made[0]  # a head that is there is used
    with pytest.raises(LogUnavailable):
        request_head(small_log.engine, size + 100, within_s=0.2)


def test_a_file_that_cannot_be_written_makes_no_event(small_log: SmallLog) -> None:
    loop = small_log.start()
    loop.sequence()
    size = loop.publish().size

    class Full(Disk):
        def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
            raise OSError(28, "No space left on device")

    heads = Heads(small_log.engine, Full(small_log.settings.log_dir), small_log.service_key)
    with pytest.raises(OSError, match="space"):
        heads.make_due(size)
    with small_log.engine.connect() as conn:
        assert find_newest(conn) is None
    made = Heads(small_log.engine, Disk(small_log.settings.log_dir), small_log.service_key).make_due(size)
    assert made is not None


def test_heads_over_http(service: Service) -> None:
    rig = Rig(service)
    service.client.post(
        "/v1/envelopes", content=rig.next().jws, headers={"Content-Type": "application/jose"}
    ).raise_for_status()
    size = service.settle()
    with service.wiring.engine.begin() as conn:
        conn.exec_driver_sql(f"INSERT INTO head_request (at_least) VALUES ({size})")
    service.settle()
    get = service.client.get
    listed = get("/v1/heads").json()
    [head] = listed["heads"]
    assert (head["as_of"], head["occasion"], listed["next"]) == (size, "demand", None)
    answer: httpx.Response = get(head["file"])
    lines = parse_head(answer.content)
    assert format_head(lines) == answer.content
    assert len(lines) == head["lines"]
    assert [line for line in lines if line.startswith(f"station {rig.stn} {rig.ep} 0 ")]
    assert get(f"/v1/heads/{head['date']}").json() == head
    assert get("/v1/heads/2001-01-01").status_code == 404
    assert get("/v1/heads/2001-1-1").status_code == 422
    assert get(f"/log/heads/{size + 1}").status_code == 404
    assert get("/log/heads/%2e%2e%2fcheckpoint").status_code in (404, 422)
    assert get(f"/v1/heads?before={size}").json() == {"heads": [], "next": None}
    assert Path(service.settings.log_dir, "heads", str(size)).read_bytes() == answer.content
