"""Bundles without export.made: taken from a log that is shown to have ended, and from no other.

A forger makes MANIFEST fit; whoever holds the export key signs bundle.note too; whoever holds the service's and the
log's keys writes what log he likes. Each attempt fails with a code that names it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from emdi.bundle import make_manifest
from emdi.checkpoint import Checkpoint
from emdi.entry import KIND_EVENT
from emdi.event import seal_event
from emdi.keys import LocalKey
from emdi.layout import LOGGED, head_names
from emdi.note import sign_note
from emdi.scope import Scope, StationScope, format_scope, frozen_export_id, parse_scope
from stackwitness_client.verify import Report, verify_bundle
from tests.emdi import making
from tests.emdi.making import (
    ORIGIN,
    STN,
    Log,
    frozen_members_of,
    honest_log,
    members_of,
    note_alone,
    remanifest,
    seed,
    zip_of,
)
from tests.emdi.making_log import NEXT

Members = dict[str, bytes]


def check(members: Members, log: Log, known: bytes | None = None) -> Report:
    return verify_bundle(zip_of(members), log.policy, known)  # type: ignore[arg-type]


def codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings}


def ended() -> Log:
    log = honest_log()
    log.end()
    return log


def without_seal(members: Members) -> Members:
    left = {name: data for name, data in members.items() if name not in LOGGED}
    remanifest(left)
    return left


def test_a_frozen_logs_bundle_holds_and_says_what_it_lacks() -> None:
    log = ended()
    report = check(frozen_members_of(log), log)
    assert (report.exit_code, report.findings) == (0, []), report.text()
    said = next(line for line in report.text().splitlines() if line.startswith("7. "))
    for words in (
        "not checked",
        "is its last entry",
        "not logged",
        "not unique",
        NEXT,
    ):
        assert words in said, said


def test_the_seal_of_a_log_that_goes_on_cannot_be_left_away() -> None:
    log = honest_log()
    members = members_of(log)
    report = check(without_seal(members), log)
    assert (report.exit_code, codes(report)) == (2, {"seal.missing"}), report.text()
    assert "nothing shows that the log was frozen" in report.text()
    for name in LOGGED:  # nor a part of it
        part = {key: data for key, data in members.items() if key != name}
        assert "bundle.missing" in codes(check(part, log)), name


def test_a_checkpoint_from_before_the_freeze_shows_no_end() -> None:
    log = honest_log()
    before = frozen_members_of(with_head(log))
    log.freeze()
    assert codes(check(before, log)) == {"seal.missing"}
    # With the freeze's own entry: under this checkpoint it stands nowhere.
    after = frozen_members_of(log)
    mixed = {**after, "checkpoint": before["checkpoint"]}
    note_alone(log, mixed, parse_scope(mixed["scope.json"]))
    report = check(mixed, log)
    assert report.exit_code == 1, report.text()
    assert {"seal.missing", "scope.size"} <= codes(report)


def with_head(log: Log) -> Log:
    log.head()
    return log


def another_signs(log: Log) -> None:
    log.freeze(LocalKey.from_seed(seed("a thief"), "service-1"))


def nobody_knows_the_signer(log: Log) -> None:
    log.freeze(LocalKey.from_seed(seed("a thief"), "service-9"))


def it_speaks_of_another_place(log: Log) -> None:
    log.freeze(final_size_before=99)


def it_names_no_successor(log: Log) -> None:
    log.freeze(successor_origin="")


def on_another_subject(log: Log) -> None:
    data = {"final_size_before": len(log.entries), "successor_origin": "x"}
    log.event("log.freeze", data)


FAKES: list[tuple[Callable[[Log], None], set[str]]] = [
    (another_signs, {"envelope.signature", "seal.missing"}),
    (nobody_knows_the_signer, {"key.unknown", "seal.missing"}),
    (it_speaks_of_another_place, {"head.freeze", "seal.missing"}),
    (it_names_no_successor, {"head.freeze", "seal.missing"}),
    (on_another_subject, {"seal.missing"}),
]


@pytest.mark.parametrize(("fake", "found"), FAKES, ids=lambda item: getattr(item, "__name__", ""))
def test_a_false_end_is_no_end(fake: Callable[[Log], None], found: set[str]) -> None:
    log = with_head(honest_log())
    fake(log)
    report = check(frozen_members_of(log), log)
    assert report.exit_code in (1, 2), report.text()
    assert codes(report) == found, report.text()


def test_the_end_of_another_log_proves_nothing_here() -> None:
    log, other = honest_log(), honest_log()
    log.head()
    other.end()
    members = frozen_members_of(log)
    theirs = frozen_members_of(other)
    for name in ("entries.bin", "proofs.txt"):
        mixed = {**members, name: theirs[name]}
        note_alone(log, mixed, parse_scope(mixed["scope.json"]))
        report = check(mixed, log)
        assert report.exit_code != 0
        assert "seal.missing" in codes(report), report.text()
    stranger = Checkpoint("log.example/other", len(other.entries), bytes(32)).text()
    mixed = {**theirs, "checkpoint": sign_note(stranger, other.log_key)}
    note_alone(other, mixed, parse_scope(mixed["scope.json"]))
    assert {"genesis.origin", "seal.missing"} & codes(check(mixed, other))


def last_index(log: Log, kind: int) -> int:
    return max(idx for idx, entry in enumerate(log.entries) if entry[4] == kind)


def test_the_last_envelope_or_flag_left_out_is_missing() -> None:
    log = ended()
    report = check(frozen_members_of(log, frozenset({last_index(log, 1)})), log)
    assert (report.exit_code, codes(report)) == (2, {"complete.after"}), report.text()
    assert report.findings[0].envelope == (STN, 1, 0)
    every = frozenset(idx for idx, entry in enumerate(log.entries) if entry[4] == 1)
    report = check(frozen_members_of(log, every), log)
    assert (report.exit_code, codes(report)) == (2, {"complete.absent"}), report.text()
    log = honest_log()
    log.flag()
    flag = len(log.entries) - 1
    log.end()
    report = check(frozen_members_of(log, frozenset({flag})), log)
    assert (report.exit_code, codes(report)) == (2, {"complete.event"}), report.text()


def silent(scope: Scope) -> Scope:
    return replace(scope, stations=(*scope.stations, StationScope("quiet-1", (), None)))


def asked_id(scope: Scope) -> Scope:
    asked = (scope.stns, (scope.from_ms, scope.to_ms), scope.entries, scope.requester, scope.purpose)
    return replace(scope, export_id=frozen_export_id(ORIGIN, scope.size, *asked, redacted=scope.redacted))


def register_silent(log: Log) -> int:
    """Append the registration of a station that will never speak."""
    data = {"stn": "quiet-1", "name": "Quiet"}
    event = seal_event(
        log.service, typ="station.register", subj="station:quiet-1", sseq=0, sprev=bytes(32), act="operator-1",
        ts_ms=making.START_MS, data=data,
    )  # fmt: skip
    return log.append(KIND_EVENT, event.jws)


def with_silent(log: Log, without: frozenset[int] = frozenset()) -> Members:
    """Return the bundle of both stations, the second of which never spoke."""
    scope = asked_id(silent(making.scope_of(log)))
    members = making.content_of(log, scope, without=without)
    file, proofs = head_names(scope.head_as_of)
    held = (line.split(" ")[:2] for line in members[file].decode().splitlines())
    names = [("station", "quiet-1"), ("subject", "station:quiet-1"), *((kind, name) for kind, name in held)]
    proven = making.prove_lines(log.heads[scope.head_as_of], names)
    members[file] = "".join(f"{line}\n" for line, _, _ in proven).encode()
    members[proofs] = "".join(making.bundle.format_proof(index, path) for _, index, path in proven).encode()
    note_alone(log, members, scope)
    return members


def test_a_station_that_never_spoke_cannot_be_dropped() -> None:
    log = honest_log()
    registered = register_silent(log)
    log.end()
    whole = with_silent(log)
    report = check(whole, log)
    assert report.exit_code == 0, report.text()
    assert "quiet-1: no envelopes" in report.text()
    # Kept in the scope, without its event, or without its line of the head.
    report = check(with_silent(log, frozenset({registered})), log)
    assert (report.exit_code, codes(report)) == (2, {"complete.event"}), report.text()
    assert "event station:quiet-1 0 is missing" in report.text()
    scope = parse_scope(whole["scope.json"])
    blind = {**frozen_members_of(log), "scope.json": whole["scope.json"]}
    note_alone(log, blind, scope)
    assert "head.unproven" in codes(check(blind, log))
    # Dropped from the scope: without the export key, and with it under the same id.
    less = replace(scope, stations=scope.stations[:1])
    dropped = {**whole, "scope.json": format_scope(less)}
    remanifest(dropped)
    assert {"seal.note", "seal.id"} <= codes(check(dropped, log))
    note_alone(log, dropped, less)
    report = check(dropped, log)
    assert (report.exit_code, codes(report)) == (1, {"seal.id"}), report.text()
    # Asked for less, it is another export, and its id says so.
    other = asked_id(less)
    dropped["scope.json"] = format_scope(other)
    note_alone(log, dropped, other)
    assert check(dropped, log).exit_code == 0
    assert other.export_id != scope.export_id


@pytest.mark.parametrize(
    "change",
    [
        lambda scope: replace(scope, purpose="another"),
        lambda scope: replace(scope, requester="auditor-1"),
        lambda scope: replace(scope, redacted=True),
        lambda scope: replace(scope, to_ms=scope.to_ms + 1),
        lambda scope: replace(scope, export_id="x" + "0" * 32),
        lambda scope: replace(scope, export_id="export-1"),
    ],
)
def test_an_id_is_of_its_scope_alone(change: Callable[[Scope], Scope]) -> None:
    log = ended()
    report = check(frozen_members_of(log, change=change), log)
    assert (report.exit_code, codes(report)) == (1, {"seal.id"}), report.text()


def test_an_id_as_the_formats_spell_it() -> None:
    asked = '["log.example/2026",19,["mill-1"],0,5,null,"regulator-1","Why? \u4e3a",false]'
    digest = hashlib.sha256(b"emdi/export/frozen/v1\n" + asked.encode()).hexdigest()
    made = frozen_export_id(
        ORIGIN, 19, ["mill-1"], (0, 5), None, "regulator-1", "Why? \u4e3a", redacted=False
    )
    assert made == f"x{digest[:32]}" == "xd47ae01b0f49121909363e378f01be3b"


def after_the_end(log: Log, typ: str = "policy.change") -> None:
    last = log.log_events[-1]
    event = seal_event(
        log.service, typ=typ, subj="log", sseq=last.sseq + 1, sprev=last.event_id, act="service:log",
        ts_ms=making.START_MS, data={"policy": log.policy, "sha256": "0" * 64},
    )  # fmt: skip
    log.log_events.append(event)
    log.append(KIND_EVENT, event.jws)


def test_a_log_that_goes_on_behind_its_end_is_named() -> None:
    log = ended()
    bundle = frozen_members_of(log)
    log.envelope()
    log.envelope()
    size = len(log.entries)
    # A later checkpoint, without a seal and with one that stands behind the end.
    report = check(frozen_members_of(log), log)
    assert report.exit_code == 1, report.text()
    assert "freeze.broken" in codes(report)
    report = check(members_of(log), log)
    assert (report.exit_code, codes(report)) == (1, {"freeze.broken"}), report.text()
    # The bundle made at the end hides it; whoever kept a later checkpoint sees it.
    assert check(bundle, log).exit_code == 0
    root = making.merkle.root_of(log.leaves()[:size])
    known = sign_note(Checkpoint(ORIGIN, size, root).text(), log.log_key)
    report = check(bundle, log, known)
    assert (report.exit_code, codes(report)) == (1, {"freeze.broken"}), report.text()
    assert f"your known checkpoint has {size} entries" in report.text()


def test_a_second_freeze_changes_nothing() -> None:
    log = ended()
    log.head()
    log.freeze()
    assert "freeze.broken" in codes(check(frozen_members_of(log), log))


def test_export_made_under_the_checkpoint_of_the_end_is_behind_it() -> None:
    log = ended()
    scope = making.scope_of(log)
    members = making.content_of(log, scope)
    making.seal(log, members, scope)
    report = check(members, log)
    assert (report.exit_code, codes(report)) == (1, {"freeze.broken"}), report.text()
    assert "export.made stands behind log.freeze" in report.text()


def test_a_last_head_that_does_not_cover_the_log_is_named() -> None:
    log = honest_log()
    log.head()
    after_the_end(log)
    log.freeze()
    report = check(frozen_members_of(log), log)
    assert (report.exit_code, codes(report)) == (2, {"freeze.head"}), report.text()
    # There is one that covers it, and the bundle passes it over.
    log = with_head(honest_log())
    first = max(log.heads)
    log.end()
    older = frozen_members_of(log, change=lambda scope: replace(scope, heads=(first,), head_as_of=first))
    assert "freeze.head" in codes(check(older, log))


@pytest.mark.parametrize("what", ["lines", "proofs", "both"])
def test_a_truncated_last_head_shows_nothing(what: str) -> None:
    log = ended()
    members = frozen_members_of(log)
    file, proofs = head_names(max(log.heads))
    for name in {"lines": [file], "proofs": [proofs], "both": [file, proofs]}[what]:
        members[name] = b"".join(members[name].splitlines(keepends=True)[:-1])
    note_alone(log, members, parse_scope(members["scope.json"]))
    report = check(members, log)
    assert report.exit_code in (1, 2), report.text()
    assert codes(report) & {"head.proof", "head.unproven", "complete.event"}, report.text()


def test_without_the_export_key_nothing_changes_unseen() -> None:
    log = ended()
    members = frozen_members_of(log)
    for name in ("disclosures.jsonl", "bundle.note"):
        changed = {**members, name: b""}
        changed["MANIFEST"] = make_manifest(changed.items())
        assert check(changed, log).exit_code != 0, name
