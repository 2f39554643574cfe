"""Heads of the log: recomputed from the entries, proved line by line, parsed strictly."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emdi.entry import KIND_EVENT, KIND_READING, parse_entry
from emdi.envelope import parse_envelope
from emdi.errors import ProofError
from emdi.event import parse_event
from emdi.head import (
    HeadsBuilder,
    format_head,
    head_root,
    line_proof,
    parse_head,
    parse_line,
    station_line,
    subject_line,
    verify_line,
)
from emdi.merkle import empty_root, leaf_hash, node_hash
from tests.emdi.making import honest_log, refused, seed

A, B = seed("a"), seed("b")
NAME = st.text("ABab019._-", min_size=1, max_size=8)
UINT = st.integers(0, 2**63 - 1)
ID = st.binary(min_size=32, max_size=32)
STATIONS = st.dictionaries(NAME, st.tuples(UINT, UINT, ID), max_size=12)
SUBJECTS = st.dictionaries(NAME.map(lambda name: f"station:{name}"), st.tuples(UINT, ID), max_size=12)


def lines_of(
    stations: dict[str, tuple[int, int, bytes]], subjects: dict[str, tuple[int, bytes]]
) -> list[str]:
    return [station_line(stn, *place) for stn, place in stations.items()] + [
        subject_line(subj, *place) for subj, place in subjects.items()
    ]


@settings(deadline=None, max_examples=60)
@given(STATIONS, SUBJECTS, st.randoms(use_true_random=False))
def test_any_order_of_lines_gives_one_file_that_parses_back(stations, subjects, random) -> None:  # type: ignore[no-untyped-def]
    lines = lines_of(stations, subjects)
    data = format_head(lines)
    random.shuffle(lines)
    assert format_head(lines) == data
    assert format_head(parse_head(data)) == data
    assert [line.encode() for line in parse_head(data)] == sorted(line.encode() for line in lines)
    for line in lines:
        kind, name, ep, seq, entry_id = parse_line(line)
        again = subject_line(name, seq, entry_id) if ep is None else station_line(name, ep, seq, entry_id)
        assert (kind, again) == (line.split(" ")[0], line)


@settings(deadline=None, max_examples=60)
@given(STATIONS, SUBJECTS)
def test_every_line_has_a_proof_and_no_other_line_has_it(stations, subjects) -> None:  # type: ignore[no-untyped-def]
    lines = lines_of(stations, subjects)
    root = head_root(lines)
    for line in lines:
        index, path = line_proof(lines, line)
        assert verify_line(line, index, len(lines), path, root) == parse_line(line)
        other = line[:-1] + ("0" if line[-1] != "0" else "1")
        with pytest.raises(ProofError):
            verify_line(other, index, len(lines), path, root)
        with pytest.raises(ProofError):
            verify_line(line, index + 1, len(lines), path, root)


def test_the_root_is_the_tree_of_rfc_6962_over_lines_without_line_feeds() -> None:
    one, two = station_line("s", 0, 7, A), subject_line("log", 3, B)
    assert head_root([]) == empty_root()
    assert head_root([one]) == leaf_hash(one.encode())
    assert head_root([two, one]) == node_hash(leaf_hash(one.encode()), leaf_hash(two.encode()))


def test_the_entries_of_a_log_give_its_heads_at_every_size() -> None:
    log = honest_log()
    builder = HeadsBuilder()
    last: dict[str, str] = {}
    for idx, data in enumerate(log.entries):
        entry = parse_entry(data)
        if entry.kind == KIND_READING:
            envelope = parse_envelope(entry.body)
            builder.take(envelope, idx)
            line = station_line(envelope.stn, envelope.ep, envelope.seq, envelope.env_id)
            last["station " + envelope.stn] = line
            assert builder.place_of(line) == idx
        elif entry.kind == KIND_EVENT:
            event = parse_event(entry.body)
            builder.take(event, idx)
            last["subject " + event.subj] = subject_line(event.subj, event.sseq, event.event_id)
        assert builder.lines() == sorted(last.values())
    assert parse_head(format_head(builder.lines())) == builder.lines()
    assert len(builder.lines()) == 5


def test_entries_out_of_order_are_refused_and_change_nothing() -> None:
    log = honest_log()
    first, second = log.envelopes[:2]
    builder = HeadsBuilder()
    builder.take(second, 5)
    before = builder.lines()
    refused("head.order", builder.take, first, 6)
    refused("head.order", builder.take, second, 6)
    refused("head.order", builder.take, log.events[0], 5)
    refused("head.missing", builder.place_of, station_line(first.stn, 0, 0, first.env_id))
    assert (builder.lines(), builder.size) == (before, 6)


GOOD = (station_line("s-1", 0, 7, A) + "\n" + subject_line("log", 0, B) + "\n").encode()
FAULTS = [
    (b"\n", "head.line"),
    (GOOD[:-1], "head.form"),
    (GOOD.replace(b"\n", b"\r\n"), "head.line"),
    (GOOD + b"\n", "head.line"),
    (b"\xef\xbb\xbf" + GOOD, "head.form"),
    (GOOD.replace(b"s-1", "s\u20101".encode()), "head.form"),
    (GOOD.replace(b"s-1", b"s 1"), "head.line"),
    (GOOD.replace(b" 7 ", b" 07 "), "head.line"),
    (GOOD.replace(b" 7 ", b" +7 "), "head.line"),
    (GOOD.replace(b" 7 ", b" -7 "), "head.line"),
    (GOOD.replace(b" 7 ", b"  7 "), "head.line"),
    (GOOD.replace(b" 7 ", b"\t7 "), "head.line"),
    (GOOD.replace(b" 7 ", b" 9223372036854775808 "), "head.line"),
    (GOOD.replace(b" 7 ", b" \xd9\xa7 "), "head.form"),
    (GOOD.replace(A.hex().encode(), A.hex().upper().encode()), "head.line"),
    (GOOD.replace(A.hex().encode(), A.hex()[2:].encode()), "head.line"),
    (GOOD.replace(b"station", b"Station"), "head.line"),
    (GOOD.replace(b"subject log", b"subject LOG"), "head.line"),
    (GOOD.replace(b"subject log", b"subject "), "head.line"),
    (GOOD.replace(b"s-1", b""), "head.line"),
    (GOOD.replace(b"s-1", b"s" * 65), "head.line"),
    (GOOD.replace(b"station s-1 0", b"station s-1"), "head.line"),
    (GOOD.replace(b"subject log", b"subject log 0"), "head.line"),
    (b"".join(reversed(GOOD.splitlines(keepends=True))), "head.order"),
    (GOOD.splitlines(keepends=True)[0] + GOOD, "head.duplicate"),
    ((station_line("s", 0, 1, A) + "\n" + station_line("s", 0, 2, A) + "\n").encode(), "head.duplicate"),
    ((subject_line("log", 1, A) + "\n" + subject_line("log", 1, B) + "\n").encode(), "head.duplicate"),
]


@pytest.mark.parametrize(("data", "code"), FAULTS)
def test_must_fail(data: bytes, code: str) -> None:
    assert len(parse_head(GOOD)) == 2
    refused(code, parse_head, data)


def test_what_the_parser_refuses_is_never_written() -> None:
    refused("head.line", format_head, [station_line("a b", 0, 0, A)])
    refused("head.line", format_head, [station_line("a", -1, 0, A)])
    refused("head.line", format_head, ["station \u4e00 0 0 " + A.hex()])
    refused("head.duplicate", format_head, [station_line("a", 0, 0, A), station_line("a", 0, 1, A)])
    refused("head.missing", line_proof, [station_line("a", 0, 0, A)], station_line("a", 0, 1, A))
