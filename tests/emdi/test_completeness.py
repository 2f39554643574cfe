"""A dishonest exporter who seals what he likes cannot leave out what a signed head of the log names."""

from dataclasses import replace

import pytest

from emdi.checkpoint import Checkpoint
from emdi.encoding import b64_encode
from emdi.errors import EmdiError
from emdi.event import parse_event
from emdi.head import HeadLine, parse_line
from emdi.merkle import consistency_path, root_of
from emdi.note import sign_note
from emdi.paths import prove_lines
from emdi.scope import Run, Scope
from stackwitness_client.verify import Report, verify_bundle
from stackwitness_client.verify.chains import Period
from stackwitness_client.verify.contents import HeadEvent
from stackwitness_client.verify.heads import ProvenHead
from tests.emdi import making
from tests.emdi.making import ORIGIN, STN, Log, honest_log, members_of, remanifest, zip_of

HOUR_MS = 3_600_000
PART_OF_THE_TIME = (making.START_MS + 1, making.START_MS + HOUR_MS)


def check(members: dict[str, bytes], log: Log, **given: object) -> Report:
    return verify_bundle(zip_of(members), log.policy, **given)  # type: ignore[arg-type]


def codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings}


def leave_out(*idxs: int) -> Report:
    log = honest_log()
    return check(members_of(log, without=frozenset(idxs)), log)


LAST_ENVELOPE = len(honest_log().entries) - 1


def test_the_last_envelope_left_out_and_sealed_is_incomplete() -> None:
    report = leave_out(LAST_ENVELOPE)
    assert report.exit_code == 2, report.text()
    assert codes(report) == {"complete.after"}
    assert report.findings[0].envelope == (STN, 1, 0)


def test_all_envelopes_left_out_is_said_to_rest_on_the_exporter_where_they_may_be_of_another_time() -> None:
    log = honest_log()
    envelopes = frozenset(idx for idx, entry in enumerate(log.entries) if entry[4] == 1)
    report = check(members_of(log, without=envelopes), log)
    assert (report.exit_code, codes(report)) == (2, {"complete.absent"}), report.text()
    assert f"every envelope of {STN} is missing, up to epoch 1, seq 1" in report.text()
    log = honest_log()
    log.period_ms = PART_OF_THE_TIME
    report = check(members_of(log, without=envelopes), log)
    assert report.exit_code == 0, report.text()
    assert "that none of its envelopes belongs to the period is the exporter's statement" in report.text()


def test_the_first_envelope_left_out_is_incomplete() -> None:
    log = honest_log()
    first = next(idx for idx, entry in enumerate(log.entries) if entry[4] == 1)
    report = check(members_of(log, without=frozenset({first})), log)
    assert (report.exit_code, codes(report)) == (2, {"complete.before"}), report.text()


def test_a_flag_at_the_end_of_the_chain_left_out_is_incomplete() -> None:
    log = honest_log()
    log.flag()
    report = check(members_of(log, without=frozenset({len(log.entries) - 1})), log)
    assert (report.exit_code, codes(report)) == (2, {"complete.event"}), report.text()
    assert f"event station:{STN} {len(log.events) - 1} is missing" in report.text()


def test_an_officers_grant_left_out_is_incomplete() -> None:
    log = honest_log()
    idx = list(making.OFFICERS).index("inspector-1") + 1
    report = check(members_of(log, without=frozenset({idx})), log)
    assert (report.exit_code, codes(report)) == (2, {"complete.event", "officer.unknown"}), report.text()
    assert "event account:inspector-1 0 is missing" in report.text()


@pytest.mark.parametrize(
    ("typ", "act"), [("limit.change", "ghost"), ("review.decision", "ghost"), ("epoch.ack", "ghost")]
)
def test_an_act_of_somebody_whom_the_log_never_let_in_is_a_forgery(typ: str, act: str) -> None:
    log = honest_log()
    data = (
        {"review_id": f"{STN}-6", "flag_id": f"{STN}-3", "decision": "dismissed"}
        if typ == "review.decision"
        else {}
    )
    idx = log.event(typ, data, act)
    if data:
        row = making.bundle.reviews_csv_row(idx, f"{STN}-6", f"{STN}-3", "dismissed", act)
        log.rows["reviews"].append(row)
    report = check(members_of(log), log)
    assert (report.exit_code, codes(report)) == (1, {"officer.unknown"}), report.text()
    assert [(one.idx, str(one.verdict)) for one in report.findings] == [(idx, "unfounded")]
    assert f"grants '{act}' access" in report.text()


def test_a_head_that_hides_the_last_envelope_is_false() -> None:
    log = honest_log()
    as_of = len(log.entries)
    honest = log.head_lines(as_of)
    older = parse_event(log.entries[as_of - 1][13:]) if log.entries[as_of - 1][4] == 2 else None
    assert older is None
    log.head_lines = lambda size: [  # type: ignore[method-assign]
        line for line in honest if not line.startswith("station ")
    ]
    report = check(members_of(log), log)
    assert report.exit_code == 1, report.text()
    assert "head.false" in codes(report)
    assert any(finding.envelope == (STN, 1, 1) for finding in report.findings)


