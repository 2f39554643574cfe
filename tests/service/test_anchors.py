"""Anchors: real authorities behind loopback HTTP stamp real checkpoints; what fails warns and stops nothing."""

import hashlib
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
import time_machine

from emdi.anchor import is_anchor_file
from emdi.checkpoint import open_checkpoint
from stackwitness import clock
from stackwitness.log.anchored import read_anchors
from stackwitness.log.anchors import RETRY_MS, Anchors, anchoring
from stackwitness.log.disk import Disk
from stackwitness.log.fsck import fsck
from stackwitness.settings import Settings
from stackwitness_client.verify.timestamps import check_timestamp, have_library, open_timestamp
from tests.service.log_support import SmallLog, make_log
from tests.support import invariants
from tests.support.service import Service
from tests.support.tsa import LocalTsa

pytestmark = [
    pytest.mark.skipif(not have_library(), reason="rfc3161-client is not installed: nothing is anchored"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here: no authority to ask"),
]
HOUR_MS = 3_600_000


class Office:
    """A small log with two authorities."""

    def __init__(self, small: SmallLog, folder: Path, stack: ExitStack) -> None:
        self.small = small
        self.log_dir = small.settings.log_dir
        self.authorities = [LocalTsa(folder / name, name) for name in ("one", "two")]
        self.urls = [stack.enter_context(tsa.serving()) for tsa in self.authorities]
        self.loop = small.start()

    def anchors(self, *urls: str, roots: Path | None = None) -> Anchors:
        disk = Disk(self.log_dir)
        return Anchors(
            self.small.engine, self.small.service_key, disk, urls or self.urls, every_ms=HOUR_MS, roots=roots
        )

    def publish(self) -> int:
        self.loop.sequence()
        return self.loop.publish().size

    def events(self) -> int:
        with self.small.engine.connect() as conn:
            return len(read_anchors(conn))

    def file(self, name: str) -> bytes:
        return (self.log_dir / "anchors" / name).read_bytes()


@pytest.fixture
def office(settings: Settings, engine: sa.Engine, tmp_path: Path) -> Iterator[Office]:
    with ExitStack() as stack:
        office = Office(make_log(settings, engine), tmp_path, stack)
        office.publish()
        yield office


def test_two_authorities_stamp_one_note(office: Office) -> None:
    made = office.anchors().take_round()
    assert [anchor.file for anchor in made] == ["1.0.tsr", "1.1.tsr"]
    note = office.file("1.note")
    assert note == office.small.reader.checkpoint()
    assert open_checkpoint(note, office.small.policy)[0].size == 1
    with office.small.engine.connect() as conn:
        assert read_anchors(conn) == made
    for anchor, tsa in zip(made, office.authorities, strict=True):
        tsr = office.file(anchor.file)
        assert hashlib.sha256(tsr).hexdigest() == anchor.tsr_sha256
        assert hashlib.sha256(note).hexdigest() == anchor.note_sha256
        assert check_timestamp(tsr, note, [tsa.root]).gen_time_ms == anchor.gen_time_ms
    assert office.publish() == 3  # the two events
    assert invariants.check(office.small.engine, office.log_dir) == []
    place = office.log_dir / "anchors" / "1.0.tsr"
    place.rename(place.with_name("1.2.tsr"))
    assert invariants.check(office.small.engine, office.log_dir) == [
        "anchored file 1.0.tsr is gone or changed"
    ]


def test_a_round_comes_once_an_hour(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "stackwitness.log.anchors.CLOCK_SLACK_MS", 2 * HOUR_MS
    )  # openssl's clock stays behind
    anchors = office.anchors()
    assert len(anchors.take_round()) == 2
    office.publish()
    assert anchors.take_round() == []
    assert office.anchors().take_round() == []  # also after a restart: the files tell when
    with time_machine.travel(clock.now_ms() / 1000 + 3601, tick=True):
        assert [anchor.size for anchor in anchors.take_round()] == [3, 3]
    assert office.events() == 4


def test_an_authority_that_fails_is_named_and_asked_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stackwitness.log.anchors.CLOCK_SLACK_MS", 2 * RETRY_MS
    )  # openssl's clock stays behind
    anchors = office.anchors(office.urls[0], "http://127.0.0.1:9/", "no address")
    assert [anchor.k for anchor in anchors.take_round()] == [0]
    assert [warning.code for warning in anchors.warnings] == ["log.anchor", "log.anchor"]
    assert "127.0.0.1:9" in anchors.warnings[0].text
    assert anchors.take_round() == []
    with time_machine.travel((clock.now_ms() + RETRY_MS) / 1000 + 1, tick=True):
        assert anchors.take_round() == []
        anchors._urls = (office.urls[0], office.urls[1], office.urls[1])
        assert [anchor.k for anchor in anchors.take_round(now=True)] == [0, 1, 2]
    assert anchors.warnings == ()


