"""A log that was frozen and the one that follows it, watched by one monitor: what leaf 0 must commit to, and who is believed."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from emdi.entry import KIND_GENESIS, encode_entry, parse_entry
from emdi.head import format_head, head_root, parse_line, station_line, subject_line
from emdi.merkle import root_of
from emdi.note import NoteSigner
from emdi.policy import parse_policy
from emdi.proof_check import check_proof
from emdi.proof_file import parse_proof
from emdi.shard import Previous, parse_previous
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor.loop import Monitor, Turn
from stackwitness_client.monitor.serving import answer
from tests.client.monitor_watch import Watch, head_lines, last_note
from tests.emdi.making import ORIGIN, START_MS, Log, seed
from tests.support.static_log import WITNESS, static_log, whole_log

NEXT = "log.example/2027"
SILENT = station_line("mill-9", 0, 41, bytes(range(32)))
FIRST = Previous("log.example/2025", 77, bytes(32), head_root([SILENT]))


@dataclass
class Years:
    """A frozen log, in which mill-9 was silent, and what stands behind the successor's address."""

    old: Watch
    new: Watch
    ended: Previous
    lines: list[str]
    urls: bool = True

    def policy(self) -> str:
        keys = zip((self.old.site, self.new.site), (self.old.log, self.new.log), strict=True)
        logs = [f"log {log.log_key.vkey} {site.url if self.urls else ''}".strip() for site, log in keys]
        return "\n".join([*logs, f"witness w1 {WITNESS.vkey}", "group g 1 w1", "quorum g", ""])

    def begin(self, previous: object, lines: list[str]) -> None:
        """Publish the successor with this commitment in leaf 0 and these lines beside it."""
        log = self.new.log
        log.entries, log.envelopes, log.grants = [], self.old.log.envelopes[-1:], []
        commit(log, NEXT, previous)
        log.let_officers_in()
        log.register_key(log.station)
        self.new.site.write("previous/head", format_head(lines))
        if previous is not None:
            self.new.site.write("previous/checkpoint", last_note(parse_previous(previous)))
        self.new.envelope()
        self.new.publish()

    def look(self, **given: object) -> Turn:
        link = ServerLink(self.old.site.url)
        monitor = Monitor(
            self.old.home, link, parse_policy(self.policy()), now_ms=lambda: self.old.now_ms, **given
        )  # type: ignore[arg-type]
        try:
            return monitor.turn()
        finally:
            monitor.close()
            link.close()

    def alarms(self) -> list[str]:
        return sorted(path.stem.partition("-")[2] for path in self.old.home.rglob("alarms/*.json"))


def commit(log: Log, origin: str, previous: object) -> None:
    """Make leaf 0 anew, with these members."""
    log.events = []
    del log.entries[:1]
    rest, log.entries = log.entries, []
    log.genesis()
    members = {**json.loads(parse_entry(log.entries[0]).body), "origin": origin}
    if previous is not None:
        members["previous"] = previous
    log.entries = [encode_entry(KIND_GENESIS, START_MS, json.dumps(members).encode()), *rest]


@pytest.fixture
def years(tmp_path: Path) -> Iterator[Years]:
    log, after = whole_log(), Log(log_key=NoteSigner(NEXT, seed("the next log")))
    with (
        static_log(tmp_path / "site", log.log_key) as site,
        static_log(tmp_path / "next", after.log_key) as other,
    ):
        old, new = Watch(log, site, tmp_path / "monitor"), Watch(after, other, tmp_path / "unused")
        events = list(log.events)
        commit(log, ORIGIN, FIRST.members())
        log.events = events
        site.write("previous/head", format_head([SILENT]))
        site.write("previous/checkpoint", last_note(FIRST))
        frozen = old.event(
            "log", "log.freeze", {"final_size_before": len(log.entries), "successor_origin": NEXT}
        )
        last = log_event_id(log, frozen)
        lines = sorted([*head_lines(log), subject_line("log", 0, last), SILENT])
        ended = Previous(ORIGIN, len(log.entries), root_of(log.leaves()), head_root(lines))
        old.publish()
        made = Years(old, new, ended, lines)
        made.begin(ended.members(), lines)
        yield made


def log_event_id(log: Log, idx: int) -> bytes:
    from emdi.event import parse_event

    return parse_event(parse_entry(log.entries[idx]).body).event_id


def test_both_logs_are_followed_in_silence(years: Years) -> None:
    turn = years.look()
    assert (turn.exit_code, years.alarms()) == (0, []), (turn, turn.next)
    assert turn.next is not None
    assert (turn.next.size, turn.next.entries) == (7, 7)
    again = years.look()
    assert (again.exit_code, again.next and again.next.entries) == (0, 0)