@pytest.mark.parametrize("name", ["heads/18", "heads/18.proof"])
def test_lines_and_proofs_of_a_head_are_bound(name: str) -> None:
    log = honest_log()
    members = members_of(log)
    lines = members[name].splitlines(keepends=True)
    for spoilt in (b"".join(lines[:-1]), members[name].replace(b"1", b"2", 1), b"x\n"):
        changed = {**members, name: spoilt}
        remanifest(changed)
        assert check(changed, log).exit_code in (1, 2), (name, spoilt)


def test_a_head_nobody_declared_is_refused() -> None:
    log = honest_log()
    members = {**members_of(log), "heads/3": b"", "heads/3.proof": b""}
    remanifest(members)
    assert "head.undeclared" in codes(check(members, log))


def late(log: Log, ep: int, seq: int, at_ms: int) -> None:
    place = {"ep": ep, "seq": seq, "seq_last": seq, "envelopes": 1}
    log.event("late.arrival", {**place, "from_ms": at_ms, "to_ms": at_ms})


def test_an_envelope_that_came_late_must_be_there() -> None:
    log = honest_log()
    late(log, 5, 5, making.START_MS - 5 * HOUR_MS)
    assert check(members_of(log), log).exit_code == 0
    late(log, 5, 5, making.START_MS + 1)
    report = check(members_of(log), log)
    assert (report.exit_code, codes(report)) == (2, {"complete.late"}), report.text()
    # This one is there, and no run had judged its time: it did not come late.
    late(log, 0, 2, making.START_MS)
    assert codes(check(members_of(log), log)) == {"complete.late", "late.invented"}


def test_absence_is_shown_by_two_neighbours() -> None:
    lines = [f"station s{number} 0 {number} {'0' * 64}" for number in range(9)]
    proven = prove_lines(lines, [("station", "s3"), ("station", "s45"), ("station", "a"), ("station", "z")])
    assert [index for _, index, _ in proven] == [0, 3, 4, 5, 8]
    head = ProvenHead(
        HeadEvent(0, 0, 9, 9, bytes(32)), [(index, line, parse_line(line)) for line, index, _ in proven]
    )
    assert head.find("station", "s3") == HeadLine("station", "s3", 0, 3, bytes(32))
    assert [head.find("station", name) for name in ("s45", "a", "z")] == [None, None, None]
    for name in ("s1", "s2", "s7"):
        with pytest.raises(EmdiError, match=r"head\.unproven"):
            head.find("station", name)


def test_period_by_reading_by_receipt_and_by_index() -> None:
    log = honest_log()
    log.head()
    scope: Scope = making.scope_of(log)
    period = Period(scope)
    start, end = scope.from_ms, scope.to_ms
    assert period.holds(1, end, start, start)
    assert period.holds(1, start, end, end)
    assert not period.holds(1, end, end, end)
    assert not period.holds(1, end, start - 2, start - 1)
    part = Period(replace(scope, entries=(5, 9)))
    assert [part.holds(idx, start, start, start) for idx in (4, 5, 8, 9)] == [False, True, True, False]


def old_checkpoint(log: Log, size: int, *, honest: bool = True) -> bytes:
    root = root_of(log.leaves()[:size]) if honest else bytes(32)
    return sign_note(Checkpoint(ORIGIN, size, root).text(), log.log_key)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 13, 15])
def test_any_older_checkpoint_is_proven_from_the_paths_of_a_whole_log(size: int) -> None:
    log = honest_log()
    members = members_of(log)
    report = check(members, log, known_checkpoint=old_checkpoint(log, size))
    assert report.exit_code == 0
    assert "is a prefix of this one: proven" in report.text()
    report = check(members, log, known_checkpoint=old_checkpoint(log, size, honest=False))
    assert (report.exit_code, codes(report)) == (1, {"known.fork"})


def test_a_checkpoint_between_the_exported_entries_needs_a_proof_from_elsewhere() -> None:
    log = honest_log()
    log.period_ms = PART_OF_THE_TIME
    whole = members_of(log)
    hidden = frozenset(idx for idx, entry in enumerate(log.entries) if entry[4] == 1)
    members = members_of(log, without=hidden)
    assert whole["checkpoint"] == members["checkpoint"]
    size = 9
    known = old_checkpoint(log, size)
    said = check(members, log, known_checkpoint=known)
    assert (said.exit_code, "NOT CHECKED" in said.text()) == (0, True)
    path = consistency_path(log.leaves(), size)
    proof = "".join(f"{b64_encode(item)}\n" for item in path)
    proven = check(members, log, known_checkpoint=known, known_proof=proof)
    assert "is a prefix of this one: proven" in proven.text()
    forged = check(members, log, known_checkpoint=old_checkpoint(log, size, honest=False), known_proof=proof)
    assert forged.exit_code == 1
    newer = sign_note(Checkpoint(ORIGIN, 99, bytes(32)).text(), log.log_key)
    assert "is newer than this bundle's" in check(members, log, known_checkpoint=newer).text()


def test_runs_leave_room_for_what_does_not_belong() -> None:
    scope = making.scope_of(with_head())
    runs = (Run(0, 0, 0, 1), Run(0, 4, 0, 5))
    station = replace(scope.stations[0], runs=runs)
    assert making.format_scope(replace(scope, stations=(station,)))


def with_head() -> Log:
    log = honest_log()
    log.head()
    return log
