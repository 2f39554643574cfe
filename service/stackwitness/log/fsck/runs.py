"""The detectors' runs of every station: one chain without holes, and the memory that the last of them left."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from emdi.errors import EmdiError
from emdi.event import parse_event
from emdi.judging import MISSING, Configs, Judging
from emdi.runs import Span
from stackwitness.log.fsck.report import Report

# What waits for the log stands behind all that is in it, in the order of the queue. The columns are those the entries
# say: that is checked elsewhere. Stations that were never judged are passed over.
_LEAVES = """
    WITH judged AS (SELECT DISTINCT subj FROM event WHERE typ IN ('detector.run', 'late.arrival'))
    SELECT v.stn, e.idx, p.qid, v.ep, v.seq, NULL::bytea AS jws,
           (extract(epoch FROM v.first_at) * 1000)::bigint AS first_ms,
           (extract(epoch FROM v.last_at) * 1000)::bigint AS last_ms
    FROM judged j JOIN envelope v ON 'station:' || v.stn = j.subj
    LEFT JOIN log_entry e ON e.kind = 1 AND e.entry_id = v.env_id
    LEFT JOIN log_pending p ON p.kind = 1 AND p.entry_id = v.env_id
    UNION ALL
    SELECT substr(w.subj, 9), e.idx, p.qid, NULL, w.sseq, w.jws, NULL, NULL
    FROM event w
    LEFT JOIN log_entry e ON e.kind = 2 AND e.entry_id = w.event_id
    LEFT JOIN log_pending p ON p.kind = 2 AND p.entry_id = w.event_id
    WHERE w.typ IN ('detector.run', 'late.arrival', 'flag.raised', 'flag.extended', 'flag.lapsed')
    AND w.subj LIKE 'station:%'
    ORDER BY 1, 2 NULLS LAST, 3, 5
"""


def check_runs(conn: sa.Connection, report: Report) -> None:
    """Name each hole between runs, each run that is ahead of its readings or over other envelopes, or goes back without
    cause, each late reading that no event names or that never came, each lapse that nothing led to, each
    configuration beside the one of its version, and each memory that no run left.
    """
    chains: dict[str, Judging] = {}
    configs = _take_configs(conn, report)
    rows = conn.execute(sa.text(_LEAVES).execution_options(yield_per=10_000))
    for stn, leaves in groupby(rows, attrgetter("stn")):
        chains[str(stn)] = _follow(str(stn), leaves, configs, report)
    _check_memories(conn, chains, report)
    _check_kept(conn, chains, report)


def _take_configs(conn: sa.Connection, report: Report) -> Configs:
    """Take the numbers that were signed, in the order of their subject: each run stands behind its own."""
    configs = Configs()
    rows = conn.execute(sa.text("SELECT jws FROM event WHERE subj = 'detector' ORDER BY sseq"))
    for row in rows:
        with suppress(EmdiError):
            event = parse_event(bytes(row.jws))
            for fault in configs.take_event(event):
                report.tamper(
                    fault.code, "event", f"{event.subj} #{event.sseq} {event.typ}", fault.text, None
                )
    return configs


def _follow(stn: str, leaves: Iterator[sa.Row[Any]], configs: Configs, report: Report) -> Judging:
    chain = Judging(complete=True)
    for row in leaves:
        if row.jws is None:
            chain.take_envelope(Span((row.ep, row.seq), row.first_ms, row.last_ms))
            continue
        try:
            event = parse_event(bytes(row.jws))
        except EmdiError:  # named where the entries are checked
            continue
        for about, fault in [*chain.take_event(event), *((event, one) for one in configs.take_event(event))]:
            note = report.miss if fault.code in MISSING else report.tamper
            note(fault.code, "event", f"{about.subj} #{about.sseq} {about.typ}", fault.text, row.idx)
    return chain


def _check_kept(conn: sa.Connection, chains: dict[str, Judging], report: Report) -> None:
    query = (
        "SELECT stn, (extract(epoch FROM upto) * 1000)::bigint AS upto_ms, state FROM detection_kept"
        " ORDER BY stn, upto"
    )
    for row in conn.execute(sa.text(query).execution_options(yield_per=10)):
        chain = chains.get(row.stn)
        if chain is None or not chain.chain.ended(row.upto_ms, _content_hash(bytes(row.state))):
            text = f"the memory kept of {row.upto_ms} ms is not what a run in force left there"
            report.tamper("detection_kept.edited", "detection_kept", row.stn, text)


def _check_memories(conn: sa.Connection, chains: dict[str, Judging], report: Report) -> None:
    query = (
        "SELECT stn, (extract(epoch FROM upto) * 1000)::bigint AS upto_ms, state, state_hash,"
        " (extract(epoch FROM late_from) * 1000)::bigint AS late_ms, former"
        " FROM detection_state ORDER BY stn"
    )
    for row in conn.execute(sa.text(query).execution_options(yield_per=10)):
        if row.stn in chains:
            _check_waiting(row, chains[row.stn], report)
        run = chains[row.stn].chain.last if row.stn in chains else None
        if run is None:
            text = "the detectors' memory stands for no run in the log"
            report.tamper("detection_state.unvouched", "detection_state", row.stn, text)
        elif run.upto_ms != row.upto_ms:
            text = f"judged up to {row.upto_ms} ms, but the last run in the log ended at {run.upto_ms} ms"
            report.tamper("detection_state.edited", "detection_state", row.stn, text)
        elif {bytes(row.state_hash).hex(), _content_hash(bytes(row.state))} != {run.state_after}:
            text = "the detectors' memory is not the one that the last run in the log left"
            report.tamper("detection_state.edited", "detection_state", row.stn, text)


def _check_waiting(row: sa.Row[Any], judging: Judging, report: Report) -> None:
    """What came late and waits is what the log says waits: else it is never judged, or judged without cause."""
    late_ms, former_ms = judging.chain.late_ms, judging.lapses.standing.former_ms
    if row.late_ms != late_ms:
        text = f"late readings wait from {row.late_ms} ms on, the log says from {late_ms} ms on"
        report.tamper("detection_state.edited", "detection_state", row.stn, text)
    if former_ms is not None and row.former is None:
        text = (
            f"judging had come to {former_ms} ms before it went back, which is forgotten: no flag would lapse"
        )
        report.tamper("detection_state.edited", "detection_state", row.stn, text)


def _content_hash(state: bytes) -> str:
    # Loads numpy, which nothing else here needs.
    from stackwitness_detectors import DetectorError, state_hash

    try:
        return state_hash(state)
    except DetectorError:
        return ""
