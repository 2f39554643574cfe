"""Whoever holds the service's key, or a station's, and would have a flag disappear by readings that come late.

Nothing is ever taken back: the worst is a lapse, and a lapse that does not follow from late readings is named by all
who read the station's events, without its readings and without detectors.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from emdi.entry import KIND_EVENT
from emdi.envelope import ZERO_HASH
from emdi.event import Event, seal_event
from emdi.judging import Configs, Judging
from emdi.keys import LocalKey
from emdi.runs import Span
from stackwitness.evidence.rerun import rerun_leaves
from stackwitness_detectors import CODE_VERSION
from tests.emdi.making import seed

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
KEY = LocalKey.from_seed(seed("service"), "service-1")
HASH = "c" * 64


@dataclass
class Story:
    """A station's days in the order of the log: envelopes by day, runs, flags, late arrivals, lapses; what is named."""

    named: list[str] = field(default_factory=list)
    judging: Judging = field(default_factory=lambda: Judging(complete=True))
    configs: Configs = field(default_factory=lambda: Configs({"1": HASH}))
    flags: dict[str, Event] = field(default_factory=dict)
    last_run: dict[str, Any] = field(default_factory=dict)
    sseq: int = 0
    seq: int = 0

    def envelope(self, *days: float) -> None:
        """Take an envelope with readings of these days, from the first on until the last one's end."""
        span = Span((0, self.seq), int(days[0] * DAY_MS), int((days[-1] + 1) * DAY_MS) - 60_000)
        self.judging.take_envelope(span)
        self.seq += 1

    def event(self, typ: str, data: dict[str, Any], ref: tuple[str, ...] = (), stn: str = "S") -> Event:
        event = seal_event(
            KEY, typ=typ, subj=f"station:{stn}", sseq=self.sseq, sprev=ZERO_HASH, act="detection", ts_ms=0, ref=ref, data=data,
        )  # fmt: skip
        self.sseq += 1
        found = [*self.judging.take_event(event), *((event, one) for one in self.configs.take_event(event))]
        self.named += [fault.code for _, fault in found]
        return event

    def run(self, day: int, upto: int, before: str, after: str, **changes: Any) -> None:
        first, last = (
            (day, upto - 1) if self.judging.chain.last is None or day >= self.seq - 1 else (day, day)
        )
        data = {
            "config_hash": HASH, "version": "1", "from_ms": day * DAY_MS, "upto_ms": upto * DAY_MS,
            "input": {"ep_first": 0, "seq_first": first, "ep_last": 0, "seq_last": last, "count": 1},
            "state_before": before * 64, "state_after": after * 64, "findings": 0, "digest": "d" * 64,
        }  # fmt: skip
        self.last_run = {**data, **changes}
        self.event("detector.run", self.last_run)

    def flag(self, name: str, day: int, typ: str = "flag.raised") -> None:
        data = {"flag_id": name, "episode": f"e-{name}", "detector": "hold", "to_ms": (day + 1) * DAY_MS}
        self.flags.setdefault(name, self.event(typ, data))

    def late(self, seq: int, day: float, upto: int, **changes: Any) -> None:
        place = {"ep": 0, "seq": seq, "seq_last": seq, "envelopes": 1}
        self.event("late.arrival", {**place, "from_ms": int(day * DAY_MS), "to_ms": upto * DAY_MS, **changes})

    def lapse(self, name: str, day: int, **changes: Any) -> None:
        data = {"flag_id": name, "episode": f"e-{name}", "to_ms": (day + 1) * DAY_MS}
        ref = changes.pop("ref", (self.flags[name].event_id.hex(),))
        self.event("flag.lapsed", {**data, **changes}, ref)


def begin() -> Story:
    """Three days judged one by one; flag A told on day 1, B on day 2."""
    story = Story()
    story.envelope(0)
    story.envelope(1)
    story.envelope(2)
    story.envelope(3)
    story.run(0, 1, "", "1")
    story.flag("A", 1)
    story.run(1, 2, "1", "2")
    story.flag("B", 2)
    story.run(2, 3, "2", "3")
    assert story.named == []
    return story


