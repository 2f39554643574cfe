"""The program stackwitness-monitor as an auditor runs it: exit codes, compare, check, killed, served."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emdi.entry import KIND_EVENT, encode_entry
from emdi.envelope import ZERO_HASH
from emdi.event import seal_event
from emdi.merkle import leaf_hash
from stackwitness_client import monitor_cli
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor.loop import Monitor, wall_ms
from stackwitness_client.monitor.serving import serving
from tests.emdi.making import START_MS, Log
from tests.support.static_log import WITNESS, StaticLog, static_log, whole_log


@pytest.fixture
def log() -> Log:
    return whole_log()


@pytest.fixture
def site(log: Log, tmp_path: Path) -> Iterator[StaticLog]:
    (tmp_path / "site").mkdir()
    with static_log(tmp_path / "site", log.log_key) as made:
        made.publish(log.entries, wall_ms())
        (tmp_path / "policy.txt").write_text(made.policy)
        yield made


def run(tmp_path: Path, *arguments: str) -> int:
    return monitor_cli.main([*arguments, "--policy", str(tmp_path / "policy.txt")])


def once(tmp_path: Path, site: StaticLog, home: str = "home", *more: str) -> int:
    return run(tmp_path, "run", "--log", site.url, "--home", str(tmp_path / home), "--once", *more)


def notes(log: Log, count: int) -> None:
    """Append events, one subject each."""
    for number in range(count):
        at = START_MS + 1000 * len(log.entries)
        event = seal_event(
            log.service, typ="log.note", subj=f"note:{len(log.entries)}", sseq=0, sprev=ZERO_HASH, act="test",
            ts_ms=at, data={"number": number},
        )  # fmt: skip
        log.entries.append(encode_entry(KIND_EVENT, at, event.jws))


def test_exit_codes(log: Log, site: StaticLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert once(tmp_path, site) == 0
    assert capsys.readouterr().out.startswith(f"ok: size {len(log.entries)}, {len(log.entries)} new")
    site.publish(log.entries, wall_ms() - 3_600_000)
    assert once(tmp_path, site) == 2
    site.publish(log.entries, None)
    assert once(tmp_path, site) == 4
    site.publish([*log.entries[:-1], log.entries[1]], wall_ms())
    assert once(tmp_path, site) == 1
    told = capsys.readouterr().out
    assert [line.split(":")[0] for line in told.split("\n") if line.startswith("ALARM")] == [
        "ALARM 1 stale",
        "ALARM 2 policy",
        "ALARM 3 fork",
    ]
    assert run(tmp_path, "check", str(tmp_path / "home/alarms/3-fork.json")) == 1
    assert "no log can hold both" in capsys.readouterr().out
    # The operator has seen it, and the log is as it was: moving the file away ends the alarm.
    site.publish(log.entries, wall_ms())
    assert once(tmp_path, site) == 1
    (tmp_path / "home/alarms/3-fork.json").unlink()
    assert once(tmp_path, site) == 0
    site.url = "http://127.0.0.1:9"
    assert once(tmp_path, site) == 3


def test_what_cannot_be_used_is_one_line(
    site: StaticLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "proof.json").write_text("{}")
    assert run(tmp_path, "check", str(tmp_path / "proof.json")) == 3
    assert run(tmp_path, "check", str(tmp_path / "none.json")) == 3
    assert run(tmp_path, "compare", str(tmp_path / "none"), site.url) == 3
    (tmp_path / "policy.txt").write_text("log x\n")
    assert once(tmp_path, site) == 4
    assert "Traceback" not in capsys.readouterr().err


def test_two_monitors_at_one_home_do_not_mix(site: StaticLog, tmp_path: Path) -> None:
    link = ServerLink(site.url)
    from emdi.policy import parse_policy

    first = Monitor(tmp_path / "home", link, parse_policy(site.policy))
    assert once(tmp_path, site) == 3
    first.close()
    assert once(tmp_path, site) == 0


# Two auditors, two trees ------------------------------------------------------------------------------
def test_compare_two_views_of_one_history(log: Log, site: StaticLog, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_bytes(site.notes[0])
    assert once(tmp_path, site) == 0
    notes(log, 300)
    site.publish(log.entries, wall_ms())
    assert run(tmp_path, "compare", site.url, str(old)) == 0
    assert run(tmp_path, "compare", str(tmp_path / "home"), site.url) == 0
    new = tmp_path / "new"
    new.write_bytes(site.notes[1])
    assert run(tmp_path, "compare", str(old), str(old)) == 0
    assert run(tmp_path, "compare", str(old), str(new)) == 2  # no tiles anywhere
    assert run(tmp_path, "compare", str(old), str(new), "--url", site.url) == 0


@pytest.mark.parametrize("grown", [0, 3, 300])
@pytest.mark.parametrize("sides", ["homes", "url and note", "notes and url"])
def test_compare_makes_a_fork_proof(
    log: Log, site: StaticLog, tmp_path: Path, grown: int, sides: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One auditor was shown the log, the other a log that left an envelope out and grew on."""
    notes(log, 5)
    site.publish(log.entries, wall_ms())
    assert once(tmp_path, site, "one") == 0
    one = tmp_path / "one.note"
    one.write_bytes(site.notes[-1])
    log.entries[-3] = log.entries[-4]
    notes(log, grown)
    site.publish(log.entries, wall_ms())
    two = tmp_path / "two.note"
    two.write_bytes(site.notes[-1])
    run(tmp_path, "run", "--log", site.url, "--home", str(tmp_path / "two"), "--once")
    views = {
        "homes": [str(tmp_path / "one"), str(tmp_path / "two")],
        "url and note": [str(one), site.url],
        "notes and url": [str(two), str(one), "--url", site.url],
    }[sides]
    proof = tmp_path / "fork.json"
    capsys.readouterr()
    assert run(tmp_path, "compare", *views, "-o", str(proof)) == 1
    assert run(tmp_path, "check", str(proof)) == 1
    told = capsys.readouterr().out
    assert ("no log can hold both" if not grown else "is not a prefix of the larger one: a fork") in told
    # The same file spoiled proves nothing.
    spoiled = json.loads(proof.read_text())
    spoiled["notes"][0] = spoiled["notes"][1]
    proof.write_text(json.dumps(spoiled))
    assert run(tmp_path, "check", str(proof)) == 3


