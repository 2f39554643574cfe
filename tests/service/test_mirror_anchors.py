"""Time stamps on a monitor's disk: held against the log's events and the authorities one trusts, and given back from there."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.serialization import Encoding

from emdi.anchor import Anchor
from emdi.checkpoint import Checkpoint
from emdi.note import format_note
from stackwitness.db.embedded import Cluster
from stackwitness.log.anchors import Anchors
from stackwitness.log.disk import Disk
from stackwitness.log.events import append_event
from stackwitness.log.fsck import fsck
from stackwitness.log.notekeys import load_note_signer
from stackwitness.settings import Settings
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor import Monitor
from stackwitness_client.monitor.anchors import GRACE_MS
from stackwitness_client.monitor.loop import Turn, wall_ms
from stackwitness_client.monitor.serving import serving
from stackwitness_client.verify.timestamps import have_library
from tests.service.log_support import SmallLog, make_log
from tests.service.test_rebuild_mirror import restored
from tests.service.test_shards import successor
from tests.support.static_log import static_log
from tests.support.tsa import LocalTsa

pytestmark = [
    pytest.mark.skipif(not have_library(), reason="rfc3161-client is not installed: nothing is anchored"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here: no authority to ask"),
]
HOUR_MS = 3_600_000


class Stamped:
    """A small log with one authority, and a monitor's home."""

    def __init__(self, log: SmallLog, folder: Path, url: str, tsa: LocalTsa) -> None:
        self.log, self.folder, self.tsa = log, folder, tsa
        self.loop = log.start()
        self.anchors = Anchors(
            log.engine, log.service_key, Disk(log.settings.log_dir), [url], every_ms=HOUR_MS
        )

    def stamp(self) -> list[Anchor]:
        self.publish()
        made = self.anchors.take_round(now=True)
        self.publish()
        return made

    def publish(self) -> None:
        self.loop.sequence()
        self.loop.publish()

    def file(self, name: str) -> Path:
        return self.log.settings.log_dir / "anchors" / name

    @contextmanager
    def monitor(self, roots: bytes | None = None, late_ms: int = 0) -> Iterator[Monitor]:
        with static_log(self.log.settings.home, None) as site:  # type: ignore[arg-type]
            link = ServerLink(site.url)
            now = lambda: wall_ms() + late_ms  # noqa: E731
            monitor = Monitor(self.folder, link, self.log.policy, tsa_roots=roots, now_ms=now)
            try:
                yield monitor
            finally:
                monitor.close()
                link.close()

    def look(self, roots: bytes | None = None, late_ms: int = 0) -> Turn:
        with self.monitor(roots, late_ms) as monitor:
            return monitor.turn()


@pytest.fixture
def stamped(settings: Settings, engine: sa.Engine, tmp_path: Path) -> Iterator[Stamped]:
    with ExitStack() as stack:
        tsa = LocalTsa(tmp_path / "tsa", "one")
        url = stack.enter_context(tsa.serving())
        yield Stamped(make_log(settings, engine), tmp_path / "monitor", url, tsa)


@pytest.fixture
def empty(cluster: Cluster, template: str, tmp_path: Path) -> Iterator[SmallLog]:
    with successor(cluster, template, tmp_path / "empty") as log:
        yield log