def test_the_successors_mirror_is_served_too(years: Years) -> None:
    link = ServerLink(years.old.site.url)
    policy = parse_policy(years.policy())
    monitor = Monitor(years.old.home, link, policy, now_ms=lambda: years.old.now_ms)
    try:
        with pytest.raises(FileNotFoundError):
            answer(monitor, "/successor/log/checkpoint")
        monitor.turn()
        for path in ("checkpoint", "previous/head"):
            served = (years.new.site.folder / "log" / path).read_bytes()
            assert answer(monitor, f"/successor/log/{path}")[0] == served
        assert (
            answer(monitor, "/log/checkpoint")[0] == (years.old.site.folder / "log/checkpoint").read_bytes()
        )
    finally:
        monitor.close()
        link.close()


Wrong = Callable[[Years], tuple[object, list[str]]]


def another_root(years: Years) -> tuple[object, list[str]]:
    return replace(years.ended, root=bytes(32)).members(), years.lines


def another_size(years: Years) -> tuple[object, list[str]]:
    return replace(years.ended, size=years.ended.size - 1).members(), years.lines


def another_origin(years: Years) -> tuple[object, list[str]]:
    return replace(years.ended, origin="log.example/2024").members(), years.lines


def nothing_at_all(years: Years) -> tuple[object, list[str]]:
    return None, years.lines


def a_chain_cut(years: Years) -> tuple[object, list[str]]:
    """The lines fit leaf 0, but a station's last envelopes are left out of both."""
    own = [line for line in years.lines if line.startswith("station mill-1 ")]
    cut = parse_line(own[0])
    shorter = station_line(cut.name, cut.ep or 0, cut.seq - 1, bytes(32))
    lines = sorted([*(set(years.lines) - set(own)), shorter])
    return replace(years.ended, head_root=head_root(lines)).members(), lines


def the_silent_forgotten(years: Years) -> tuple[object, list[str]]:
    lines = [line for line in years.lines if line != SILENT]
    return replace(years.ended, head_root=head_root(lines)).members(), lines


@pytest.mark.parametrize(
    ("wrong", "also"),
    [
        (another_root, []),
        (another_size, []),
        (another_origin, []),
        (nothing_at_all, ["chain"]),
        (a_chain_cut, ["chain"]),
        (the_silent_forgotten, []),
    ],
    ids=lambda item: getattr(item, "__name__", ""),
)
def test_a_successor_that_commits_to_something_else_is_an_alarm(
    years: Years, wrong: Wrong, also: list[str]
) -> None:
    years.begin(*wrong(years))
    turn = years.look()
    assert turn.exit_code == (1 if also else 2)
    assert years.alarms() == [*also, "missing"], turn.raised
    [path] = (years.old.home / "alarms").glob("*-missing.json")
    account = check_proof(parse_proof(path.read_bytes()), parse_policy(years.policy()))
    assert account.says == f"leaf 0 of {NEXT} does not commit to where {ORIGIN} ended"
    again = years.look()  # told once
    assert (again.exit_code, again.raised) == (turn.exit_code, [])


def test_what_stands_behind_the_end_is_an_alarm(years: Years) -> None:
    assert years.look().exit_code == 0
    years.old.envelope()
    years.old.envelope()
    years.old.publish()
    turn = years.look()
    assert (turn.exit_code, years.alarms()) == (1, ["signature"])
    assert "behind entry" in turn.raised[0][1]


def test_another_log_at_the_successors_address_is_not_the_successor(years: Years) -> None:
    years.new.site.url = years.old.site.url
    turn = years.look()
    assert turn.next is not None
    assert (turn.exit_code, years.alarms()) == (3, [])
    assert f"this home follows {NEXT}, the URL now serves {ORIGIN}" in turn.next.notes[0]


def test_the_successor_is_compared_with_a_token_of_its_own(years: Years) -> None:
    """The file may come later; then readings, flags and catalog are asked for, with that token and no other."""
    tokens: dict[str, str] = {}
    link = ServerLink(years.old.site.url, token="of the old log")
    monitor = Monitor(
        years.old.home,
        link,
        parse_policy(years.policy()),
        now_ms=lambda: years.old.now_ms,
        token_of=tokens.get,
    )
    unchecked = "readings, flags and catalog not checked: no token"
    try:
        for _ in range(2):
            turn = monitor.turn()
            assert turn.next is not None
            assert unchecked in turn.next.notes
        tokens[NEXT] = "of the new log"
        turn = monitor.turn()
        assert turn.next is not None
        assert unchecked not in turn.next.notes
        assert monitor.successor is not None
        assert monitor.successor._link._client.headers["authorization"] == "Bearer of the new log"
    finally:
        monitor.close()
        link.close()
