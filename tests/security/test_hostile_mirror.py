"""A log is rebuilt from a mirror that lies: what does not verify is named or left out, and never stored as good."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.serialization import Encoding

from emdi.anchor import Anchor
from emdi.note import NoteSigner, format_note, parse_note
from emdi.policy import format_policy
from stackwitness.log.anchors import Anchors
from stackwitness.log.disk import Disk
from stackwitness.log.rebuild.command import run_rebuild
from stackwitness.log.shards import freeze
from stackwitness_client.monitor.serving import serving
from stackwitness_client.verify.timestamps import have_library
from tests.service.log_support import SmallLog
from tests.service.test_mirror_anchors import HOUR_MS, Stamped, empty, stamped
from tests.support.tsa import LocalTsa

pytestmark = [
    pytest.mark.skipif(not have_library(), reason="rfc3161-client is not installed: nothing is anchored"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here: no authority to ask"),
]
__all__ = ["empty", "stamped"]
GARBAGE = b"\x30\x82" * (5 << 20)  # 10 MB that begin as a response does


class Mirror:
    """A monitor's mirror of a log that was frozen and stamped at its end; its files may be spoilt."""

    def __init__(self, stamped: Stamped, tmp_path: Path) -> None:
        self.stamped, self.log = stamped, stamped.log
        stamped.file("").mkdir(parents=True)
        stamped.file("tsa-chain.pem").write_bytes(stamped.tsa.root.public_bytes(Encoding.PEM))
        self.named: list[Anchor] = [*stamped.stamp(), *stamped.stamp()]
        log = self.log
        freeze(log.engine, log.disk, log.service_key, successor_origin="next", why="end of the year")
        stamped.publish()
        [self.end] = stamped.anchors.take_round(now=True)
        self.folder = stamped.folder / "mirror"
        assert stamped.look().exit_code == 0
        self.good = {path.name: path.read_bytes() for path in stamped.file("").iterdir()}
        self.home = tmp_path / "elsewhere"

    @contextmanager
    def served(self) -> Iterator[str]:
        with self.stamped.monitor() as monitor, serving(monitor, 0) as port:
            yield f"http://127.0.0.1:{port}"

    def spoil(self, name: str, data: bytes) -> None:
        (self.folder / "anchors" / name).write_bytes(data)

    def mend(self) -> None:
        for name, data in self.good.items():
            self.spoil(name, data)

    def rebuild(self, empty: SmallLog, url: str, roots: Path | None = None) -> int:
        """Run the command in the home that has nothing but copies of the keys."""
        changed = {"home": self.home, "log_origin": self.log.settings.log_origin, "tsa_root_file": roots}
        settings = empty.settings.model_copy(update=changed)
        if not self.home.exists():
            shutil.copytree(self.log.settings.key_dir, settings.key_dir)
        policy = self.home / "policy.txt"
        policy.write_text(format_policy(self.log.policy))
        return run_rebuild(empty.engine, settings, self.log.service_key, url, policy)

    @property
    def stored(self) -> dict[str, bytes]:
        folder = self.home / "log/anchors"
        return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


@pytest.fixture
def mirror(stamped: Stamped, tmp_path: Path) -> Mirror:
    return Mirror(stamped, tmp_path)


