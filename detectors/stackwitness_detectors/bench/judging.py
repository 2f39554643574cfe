"""Judge outcomes: what of a forged replay is a detection, given what the clean run said there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stackwitness_detectors.attribution import rank_kinds
from stackwitness_detectors.bench.budgets import count_events, hours_spoken_of
from stackwitness_detectors.bench.metrics import Outcome, Quiet
from stackwitness_detectors.bench.replay import Alarm, days_of
from stackwitness_detectors.bench.splits import HOURS_PER_MONTH, hours_between
from stackwitness_detectors.bench.trials import Place, Trial, changed_rows, hidden_share, make
from stackwitness_detectors.bench.vus import vus_pr
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Frame, Note, Values
from stackwitness_detectors.forge import KINDS, hidden_mass
from stackwitness_detectors.memory import DAY_MS, HOUR_MS

GRACE_MS = DAY_MS  # a daily test speaks when the day after the interval begins


def replay_trial(
    place: Place, trial: Trial, state: bytes | None, config: Config
) -> tuple[list[Alarm], Frame]:
    """Replay from the day of the forgery's start (state before it) to its end and the grace.

    Returns the alarms that overlap, and the forged readings. The dates of visits that a forger respects are known.
    """
    forged = make(place, trial)
    context = replace(place.context, visits=trial.made.honest_ms)
    from_ms = trial.from_ms // DAY_MS * DAY_MS
    # One more day: a day is judged when the next one begins.
    to_ms = min(trial.to_ms + GRACE_MS + DAY_MS, place.split.end_ms)
    days = days_of(context, forged, state, from_ms, to_ms, config)
    alarms = [a for day in days for a in day.alarms if a.to_ms >= trial.from_ms and overlaps(a, trial)]
    return alarms, forged


def overlaps(alarm: Alarm, trial: Trial) -> bool:
    """Tell whether what an alarm speaks of meets the forged interval or the grace after it."""
    return alarm.from_ms < trial.to_ms + GRACE_MS and alarm.to_ms >= trial.from_ms


def heard_alarms(trial: Trial, forged: Sequence[Alarm], clean: Sequence[Alarm]) -> list[Alarm]:
    """Return the alarms of a forged replay by detectors that were silent there on the clean data, earliest first."""
    loud = {a.detector for a in clean if overlaps(a, trial)}
    heard = [a for a in forged if a.detector not in loud and overlaps(a, trial)]
    return sorted(heard, key=lambda a: (a.at_ms, -a.e_value))


def was_stated(place: Place, trial: Trial, forged: Frame, notes: Sequence[Note]) -> bool | None:
    """Tell whether the station's notes before a lowering said that one of this size and length would be found there.

    None where nothing is lowered as a level is: `below` speaks of lasting shifts.
    """
    if KINDS[trial.kind].family != "level":
        return None
    hidden = hidden_mass(place.frame, forged, place.context, trial.from_ms, trial.to_ms)[
        trial.channel
    ].percent
    days = (trial.to_ms - trial.from_ms) / DAY_MS
    told = [dict(note.numbers) for note in notes if note.code == "below" and note.channel == trial.channel]
    return any(hidden >= least["percent"] and days >= least["days"] for least in told)


def outcome_of(
    place: Place, trial: Trial, forged: Frame, heard: Sequence[Alarm], stated: bool | None = None
) -> Outcome:
    """Return delay and hidden mass of the earliest alarm heard, the kinds as all heard alarms together rank them.

    Without one the whole forgery stays hidden. `stated` is what `was_stated` said.
    """
    of = (trial.made.level, trial.made.duration, trial.seed, stated)
    if not heard:
        return Outcome(trial.stn, trial.kind, None, hidden_share(place, trial, forged, trial.to_ms), (), *of)
    delay_h = max(heard[0].at_ms - trial.from_ms, 0) / HOUR_MS
    hidden = hidden_share(place, trial, forged, heard[0].at_ms)
    return Outcome(trial.stn, trial.kind, delay_h, hidden, rank_kinds(heard), *of)


def quiet_of(place: Place, clean: Sequence[Alarm]) -> Quiet:
    """Count the events of the clean test part (findings given there, merged within 24 h) and the time they speak of."""
    return quiet_from(place, [(a.from_ms, a.to_ms) for a in clean if place.split.tests(a.at_ms)])


def quiet_from(place: Place, intervals: Sequence[tuple[int, int]]) -> Quiet:
    """Count the intervals (from_ms, to_ms) given in a clean test part: events, and months spoken of."""
    hours = hours_between(place.hours, place.split.test_ms, place.split.end_ms)
    return Quiet(
        place.context.stn,
        count_events(intervals),
        len(hours) / HOURS_PER_MONTH,
        hours_spoken_of(hours, intervals) / HOURS_PER_MONTH,
    )


def hourly_scores(place: Place, alarms: Sequence[Alarm]) -> Values:
    """Return per hour of the test part the highest log e-value of what speaks of it, 0 where nothing does."""
    split = place.split
    first, last = split.test_ms // HOUR_MS, split.end_ms // HOUR_MS + 1
    scores = np.zeros(last - first)
    for a in alarms:
        part = slice(max(a.from_ms // HOUR_MS - first, 0), max(a.to_ms // HOUR_MS - first + 1, 0))
        scores[part] = np.maximum(scores[part], np.log1p(a.e_value))
    return scores


def trial_vus(
    place: Place, trial: Trial, forged: Frame, clean: Sequence[Alarm], told: Sequence[Alarm]
) -> float:
    """Return VUS-PR of one trial over the hours of the test part; labelled are the hours really changed.

    Outside the replayed days the scores are those of the clean run.
    """
    split = place.split
    first = split.test_ms // HOUR_MS
    scores = hourly_scores(place, clean)
    replayed = slice(max(trial.from_ms // HOUR_MS - first, 0), (trial.to_ms + GRACE_MS) // HOUR_MS - first)
    scores[replayed] = hourly_scores(place, told)[replayed]
    labels = np.zeros(len(scores), np.bool_)
    changed = place.frame.at_ms[changed_rows(place.frame, forged)] // HOUR_MS - first
    labels[changed[(changed >= 0) & (changed < len(labels))]] = True
    return vus_pr(labels, scores)