def test_stamps_are_kept_and_judged_by_the_roots_one_gives(stamped: Stamped, tmp_path: Path) -> None:
    [first], [second] = stamped.stamp(), stamped.stamp()
    turn = stamped.look()
    assert (turn.exit_code, turn.raised) == (0, [])
    assert "2 time stamps kept, not checked: no --tsa-root" in turn.notes
    for anchor in (first, second):
        for path in anchor.files:
            assert (stamped.folder / "mirror" / path).read_bytes() == stamped.file(
                Path(path).name
            ).read_bytes()
    stranger = LocalTsa(tmp_path / "other", "other").root.public_bytes(Encoding.PEM)
    turn = stamped.look(stranger)
    assert (turn.exit_code, turn.raised) == (4, [])
    assert "2 time stamps hold under none of your --tsa-root certificates" in turn.notes
    turn = stamped.look(stamped.tsa.root.public_bytes(Encoding.PEM))
    assert (turn.exit_code, turn.raised) == (0, [])
    assert "2 time stamps hold" in turn.notes
    # An earlier version followed this log without looking at its stamps.
    shutil.rmtree(stamped.folder / "mirror" / "anchors")
    with stamped.monitor() as monitor:
        with monitor.state.transaction():
            monitor.state.db.execute("DELETE FROM anchor")
            monitor.state.put("anchored_upto", 0)
        assert "2 time stamps kept, not checked: no --tsa-root" in monitor.turn().notes
    assert (stamped.folder / "mirror" / "anchors" / first.file).exists()


def test_one_that_is_gone_or_edited_is_an_alarm(stamped: Stamped) -> None:
    [gone], [edited] = stamped.stamp(), stamped.stamp()
    stamped.file(gone.file).unlink()
    place = stamped.file(edited.file)
    place.write_bytes(place.read_bytes()[:-1] + b"\0")
    turn = stamped.look()
    assert turn.exit_code == 2
    assert [says for _, says in turn.raised] == [
        f"anchors/{edited.file} is served with other bytes than entry 2 names"
    ]
    turn = stamped.look(late_ms=GRACE_MS + 1000)  # the first may have been behind, for some minutes
    assert [says for _, says in turn.raised] == [
        f"the time stamp of entry 1 is not served: anchors/{gone.file}"
    ]
    assert "2 time stamps are not fetched yet" in turn.notes


def test_a_stamp_on_another_tree_is_a_fork(stamped: Stamped) -> None:
    [made] = stamped.stamp()
    settings, log = stamped.log.settings, stamped.log
    signer = load_note_signer(settings.signer_dir / "log.key")
    text = Checkpoint(settings.log_origin, made.size, hashlib.sha256(b"another").digest()).text()
    note = format_note(text, [signer.sign(text)])
    stamped.file(made.note).write_bytes(note)
    with log.engine.begin() as conn:
        data = {name: getattr(made, name) for name in ("size", "k", "tsa", "tsr_sha256", "gen_time_ms")}
        data["note_sha256"] = hashlib.sha256(note).hexdigest()
        append_event(conn, log.service_key, typ="anchor.tsa", subj="log", act="service:log", data=data)
    stamped.publish()
    turn = stamped.look()
    kinds = sorted(alarm.type for alarm, _ in turn.raised)
    assert (turn.exit_code, kinds) == (1, ["fork", "malformed", "missing"])


def test_they_come_back_from_a_mirror(stamped: Stamped, empty: SmallLog, tmp_path: Path) -> None:
    (stamped.log.settings.log_dir / "anchors").mkdir(parents=True)
    stamped.file("tsa-chain.pem").write_bytes(stamped.tsa.root.public_bytes(Encoding.PEM))
    stamped.stamp()
    [lost] = stamped.stamp()
    with stamped.monitor() as monitor:
        assert monitor.turn().exit_code == 0
        (stamped.folder / "mirror" / "anchors" / lost.file).unlink()
        with serving(monitor, 0) as port:
            again = restored(stamped.log, empty, f"http://127.0.0.1:{port}", tmp_path)
    there = again.settings.log_dir / "anchors"
    names = {path.name for path in stamped.file("").iterdir()}
    assert {path.name for path in there.iterdir()} == names - {lost.file}
    assert all((there / name).read_bytes() == stamped.file(name).read_bytes() for name in names - {lost.file})
    report = fsck(again.engine, again.settings.log_dir, stamped.log.policy)
    assert [finding.key for finding in report.findings if finding.code == "anchor.missing"] == [
        f"anchors/{lost.file}"
    ]