def test_a_stamp_that_is_none_is_left_out_with_a_word_and_comes_back_from_a_better_mirror(
    mirror: Mirror, empty: SmallLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = mirror.named
    other = LocalTsa(tmp_path / "other", "other")
    with other.serving() as url:
        log = mirror.log
        strange = Anchors(log.engine, log.service_key, Disk(tmp_path / "strange"), [url], every_ms=HOUR_MS)
        note = mirror.good[mirror.end.note]
        (tmp_path / "strange").mkdir()
        (tmp_path / "strange/checkpoint").write_bytes(note)
        [made] = strange.take_round(now=True)
    forged = (tmp_path / "strange/anchors" / made.file).read_bytes()
    roots = tmp_path / "roots.pem"
    roots.write_bytes(mirror.stamped.tsa.root.public_bytes(Encoding.PEM))
    mirror.spoil(first.file, GARBAGE)
    mirror.spoil(second.file, mirror.good[second.file][:-100])
    mirror.spoil("tsa-chain.pem", GARBAGE)
    untouched = {first.note, second.note, mirror.end.note}
    responses: list[tuple[bytes, str]] = [
        (GARBAGE, "[anchor.form]"),
        (mirror.good[mirror.end.file][:-100], "[anchor.form]"),
        (mirror.good[first.file], "[anchor.imprint]"),  # of an older checkpoint: so is another log's
        (b"", "[anchor.form]"),
        (forged, "[anchor.untrusted]"),
    ]
    with mirror.served() as url:
        for response, why in responses:
            mirror.spoil(mirror.end.file, response)
            assert mirror.rebuild(empty, url, roots) == 2
            said = capsys.readouterr().out
            lost = [line for line in said.splitlines() if line.startswith("lost: the time stamp")]
            assert len(lost) == 4, said
            assert [why in line for line in lost if mirror.end.file in line] == [True], said
            assert mirror.stored.keys() == untouched
        mirror.mend()
        mirror.rebuild(empty, url, roots)
        assert "lost: the time stamp" not in capsys.readouterr().out
        assert mirror.stored == mirror.good


def forge_signature(mirror: Mirror) -> bytes:
    """Return the last checkpoint, signed by a thief under the log's name."""
    text = parse_note(mirror.good[mirror.end.note]).text
    return format_note(text, [NoteSigner(mirror.log.settings.log_origin, b"t" * 32).sign(text)])


@pytest.mark.parametrize(
    "make",
    [
        forge_signature,
        lambda mirror: mirror.good[mirror.named[0].note],
        lambda mirror: mirror.good[mirror.end.note] + b"\n" * (1 << 16),
        lambda mirror: GARBAGE,
    ],
    ids=["forged", "of another tree", "with a tail", "garbage"],
)
def test_a_last_checkpoint_that_is_none_takes_its_stamps_with_it(
    mirror: Mirror, empty: SmallLog, make: Callable[[Mirror], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.spoil(mirror.end.note, make(mirror))
    with mirror.served() as url:
        assert mirror.rebuild(empty, url) == 2
    assert f"lost: the time stamp anchors/{mirror.end.note}" in capsys.readouterr().out
    assert mirror.stored == {
        name: data for name, data in mirror.good.items() if name not in (mirror.end.note, mirror.end.file)
    }


@pytest.mark.parametrize("part", ["note", "file"])
def test_a_monitor_keeps_no_stamp_on_a_logs_end_that_is_none(mirror: Mirror, part: str) -> None:
    """The server itself serves it: until it serves a better one, the monitor says so and has none."""
    name = getattr(mirror.end, part)
    for spoilt in (mirror.end.note, mirror.end.file):
        (mirror.folder / "anchors" / spoilt).unlink()
    mirror.stamped.file(name).write_bytes(GARBAGE)
    turn = mirror.stamped.look()
    assert (turn.exit_code, turn.raised) == (0, [])
    assert any(f"anchors/{name} is served, and is none" in note for note in turn.notes), turn.notes
    kept = {path.name: path.read_bytes() for path in (mirror.folder / "anchors").iterdir()}
    assert kept == {
        each: data
        for each, data in mirror.good.items()
        if each not in ({mirror.end.note, mirror.end.file} if part == "note" else {name})
    }
    mirror.stamped.file(name).write_bytes(mirror.good[name])
    assert mirror.stamped.look().exit_code == 0
    assert (mirror.folder / "anchors" / mirror.end.file).read_bytes() == mirror.good[mirror.end.file]


def test_entries_that_are_forged_are_refused_and_spoil_no_second_try(
    mirror: Mirror, empty: SmallLog, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = next((mirror.folder / "tile/entries").rglob("*.p/*"))
    good = bundle.read_bytes()
    with mirror.served() as url:
        bundle.write_bytes(good[:-1] + b"\0")
        assert mirror.rebuild(empty, url) == 3
        assert "log.corrupt" in capsys.readouterr().err
        with empty.engine.connect() as conn:
            assert conn.scalar(sa.text("SELECT count(*) FROM event")) == 0
        assert mirror.stored == {}
        bundle.write_bytes(good)
        assert mirror.rebuild(empty, url) == 2
    assert mirror.stored == mirror.good
    assert not (mirror.home / "rebuild").exists()


def test_a_mirror_that_does_not_answer_is_an_error_of_its_own(
    mirror: Mirror, empty: SmallLog, capsys: pytest.CaptureFixture[str]
) -> None:
    with mirror.served() as url:
        pass
    assert mirror.rebuild(empty, url) == 3
    assert "log.source" in capsys.readouterr().err