def come_late(story: Story) -> None:
    """Readings of day 1 come late, and are named."""
    story.envelope(1.5, 1)
    story.late(4, 1.5, 3)


def honest(story: Story) -> None:
    come_late(story)
    story.flag("A", 1, "flag.extended")
    story.run(1, 2, "1", "4")
    story.lapse("B", 2)
    story.run(2, 3, "4", "5")
    story.flag("B", 2, "flag.extended")
    story.run(3, 4, "5", "6", upto_ms=3 * DAY_MS)


def lapse_of_the_first(story: Story) -> None:
    """Both lapse: A too was told by a run that ended behind the late readings."""
    come_late(story)
    story.run(1, 2, "1", "4")
    story.lapse("A", 1)
    story.lapse("B", 2)
    story.run(2, 3, "4", "5")


def back_without_late_readings(story: Story) -> None:
    story.run(1, 2, "1", "4")
    story.lapse("B", 2)
    story.run(2, 3, "4", "5")


def back_twice(story: Story) -> None:
    honest(story)
    story.run(1, 2, "1", "7")


def back_with_lax_numbers(story: Story) -> None:
    come_late(story)
    lax = {"version": "1", "config_hash": "e" * 64, "config": {}, "numpy": "2"}
    story.named += [
        fault.code for fault in story.configs.take_event(make("detector.config", lax, "detector"))
    ]
    story.run(1, 3, "1", "4", config_hash="e" * 64)


def back_with_numbers_never_signed(story: Story) -> None:
    come_late(story)
    story.lapse("A", 1)
    story.lapse("B", 2)
    story.run(1, 3, "1", "4", config_hash="e" * 64, input=input_of(1, 4))


def back_to_another_station(story: Story) -> None:
    come_late(story)
    story.run(1, 2, "9", "4")


def back_behind_the_late_readings(story: Story) -> None:
    """What came late is left aside: it goes back to where only B comes into doubt."""
    come_late(story)
    story.run(2, 3, "2", "4")


def back_to_an_overtaken_run(story: Story) -> None:
    come_late(story)
    story.flag("A", 1, "flag.extended")
    story.run(1, 2, "1", "4")
    story.lapse("B", 2)
    story.run(2, 3, "4", "5")
    story.envelope(2.5, 2)
    story.late(5, 2.5, 3)
    story.run(2, 3, "2", "6")


def anew_from_the_middle(story: Story) -> None:
    come_late(story)
    story.run(2, 3, "", "4")


def lapse_before_all_is_judged_again(story: Story) -> None:
    come_late(story)
    story.lapse("B", 2)
    story.run(1, 2, "1", "4")


def lapse_without_late_readings(story: Story) -> None:
    story.lapse("B", 2)
    story.run(3, 3, "3", "4", input=input_of(3, 3))


def lapse_of_what_the_late_readings_do_not_reach(story: Story) -> None:
    story.envelope(2.5, 2)
    story.late(4, 2.5, 3)
    story.lapse("A", 1)
    story.lapse("B", 2)
    story.run(2, 3, "2", "4", input=input_of(2, 4))


def told_shorter_without_late_readings(story: Story) -> None:
    """Not lapsed, only made small: as short as its first hour, and mild."""
    story.flag("B", 1, "flag.extended")
    story.run(3, 3, "3", "4", input=input_of(3, 3))


def told_shorter_for_late_readings(story: Story) -> None:
    come_late(story)
    story.flag("A", 1, "flag.extended")
    story.flag("B", 1, "flag.extended")
    story.run(1, 3, "1", "4", input=input_of(1, 4))


def lapse_of_what_is_found_again(story: Story) -> None:
    come_late(story)
    story.flag("A", 1, "flag.extended")
    story.flag("B", 2, "flag.extended")
    story.lapse("B", 2)
    story.run(1, 3, "1", "4", input=input_of(1, 4))


def lapse_without_a_run(story: Story) -> None:
    """Between the lapse and the run stands another event: it was put there by itself."""
    come_late(story)
    story.flag("A", 1, "flag.extended")
    story.lapse("B", 2)
    story.event("review.decision", {})
    story.run(1, 3, "1", "4", input=input_of(1, 4))


