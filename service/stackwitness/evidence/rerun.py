"""Run the detectors again over the leaves of the log, and compare every run and every flag they led to.

Whoever has the leaves of a station has all that a finding was made of: channels and limits from its events,
readings from its envelopes, period and order from the runs. Found by name from `stackwitness-verify
--rerun-detectors`, which must not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from emdi.bundle import BundleReader, iter_entries
from emdi.columns import Columns
from emdi.encoding import dump_json, load_json
from emdi.entry import KIND_EVENT, KIND_READING, parse_entry
from emdi.envelope import Envelope, parse_columns
from emdi.errors import BundleError, EmdiError
from emdi.event import Event, parse_event
from emdi.judging import CONFIG, Configs
from emdi.runs import LATE, RUN, Fault, Run, RunChain, Span, parse_run
from emdi.standing import CONTINUITY, FLAGS, LAPSED, Standing, Told, check_lapses
from stackwitness.detection.domain import Judgement
from stackwitness.detection.frames import make_frame
from stackwitness.detection.keeping import Kept
from stackwitness.detection.queries import find_judgement, read_leaves
from stackwitness.detection.runs import digest_of, input_of
from stackwitness.evidence.differences import Difference, RerunReport
from stackwitness.evidence.leaves import Leaves
from stackwitness.evidence.numbers import rebuild_config
from stackwitness.evidence.unjudged import compare_notes
from stackwitness.flags.domain import Provenance
from stackwitness.flags.flow import claims_of, plot_text
from stackwitness_detectors import (
    CODE_VERSION,
    ChannelInfo,
    Config,
    Context,
    DetectorError,
    Finding,
    Note,
    config_hash,
    run,
    state_hash,
)

STATE_MEMBER = "detector-state/{stn}.bin"
Leaf = tuple[int | None, Event]


class Rerun:
    """Take one station's leaves in the order of the log; at each run, judge again and compare.

    Without a `state` the first run that begins anew is the first one compared; with one, the first run that
    begins with it.
    """

    def __init__(self, stn: str, state: bytes | None = None) -> None:
        self.report = RerunReport(stn)
        self._wanted = "" if state is None else state_hash(state)
        self._state = self._given = state
        self._kept = Kept()
        self._started = False
        self._diverged = False
        self._ended = False
        self._before = 0
        self._ends: int | None = None
        self._chain = RunChain(complete=False)
        self._epochs = 0
        self._leaves = Leaves()
        self._channels: dict[str, ChannelInfo] = {}
        self._limits: list[tuple[int, str, float | None]] = []
        self._configs: dict[str, Config] = {config_hash(): Config()}
        # This code's own numbers are known, whatever the log gives its version.
        self._numbers = Configs({CODE_VERSION: config_hash()})
        self._standing = Standing()
        self._told: list[Leaf] = []
        self._notes: tuple[Note, ...] = ()

    def state_for(self, following: Run) -> bytes | None:
        """Return the memory that a run would begin with after those compared so far; None when it is not known."""
        if not following.state_before or not self._step(following) or self._state is None:
            return None
        return self._state if state_hash(self._state) == following.state_before else None

    def take_config(self, event: Event, idx: int | None = None) -> None:
        """Take a detector.config event: the numbers that decided, rebuilt and held against their hash."""
        self._note(idx, self._numbers.take_event(event))
        config = rebuild_config(event.data)
        if config is not None:
            self._configs[config_hash(config)] = config

    def take_envelope(self, jws: bytes) -> None:
        """Take an accepted envelope; raises EmdiError when it cannot be read."""
        envelope, columns = parse_columns(jws)
        if envelope.stn == self.report.stn:
            self.take_readings(envelope, columns)

    def take_readings(self, envelope: Envelope, columns: Columns) -> None:
        """Take an accepted envelope of the station, already parsed."""
        span = Span((envelope.ep, envelope.seq), min(columns.at_ms), max(columns.at_ms))
        if not self._leaves.count:
            self._chain.complete = self._wanted == "" and envelope.seq == 0 and not self._epochs
        self._chain.take_envelope(span)
        self._leaves.take(span, columns)

    def take_event(self, idx: int | None, event: Event) -> None:
        """Take an event of the station's subject; one that says nothing is a difference."""
        try:
            self._take_event(idx, event)
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            self._differ("event.data", idx, f"{event.typ} cannot be read: {error!r}")

    def _take_event(self, idx: int | None, event: Event) -> None:
        if event.typ == CONFIG:
            self.take_config(event, idx)
        if event.subj != f"station:{self.report.stn}":
            return
        self._note(idx, self._chain.take_event(event))
        if event.typ in ("station.register", "channel.set"):
            self._learn_channels(event)
        elif event.typ == "epoch.open":
            self._epochs += 1
        elif event.typ == "limit.change":
            data = event.data
            self._limits.append((data["from_ms"], data["channel"], _float(data["new"])))
        elif event.typ == LATE:
            self._standing.take(event)
        elif event.typ == LAPSED or (event.typ in FLAGS and event.data.get("detector") != CONTINUITY):
            self._told.append((idx, event))
        elif event.typ == RUN:
            self._compare(idx, event)

    def compare_notes(self, kept: Judgement | None) -> None:
        """Hold what is said to be beyond judging against the last run, where that was compared."""
        compare_notes(self.report, kept, self._notes, None if self._ended else self._ends)

    def close(self) -> RerunReport:
        """Say what was not run again and return the account."""
        if self._before:
            text = f"{self._before} runs before the first whose memory is known"
            self.report.skipped.append(text)
        if self._told:
            idx, event = self._told[0]
            text = f"{len(self._told)} flags stand behind the last run, first {event.data.get('flag_id')}"
            self._differ("flag.without_run", idx, text)
        if self._standing.late_ms is not None:
            text = f"late readings, from {self._standing.late_ms} on: no run has gone back to them yet"
            self.report.skipped.append(text)
        end = self._leaves.latest_ms
        if self._chain.last is None and self._leaves.count:
            self.report.skipped.append("there is no run at all: nothing of this station was judged")
        elif self._chain.last is not None and not self._ended and end is not None:
            hours = (end - self._chain.last.upto_ms) / 3_600_000
            if hours >= 1:
                self.report.skipped.append(
                    f"the last {hours:.0f} hours of readings: no run has judged them yet"
                )
        return self.report

    def _compare(self, idx: int | None, event: Event) -> None:
        told, self._told = self._told, []
        try:
            given = parse_run(event)
        except EmdiError:  # the chain of runs has said so
            return
        if given.version == CODE_VERSION:
            self._note(idx, self._numbers.take_event(event))
        self._standing.begin(given.from_ms)
        if not self._begin(given):
            self._before += 1
        elif not self._fits(idx, given):
            self._ended = True
        else:
            told = self._run_again(idx, given, told)
        lapses = [(at, one) for at, one in told if one.typ == LAPSED]
        for _, one in told:
            if one.typ != LAPSED:
                self._standing.take(one)
        self._compare_lapses(idx, event.sseq, given, lapses)
        self._standing.end(given)

    def _begin(self, given: Run) -> bool:
        """Tell whether this run, or one before it, is where comparing begins."""
        if not self._started and given.state_before == self._wanted:
            self._started = True
        if self._ended and self._given is not None and given.state_before == self._wanted:
            # A later run goes back to the memory given.
            self._ended, self._state, self._ends = False, self._given, None
        return self._started

    def _fits(self, idx: int | None, given: Run) -> bool:
        """Tell whether this run can be run again here: right code, right configuration, all its envelopes."""
        why = ""
        if self._ended:
            return False
        if given.version != CODE_VERSION:
            why = f"version {given.version} of the detectors is needed, this is {CODE_VERSION}"
        elif given.config_hash not in self._configs:
            why = f"configuration {given.config_hash[:16]} is not among the leaves given"
        elif not self._chain.complete and not self._leaves.holds(given.first, given.last):
            why = f"envelopes {given.first} to {given.last} of the run are not all among the leaves given"
        elif not self._step(given):
            why = "it goes back to a memory from before the first run that was compared"
        if why:
            where = "" if idx is None else f" (idx {idx})"
            self.report.skipped.append(f"the run up to {given.upto_ms}{where} and those behind it: {why}")
        return not why

    def _step(self, given: Run) -> bool:
        """Take up the memory a run begins with, where it is not that of the run before; False when it is not kept."""
        if not given.state_before:
            self._state = None
        elif self._ends is not None and given.from_ms < self._ends:
            kept = self._kept.find(given.from_ms, given.state_before)
            if kept is None:
                return False
            self._state = kept
        return True

    def _run_again(self, idx: int | None, given: Run, told: list[Leaf]) -> list[Leaf]:
        """Judge again what a run judged and compare; returns the events that are still to be taken."""
        before = "" if self._state is None else state_hash(self._state)
        series = self._leaves.series(given.from_ms, given.upto_ms)
        count = sum(len(one.at_ms) for one in series)
        config = self._configs[given.config_hash]
        context = self._context(given.from_ms)
        try:
            result = run(context, self._state, make_frame(series), config)
        except DetectorError as error:
            self._differ("run.failed", idx, f"{error.code}: {error}")
            self._ended = True
            return told
        self._state, self._ends, self._notes = result.state, given.upto_ms, result.notes
        self.report.runs += 1
        self.report.readings += count
        covering = self._leaves.covering(given.from_ms, given.upto_ms)
        if covering is not None and input_of(*covering, count) != input_of(
            given.first, given.last, given.count
        ):
            text = f"its input was {given.first} to {given.last}, {given.count} readings; the log has {covering}, {count}"
            self._differ("run.input", idx, text)
        digest = digest_of(result.findings)
        if (digest, len(result.findings)) != (given.digest, given.findings):
            text = f"the run up to {given.upto_ms} told of {given.findings} findings; run again: {len(result.findings)}"
            self._differ("run.digest", idx, f"{text}, or others")
        after = state_hash(result.state)
        if not self._diverged and (before, after) != (given.state_before, given.state_after):
            self._diverged = True
            self._differ(
                "run.memory", idx, f"the memory after the run up to {given.upto_ms} comes out otherwise"
            )
        self._kept.keep(given.from_ms, given.upto_ms, result.state, after)
        self._compare_flags(idx, given, result.findings, [one for one in told if one[1].typ != LAPSED])
        return [one for one in told if one[1].typ == LAPSED]

    def _compare_lapses(self, idx: int | None, run_sseq: int, given: Run, told: list[Leaf]) -> None:
        places = {event.event_id: at for at, event in told}
        for about, fault in check_lapses(self._standing, given, run_sseq, [event for _, event in told]):
            self._differ(fault.code, idx if about is None else places[about.event_id], fault.text)
        for _, event in told:
            self._standing.take(event)

    def _compare_flags(
        self, idx: int | None, given: Run, findings: tuple[Finding, ...], told: list[Leaf]
    ) -> None:
        waiting = {(event.data.get("episode"), event.data.get("to_ms")): (at, event) for at, event in told}
        for finding in findings:
            known = self._standing.told.get(finding.episode)
            if known is not None and not known.open and int(finding.to_ms) <= known.to_ms:
                continue
            found = waiting.pop((finding.episode, int(finding.to_ms)), None)
            if found is None:
                text = f"{finding.kind} of {', '.join(finding.channels)} {finding.from_ms}..{finding.to_ms} ({finding.episode})"
                self._differ("flag.missing", idx, f"the detectors find it, the log has no flag: {text}")
                continue
            self._compare_flag(*found, finding, known, given)
            self._standing.take(found[1])
        for at, event in waiting.values():
            text = f"{event.data.get('flag_id')} ({event.data.get('episode')})"
            self._differ("flag.surplus", at, f"the log has a flag that the detectors do not find: {text}")
            self._standing.take(event)

    def _compare_flag(
        self, at: int | None, event: Event, finding: Finding, known: Told | None, given: Run
    ) -> None:
        source = self._leaves.source(int(finding.from_ms), int(finding.to_ms))
        provenance = Provenance(self.report.stn, *source, given.state_before, given.config_hash)
        flag_id = known.flag_id if known else f"{self.report.stn}-{event.sseq}"
        claims = claims_of(flag_id, finding, provenance, plot_text(finding.plot))
        wanted: dict[str, Any] = load_json(dump_json(claims))
        if int(finding.from_ms) < (self._leaves.earliest_ms or 0):
            wanted["input"] = event.data.get("input")  # it began before the first envelope given
        differing = [
            name
            for name in sorted(wanted.keys() | event.data.keys())
            if wanted.get(name) != event.data.get(name)
        ]
        if (event.typ == "flag.extended") != (known is not None):
            differing.append("typ")
        if known is not None and event.ref != (known.event_id.hex(),):
            differing.append("ref")
        if differing:
            text = f"flag {event.data.get('flag_id')} says otherwise than the detectors in: {', '.join(differing)}"
            self._differ("flag.edited", at, text)
        self.report.flags += 1

    def _learn_channels(self, event: Event) -> None:
        for item in event.data.get("channels", ()):
            words = (item["name"], item["quantity"], item["unit"], item["role"])
            info = ChannelInfo(*words, _float(item.get("limit")), _float(item.get("resolution")))
            self._channels.setdefault(info.name, info)

    def _context(self, at_ms: int) -> Context:
        limits = {name: limit for from_ms, name, limit in self._limits if from_ms <= at_ms}
        return Context(
            self.report.stn,
            tuple(replace(one, limit=limits.get(one.name, one.limit)) for one in self._channels.values()),
        )

    def _note(self, idx: int | None, faults: Iterable[Fault]) -> None:
        for fault in faults:
            self._differ(fault.code, idx, fault.text)

    def _differ(self, code: str, idx: int | None, text: str) -> None:
        self.report.differences.append(Difference(code, idx, text))