def test_a_witness_that_saw_another_tree(log: Log, site: StaticLog, tmp_path: Path) -> None:
    import hashlib

    origin = log.log_key.verifier.name
    held = site.folder / hashlib.sha256(origin.encode()).hexdigest() / "checkpoint"
    held.parent.mkdir()
    held.write_bytes(site.note(log.entries[:-2], wall_ms()))
    assert once(tmp_path, site, "home", "--witness-url", site.url) == 0
    held.write_bytes(site.note([*log.entries[:-2], log.entries[1]], wall_ms()))
    assert once(tmp_path, site, "home", "--witness-url", site.url) == 1
    [proof] = (tmp_path / "home/alarms").glob("*-fork.json")
    assert run(tmp_path, "check", str(proof)) == 1
    assert WITNESS.verifier.name in proof.read_text()


# Killed, and serving ----------------------------------------------------------------------------------
def test_killed_in_mid_sync_it_goes_on_where_it_was(log: Log, site: StaticLog, tmp_path: Path) -> None:
    notes(log, 7000)
    site.publish(log.entries, wall_ms())
    command = [sys.executable, "-m", "stackwitness_client.monitor_cli", "run", "--once", "--log", site.url]
    command += ["--home", str(tmp_path / "home"), "--policy", str(tmp_path / "policy.txt")]
    kills = 0
    for bundles_kept in (4, 20):  # within the first step of 16, and behind it
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        bundles = tmp_path / "home/mirror/tile/entries"
        while process.poll() is None and len(list(bundles.glob("*"))) < bundles_kept:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills == 2
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert 0 < int(done.stdout.split(" new")[0].rpartition(" ")[2]) < len(log.entries)
    mirror, served = tmp_path / "home/mirror", site.folder / "log"
    for path in served.rglob("*"):
        if path.is_file():
            assert (mirror / path.relative_to(served)).read_bytes() == path.read_bytes()
    assert not list(mirror.rglob(".*")), "no drafts stay behind"


def test_the_mirror_is_served_and_can_itself_be_watched(log: Log, site: StaticLog, tmp_path: Path) -> None:
    from emdi.policy import parse_policy

    notes(log, 600)
    site.publish(log.entries, wall_ms())
    monitor = Monitor(tmp_path / "home", ServerLink(site.url), parse_policy(site.policy))
    with serving(monitor, 0) as port:
        assert monitor.turn().exit_code == 0
        link = ServerLink(f"http://127.0.0.1:{port}")
        for path in (site.folder / "log").rglob("*"):
            if path.is_file():
                assert link.tile(str(path.relative_to(site.folder / "log"))) == path.read_bytes()
        assert link.policy() == log.policy
        assert leaf_hash(log.entries[0]) == leaf_hash(encode_entry(0, START_MS, link.tile("genesis")))
        for wrong in ("tile/0/9", "tile/0/../../policy.txt", "heads/..", "../state.db", "tile/entries/999"):
            with pytest.raises(FileNotFoundError):
                link.tile(wrong)
        assert (
            f"stackwitness_monitor_log_size {len(log.entries)}\n" in link.ask("GET", "/metrics").body.decode()
        )
        assert link.ask("GET", "/alarms").json() == []
        mirror = StaticLog(site.folder, site.signer, f"http://127.0.0.1:{port}")
        assert once(tmp_path, mirror, "second") == 0
        link.close()
    monitor.close()