def lapse_left_out(story: Story) -> None:
    come_late(story)
    story.flag("A", 1, "flag.extended")
    story.run(1, 3, "1", "4", input=input_of(1, 4))


def lapse_said_otherwise(story: Story, **changes: Any) -> None:
    come_late(story)
    story.flag("A", 1, "flag.extended")
    story.lapse("B", 2, **changes)
    story.run(1, 3, "1", "4", input=input_of(1, 4))


def late_arrival_invented(story: Story) -> None:
    story.late(3, 0.5, 3)
    story.run(0, 3, "", "4", input=input_of(0, 2))


def late_arrival_of_longer_ago(story: Story) -> None:
    story.envelope(2.5, 2)
    story.late(4, 0, 3)
    story.flag("A", 1, "flag.extended")
    story.flag("B", 2, "flag.extended")
    story.run(0, 3, "", "4", input=input_of(0, 4))


def late_arrival_left_out(story: Story) -> None:
    story.envelope(1.5, 1)
    story.run(1, 2, "1", "4")


def input_of(first: int, last: int) -> dict[str, int]:
    return {"ep_first": 0, "seq_first": first, "ep_last": 0, "seq_last": last, "count": 1}


def make(typ: str, data: dict[str, Any], subj: str) -> Event:
    return seal_event(KEY, typ=typ, subj=subj, sseq=0, sprev=ZERO_HASH, act="detection", ts_ms=0, data=data)


ATTACKS: list[tuple[Callable[[Story], None], set[str]]] = [
    (honest, set()),
    (lapse_of_the_first, set()),
    (back_without_late_readings, {"run.back", "lapse.unfounded"}),
    (back_twice, {"run.back"}),
    (back_with_lax_numbers, {"config.second", "config.unknown", "lapse.missing"}),
    (back_with_numbers_never_signed, {"config.unknown"}),
    (back_to_another_station, {"run.hole", "run.state"}),
    (back_behind_the_late_readings, {"run.back"}),
    (back_to_an_overtaken_run, {"run.hole", "run.state"}),
    (anew_from_the_middle, {"run.anew"}),
    (lapse_before_all_is_judged_again, {"lapse.unfounded"}),
    (lapse_without_late_readings, {"lapse.unfounded"}),
    (lapse_of_what_the_late_readings_do_not_reach, {"lapse.unfounded"}),
    (told_shorter_without_late_readings, {"flag.shortened"}),
    (told_shorter_for_late_readings, set()),
    (lapse_of_what_is_found_again, {"lapse.unfounded"}),
    (lapse_without_a_run, {"lapse.place"}),
    (lapse_left_out, {"lapse.missing"}),
    (lambda story: lapse_said_otherwise(story, to_ms=0), {"lapse.unfounded"}),
    (lambda story: lapse_said_otherwise(story, episode="e-A"), {"lapse.unfounded"}),
    (lambda story: lapse_said_otherwise(story, ref=("0" * 64,)), {"lapse.unfounded"}),
    (lambda story: lapse_said_otherwise(story, flag_id="T-7"), {"lapse.unfounded", "lapse.missing"}),
    (late_arrival_invented, {"late.invented", "lapse.missing"}),
    (late_arrival_of_longer_ago, {"late.invented"}),
    (late_arrival_left_out, {"late.unlogged", "run.back"}),
]


@pytest.mark.parametrize(("attack", "names"), ATTACKS, ids=[attack.__name__ for attack, _ in ATTACKS])
def test_what_does_not_follow_is_named(attack: Callable[[Story], None], names: set[str]) -> None:
    story = begin()
    attack(story)
    assert set(story.named) == names


def test_laxer_numbers_under_this_codes_own_version_are_named_when_it_runs_again() -> None:
    lax = {"version": CODE_VERSION, "config_hash": "e" * 64, "config": {}, "numpy": "2"}
    story = begin()
    run = story.event("detector.run", {**story.last_run, "version": CODE_VERSION, "config_hash": "e" * 64})
    leaves = [(0, KIND_EVENT, make("detector.config", lax, "detector").jws), (1, KIND_EVENT, run.jws)]
    found = {one.code for one in rerun_leaves("S", leaves).differences}
    assert {"config.second", "config.unknown"} <= found