def test_a_stamp_that_leads_to_no_root_of_ours_is_refused(office: Office, tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_bytes(office.authorities[0].root_pem)
    anchors = office.anchors(roots=roots)
    assert [anchor.k for anchor in anchors.take_round()] == [0]
    assert len(anchors.warnings) == 1
    assert not (office.log_dir / "anchors" / "1.1.tsr").exists()


def test_a_crash_before_the_event_is_made_up_for(office: Office) -> None:
    anchors = office.anchors()
    engine, anchors._engine = anchors._engine, None  # type: ignore[assignment]
    assert anchors.take_round() == []
    assert len(anchors.warnings) == 2
    tsr = office.file("1.0.tsr")
    assert office.events() == 0
    anchors._engine = engine
    anchors.take_round(now=True)
    assert office.file("1.0.tsr") == tsr  # the stamp that was got is the stamp that counts
    assert office.events() == 2
    anchors.take_round(now=True)
    assert office.events() == 2


def test_fsck_names_what_happened_to_anchored_files(office: Office, settings: Settings) -> None:
    office.anchors().take_round()
    office.publish()

    def found() -> set[tuple[str, str, int | None]]:
        report = fsck(
            office.small.engine, office.log_dir, office.small.policy, signer_dir=settings.signer_dir
        )
        return {(item.code, item.key, item.idx) for item in report.findings}

    assert found() == set()
    place = office.log_dir / "anchors" / "1.1.tsr"
    tsr = place.read_bytes()
    place.write_bytes(tsr + b"x")
    assert found() == {("anchor.edited", "anchors/1.1.tsr", 2)}
    place.unlink()
    assert found() == {("anchor.missing", "anchors/1.1.tsr", 2)}


def test_the_thread_anchors_by_itself(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackwitness.log.anchors.POLL_S", 0.01)
    stop, done = threading.Event(), threading.Event()
    anchors = office.anchors()
    monkeypatch.setattr(
        anchors,
        "take_round",
        lambda take=anchors.take_round: (take(), done.set()),  # type: ignore[func-returns-value]
    )
    with anchoring(anchors, stop):
        assert done.wait(30)
        stop.set()
    assert office.events() == 2
    with anchoring(None, stop):
        pass


def test_nothing_to_anchor_yet(settings: Settings, engine: sa.Engine) -> None:
    small = make_log(settings, engine)
    anchors = Anchors(engine, small.service_key, Disk(settings.log_dir), ["http://127.0.0.1:9/"], every_ms=1)
    assert anchors.take_round() == []
    assert anchors.warnings == ()


def test_names_of_anchored_files() -> None:
    for name in ("0.note", "12.note", "12.0.tsr", "12.9.tsr", "tsa-chain.pem"):
        assert is_anchor_file(name)
    for name in ("", "..", "012.note", "1.tsr", "1.10.tsr", "1.note/x", "١.note", "tsa-chainxpem", "-1.note"):
        assert not is_anchor_file(name)


def test_settings_take_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKWITNESS_TSA_URLS", "http://a/ http://b/, http://c/")
    assert Settings().tsa_urls == ("http://a/", "http://b/", "http://c/")


def test_a_stamp_tells_the_time_it_was_made(office: Office) -> None:
    before_ms = clock.now_ms() - 1000
    anchor = office.anchors().take_round()[0]
    assert before_ms <= anchor.gen_time_ms <= clock.now_ms()
    assert open_timestamp(office.file("1.0.tsr"), office.file("1.note"))[1].authority == "CN=one leaf"


def test_anchored_files_are_served(service: Service) -> None:
    folder = service.settings.log_dir / "anchors"
    folder.mkdir()
    (folder / "1.note").write_bytes(b"note")
    (folder / "1.0.tsr").write_bytes(b"response")
    (folder / "secret").write_bytes(b"none of yours")
    response = service.client.get("/log/anchors/1.0.tsr")
    assert (response.content, response.headers["content-type"]) == (
        b"response",
        "application/timestamp-reply",
    )
    assert service.client.get("/log/anchors/1.note").text == "note"
    for name in ("2.note", "secret", "..%2fcheckpoint", "01.note", "1.10.tsr"):
        assert service.client.get(f"/log/anchors/{name}").status_code == 404, name
