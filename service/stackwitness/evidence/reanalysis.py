"""Judge all that stations ever sent again, many at a time: compare with the runs in the log, or say what is new.

A station's leaves are all that is needed, so the work goes to other processes or machines and the results are the
same. Runs of this version and configuration are compared one by one; where others judged, all readings are judged
anew by today's detectors and the flags of then are held against what they find.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from emdi.entry import KIND_EVENT, KIND_READING
from emdi.event import parse_event
from stackwitness.db.roles import EVERY_AGENCY
from stackwitness.db.unit import unit_of_work
from stackwitness.detection.frames import make_frame
from stackwitness.detection.queries import HOUR_S, read_leaves
from stackwitness.errors import NotFound
from stackwitness.evidence.rerun import Rerun
from stackwitness.pool import Piece, Pool, open_pool
from stackwitness.stations.queries import list_stations
from stackwitness.wiring import Wiring
from stackwitness_detectors import Finding, run

HOUR_MS = 1000 * HOUR_S
CHUNK_MS = 31 * 24 * HOUR_MS


class Reanalysis(Rerun):
    """Compare the runs of one station, and judge all its readings anew."""

    def judge_anew(self) -> list[Finding]:
        """Run today's detectors over all readings taken, from the first to the last full hour."""
        first, last = self._leaves.earliest_ms, self._leaves.latest_ms
        if first is None or last is None:
            return []
        state: bytes | None = None
        found: list[Finding] = []
        at_ms, end_ms = first // HOUR_MS * HOUR_MS, last // HOUR_MS * HOUR_MS
        while at_ms < end_ms:
            upto_ms = min(at_ms + CHUNK_MS, end_ms)
            result = run(self._context(at_ms), state, make_frame(self._leaves.series(at_ms, upto_ms)))
            state, at_ms = result.state, upto_ms
            found += result.findings
        return found

    def flagged(self) -> set[str]:
        """Name the episodes of the flags that have not lapsed."""
        return {episode for episode, told in self._standing.told.items() if not told.lapsed}


def reanalyse(stn: str, leaves: Sequence[tuple[int | None, int, bytes]]) -> dict[str, Any]:
    """Judge a station again from its leaves (idx, kind, body) in the order of the log; the account as JSON."""
    again = Reanalysis(stn)
    for idx, kind, body in leaves:
        if kind == KIND_READING:
            again.take_envelope(body)
        elif kind == KIND_EVENT:
            again.take_event(idx, parse_event(body))
    report = again.close()
    told: dict[str, Any] = {**report.to_json(), "lines": report.lines(), "anew": None}
    if any("is needed" in text or "is not among the leaves" in text for text in report.skipped):
        found = {one.episode: one.kind for one in again.judge_anew()}
        flagged = again.flagged()
        told["anew"] = {
            "found": dict(sorted(Counter(found.values()).items())),
            "new": sorted(found.keys() - flagged),
            "not_found": sorted(flagged - found.keys()),
        }
    return told


def reanalyse_all(wiring: Wiring, stns: Sequence[str], pool: Pool, at_once: int) -> Iterator[dict[str, Any]]:
    """Judge stations again, some at once; yields the accounts in the order of the stations."""
    for start in range(0, len(stns), at_once):
        group = stns[start : start + at_once]
        pieces: list[Piece] = []
        with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
            for stn in group:
                rows = [(row.idx, row.kind, bytes(row.body)) for row in read_leaves(conn, stn)]
                pieces.append((stn, reanalyse, (stn, rows)))
        done = dict(pool.do(pieces))
        yield from (done[stn] for stn in group)


def run_reanalysis(wiring: Wiring, wanted: Sequence[str], jobs: int, scheduler: str, *, as_json: bool) -> int:
    """Judge stations (all without any named) again and print what came out, and the time; 1 if something differs.

    Raises NotFound station.unknown, DetectorError pool.*.
    """
    began, cpu = time.monotonic(), time.process_time()
    with unit_of_work(wiring.engine, "sw_export", EVERY_AGENCY) as conn:
        known = [station.stn for station in list_stations(conn)]
    for stn in wanted:
        if stn not in known:
            raise NotFound("station.unknown", f"There is no station {stn}")
    ok, readings, count = True, 0, 0
    with open_pool(jobs, scheduler) as pool:
        for told in reanalyse_all(wiring, wanted or known, pool, 2 * max(jobs, 1)):
            ok, readings, count = ok and told["ok"], readings + told["readings"], count + 1
            print(json.dumps(told, ensure_ascii=False) if as_json else "\n".join(describe(told)))
    seconds = time.monotonic() - began
    told_time = (
        f"{count} stations, {readings} readings in {seconds:.1f} s ({time.process_time() - cpu:.1f} s here)"
    )
    print(told_time, file=sys.stderr if as_json else sys.stdout)
    return 0 if ok else 1


def describe(told: dict[str, Any]) -> list[str]:
    """Return the account of one station for people."""
    lines = list(told["lines"])
    if (anew := told["anew"]) is not None:
        found = ", ".join(f"{kind} {count}" for kind, count in anew["found"].items()) or "nothing"
        lines.append(f"all readings judged anew by today's detectors: {found}")
        lines += [f"new: {episode}" for episode in anew["new"]]
        lines += [f"not found any more: {episode}" for episode in anew["not_found"]]
    return lines
