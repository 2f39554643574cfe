"""Recompute the daily heads from the entries, and hold the signed root and the served file against them."""

from collections.abc import Iterator

from emdi.encoding import b64u_encode
from emdi.errors import HeadError
from emdi.head import format_head, head_root, parse_head, station_line, subject_line
from emdi.shard import final_lines
from stackwitness_client.monitor.finding import Finding
from stackwitness_client.monitor.mirror import Mirror
from stackwitness_client.monitor.source import Source
from stackwitness_client.monitor.state import State

MAX_LINES_SHOWN = 5000
MAX_CHANGES = 20


def heads_at(state: State, as_of: int) -> list[str]:
    """Return the lines of the head over entries [0, as_of), sorted."""
    lines = []
    for stn, head in state.stations.items():
        row = state.db.execute(
            "SELECT ep, seq, env_id FROM envelope WHERE station_no = ? AND idx < ?"
            " ORDER BY ep DESC, seq DESC LIMIT 1",
            (head.station_no, as_of),
        ).fetchone()
        if row is not None:
            lines.append(station_line(stn, *row))
    for subj in state.subjects:
        row = state.db.execute(
            "SELECT sseq, event_id FROM event WHERE subj = ? AND idx < ? ORDER BY sseq DESC LIMIT 1",
            (subj, as_of),
        ).fetchone()
        if row is not None:
            lines.append(subject_line(subj, *row))
    return sorted(lines)


def final_head_at(state: State, size: int) -> list[str]:
    """Return the lines of the final head of a log that ended with `size` entries; stations silent in it keep theirs."""
    before = [
        station_line(stn, head.ep, head.seq, head.env_id)
        for stn, head in state.stations.items()
        if head.idx < 0
    ]
    return final_lines(heads_at(state, size), before)


def check_heads(state: State, source: Source, mirror: Mirror) -> Iterator[Finding]:
    """Yield what is wrong with the heads signed since the last turn; keep their files in the mirror.

    Raises ServerError; then the same heads are due again.
    """
    due = state.db.execute("SELECT idx, as_of, root FROM head_due ORDER BY idx").fetchall()
    for idx, as_of, root in due:
        if as_of > idx:
            says = f"entry {idx} signs the head of {as_of} entries, which did not exist yet"
            yield Finding("malformed", f"malformed:{idx}", says, (idx,), {"why": says})
        else:
            lines = heads_at(state, as_of)
            if b64u_encode(head_root(lines)) != root:
                yield _wrong(idx, as_of, lines, "the entries give another head than the one signed", [])
            yield from _check_file(idx, as_of, root, lines, source, mirror)
        with state.transaction():
            state.put("heads", True)
            state.db.execute("DELETE FROM head_due WHERE idx = ?", (idx,))


def _check_file(
    idx: int, as_of: int, root: str, lines: list[str], source: Source, mirror: Mirror
) -> Iterator[Finding]:
    path = f"heads/{as_of}"
    try:
        served = source.read(path)
    except FileNotFoundError:
        says = f"the file of the head of {as_of} entries (signed in entry {idx}) is not served"
        yield Finding("missing", f"missing:{path}", says, (), {"why": says})
        return
    try:
        found = parse_head(served)
    except HeadError as error:
        says = f"the file of the head of {as_of} entries cannot be read: {error}"
        yield Finding("missing", f"missing:{path}", says, (), {"why": says})
        return
    if b64u_encode(head_root(found)) != root:
        changes = [f"- {line}" for line in sorted(set(lines) - set(found))]
        changes += [f"+ {line}" for line in sorted(set(found) - set(lines))]
        yield _wrong(idx, as_of, found, "the file served is not the head signed", changes[:MAX_CHANGES])
        return
    mirror.put(path, format_head(found))
    mirror.sync()


def _wrong(idx: int, as_of: int, lines: list[str], why: str, changes: list[str]) -> Finding:
    says = f"head of {as_of} entries (entry {idx}): {why}" + "".join(f"; {change}" for change in changes[:3])
    seen = {"lines": lines[:MAX_LINES_SHOWN], "changes": changes, "as_of": as_of}
    return Finding("head", f"head:{idx}:{why}", says, (idx,), seen)
