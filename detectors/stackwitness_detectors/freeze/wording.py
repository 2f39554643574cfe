"""What is said of holds: the sentence and the numbers speak of the longest hold of the series."""

from __future__ import annotations

import math

import numpy as np

from stackwitness_detectors.catalogue import LOOK_AT
from stackwitness_detectors.config import VERSION, Config
from stackwitness_detectors.contract import Finding, Values
from stackwitness_detectors.episodes import Episode
from stackwitness_detectors.freeze.runs import Reference, Run, Series
from stackwitness_detectors.memory import HOUR_MS, Memory
from stackwitness_detectors.plots import series_of, short, span_ms
from stackwitness_detectors.tail import e_value, verdict_of

_SURE_SAMPLES = 24  # fewer equal samples are never called impossible
_BRIEF_HOURS = 6.0

Numbers = dict[str, float | int | str]


def describe_holds(
    memory: Memory,
    config: Config,
    k: int,
    reference: Reference,
    episode: Episode,
    series: Series,
    extends: bool,
) -> Finding:
    """Make the finding of channel `k`; its interval is that of the whole series."""
    channel, run = memory.channels[k], series.longest
    loads = memory.indices("load")[:1]
    moving = run.load_moves(config.contrast_share)
    floor = reference.at_floor(run.value)
    numbers = _numbers(memory, k, reference, episode, series)
    first, last = span_ms(memory, episode.from_ms, episode.seen_ms)
    text_en, text_zh = _sentences(memory, k, numbers)
    return Finding(
        detector="hold",
        version=VERSION,
        family="freeze",
        kind="hold",
        kinds=_kinds(memory, k, run),
        verdict=verdict_of(episode.rate, impossible=moving and not floor and run.count >= _SURE_SAMPLES),
        from_ms=episode.from_ms,
        to_ms=episode.seen_ms,
        channels=(channel.name,),
        statistic=("samples_equal", float(run.count)),
        e_value=e_value(episode.rate, config),
        numbers=numbers,
        text_en=text_en,
        text_zh=text_zh,
        innocent=innocent_causes(channel.role, float(numbers["hours"]), moving, floor),
        look_at_en=LOOK_AT["hold"][0],
        look_at_zh=LOOK_AT["hold"][1],
        plot={
            "kind": "hold",
            "title_en": f"{channel.name} held at {short(run.value)} {channel.unit}",
            "title_zh": f"{channel.name} 保持在 {short(run.value)} {channel.unit}",
            "series": series_of(memory, [k, *loads], first, last),
            "interval": [episode.from_ms, episode.seen_ms],
        },
        episode=episode.key,
        extends=extends,
    )


def _kinds(memory: Memory, k: int, run: Run) -> tuple[str, ...]:
    """Rank the freeze of whole records first when every other channel that usually moves stands still as well."""
    at_ms = memory.rows.view("at_ms")
    first, last = np.searchsorted(at_ms, [run.from_ms, run.to_ms + 1])
    values = memory.rows.view("values")
    now, before = values[first:last], values[max(0, first - 4 * max(last - first, 6)) : first]
    others = [j for j in range(values.shape[1]) if j != k]
    moved = [j for j in others if _moves(before[:, j])]
    still = [j for j in moved if not _moves(now[:, j])]
    if moved and len(still) == len(moved):
        return ("record_freeze", "freeze", "near_freeze")
    return ("freeze", "near_freeze", "manual_jitter", "rounded")


def _moves(values: Values) -> bool:
    known = values[np.isfinite(values)]
    return bool(known.size and known.max() > known.min())


def _numbers(memory: Memory, k: int, reference: Reference, episode: Episode, series: Series) -> Numbers:
    run = series.longest
    step_hours = run.step_ms / HOUR_MS
    numbers: Numbers = {
        "value": run.value,
        "samples": run.count,
        "hours": round((run.to_ms - run.from_ms) / HOUR_MS + step_hours, 3),
        "hold_from_ms": run.from_ms,
        "hold_to_ms": run.to_ms,
        "longest_reference_hours": round(reference.longest_count(run.value) * step_hours, 3),
        "reference_hours": round(reference.hours, 1),
        "expected_per_month": float(f"{episode.rate:.4g}"),
        "at_floor": int(reference.at_floor(run.value)),
        "holds": series.number,
    }
    if math.isfinite(run.load_high):
        numbers |= {"load_low": run.load_low, "load_high": run.load_high}
    companions = _companions(memory, k, run)
    if companions is not None:
        numbers["companions_moving"] = companions
    return numbers


def _sentences(memory: Memory, k: int, numbers: Numbers) -> tuple[str, str]:
    """Say it in English and Chinese."""
    channel = memory.channels[k]
    value, hours, longest, known = (
        short(float(numbers[n])) for n in ("value", "hours", "longest_reference_hours", "reference_hours")
    )
    moved_en = moved_zh = others_en = others_zh = ""
    if "load_low" in numbers:
        load = memory.channels[memory.indices("load")[0]]
        low, high = short(float(numbers["load_low"])), short(float(numbers["load_high"]))
        moved_en, moved_zh = (
            f" while load ran {low}-{high} {load.unit}",
            f",同期负荷为 {low}–{high} {load.unit}",
        )
    others = int(numbers["holds"]) - 1
    if others:
        plural = "" if others == 1 else "s"
        others_en = f" {others} other hold{plural}, each less than a week from the next, belong{'s' * (others == 1)} to the same series."
        others_zh = f"同一系列中另有 {others} 次保持,彼此相隔不到一周。"
    en = (
        f"{channel.name} stayed at {value} {channel.unit} for {hours} h{moved_en}; "
        f"the longest such hold in {known} hours of reference was {longest} h.{others_en}"
    )
    zh = (
        f"{channel.name} 连续 {hours} 小时停在 {value} {channel.unit}{moved_zh};"
        f"此前 {known} 小时的正常数据中,最长的同类保持为 {longest} 小时。{others_zh}"
    )
    return en, zh


def _companions(memory: Memory, k: int, run: Run) -> int | None:
    """Count the other measured channels that moved meanwhile; None when these rows are forgotten."""
    at_ms = memory.rows.view("at_ms")
    first, last = np.searchsorted(at_ms, [run.from_ms, run.to_ms + 1])
    if int(at_ms[0]) > run.from_ms:
        return None
    measured = memory.indices("pollutant", "diluent", "flow", "temperature", "pressure", "moisture")
    columns = [memory.rows.view("values")[first:last, j] for j in measured if j != k]
    known = [column[np.isfinite(column)] for column in columns]
    return sum(1 for column in known if column.size and column.max() > column.min())


def innocent_causes(role: str, hours: float, moving: bool, floor: bool) -> tuple[str, ...]:
    """Rank the innocent causes of a hold: a flow is substituted (40 CFR 75.33) more often than it is held."""
    causes = ["substitute_data", "analyser_hold"] if role == "flow" else ["analyser_hold", "substitute_data"]
    if hours < _BRIEF_HOURS:
        causes.insert(1, "acquisition_hold")
    if floor:
        causes.insert(0, "detection_floor")
    if not moving:
        causes.append("steady_operation")
    return tuple(dict.fromkeys([*causes, "acquisition_hold"]))