def rerun_leaves(
    stn: str, leaves: Iterable[tuple[int | None, int, bytes]], state: bytes | None = None
) -> RerunReport:
    """Run the detectors again over the leaves of one station: (index, kind, body) in the order of the log.

    Other stations' leaves and other kinds are passed over; raises EmdiError for a leaf that cannot be read.
    """
    return _take_all(Rerun(stn, state), leaves).close()


def _take_all(again: Rerun, leaves: Iterable[tuple[int | None, int, bytes]]) -> Rerun:
    for idx, kind, body in leaves:
        if kind == KIND_READING:
            again.take_envelope(body)
        elif kind == KIND_EVENT:
            again.take_event(idx, parse_event(body))
    return again


def rerun_bundle(reader: BundleReader, stns: Iterable[str]) -> list[RerunReport]:
    """Run the detectors again over the entries of an export bundle (already verified), station by station.

    A member detector-state/<station>.bin gives the memory at the bundle's beginning: a content whose hash a run
    names. Raises EmdiError.
    """
    reruns = {}
    for stn in stns:
        name = STATE_MEMBER.format(stn=stn)
        try:
            reruns[f"station:{stn}"] = Rerun(stn, reader.read(name) if name in reader.sizes else None)
        except DetectorError as error:
            raise BundleError("rerun.state", f"{name} is no memory of the detectors: {error}") from None
    with reader.stream("entries.bin") as stream:
        for idx, data in iter_entries(stream):
            entry = parse_entry(data)
            if entry.kind == KIND_EVENT:
                _hand_out(reruns, idx, parse_event(entry.body))
            elif entry.kind == KIND_READING:
                envelope, columns = parse_columns(entry.body)
                if (again := reruns.get(f"station:{envelope.stn}")) is not None:
                    again.take_readings(envelope, columns)
    return [again.close() for again in reruns.values()]


def rerun_database(conn: Connection, stns: Iterable[str]) -> Iterator[RerunReport]:
    """Run the detectors again over what the database holds of each station, in the order of the log.

    What waits for the log comes last. That the rows are the leaves is the checker's own business.
    """
    for stn in stns:
        rows = ((row.idx, row.kind, bytes(row.body)) for row in read_leaves(conn, stn))
        again = _take_all(Rerun(stn), rows)
        again.compare_notes(find_judgement(conn, stn))
        yield again.close()


def _hand_out(reruns: dict[str, Rerun], idx: int, event: Event) -> None:
    if event.subj in reruns:
        reruns[event.subj].take_event(idx, event)
    elif event.typ == CONFIG:
        for again in reruns.values():
            again.take_config(event, idx)


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
