"""Replays: what repeats at one lag is one matter, however many channels and interruptions it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stackwitness_detectors.catalogue import LOOK_AT
from stackwitness_detectors.config import VERSION, Config
from stackwitness_detectors.contract import Finding
from stackwitness_detectors.episodes import Episode
from stackwitness_detectors.memory import DAY_MS, Memory
from stackwitness_detectors.plots import plain, series_of, short, span_ms, thin
from stackwitness_detectors.tail import e_value, verdict_of

RECORD = "*"  # the whole record, as a channel name
_SURE_STEPS = 24  # of two channels at once: no plant does that twice
_SURE_RECORDS = 4
_STANDS = "record_repeat"
_SAME_HOUR_MS = 30 * 60_000


@dataclass
class Match:
    """Hold a match that is going on in one channel: its replay, lag in rows, times here and there."""

    replay: str
    lag: int
    from_ms: int
    to_ms: int
    source_from_ms: int
    source_to_ms: int

    def go_on(self, at_ms: int, source_ms: int) -> None:
        """Lead it one step on."""
        self.to_ms, self.source_to_ms = at_ms, source_ms


@dataclass
class Replay:
    """Hold all that repeats at one lag: steps that were equal and stretches, per channel."""

    key: str
    lag_ms: int
    lag: int
    source_from_ms: int
    source_to_ms: int
    episode: Episode
    told: bool = False
    steps: dict[str, int] = field(default_factory=dict)
    stretches: dict[str, int] = field(default_factory=dict)
    counted_ms: dict[str, int] = field(default_factory=dict)

    @classmethod
    def begin(cls, key: str, lag_ms: int, match: Match, rate: float) -> Replay:
        """Begin with the first match of this lag."""
        episode = Episode(f"copy:{key}:{match.from_ms}", match.from_ms, match.to_ms, match.to_ms, rate)
        return cls(key, lag_ms, match.lag, match.source_from_ms, match.source_to_ms, episode)

    @classmethod
    def of(cls, tree: dict[str, Any]) -> Replay:
        """Read it back from a state tree."""
        return cls(**{**tree, "episode": Episode(**tree["episode"])})

    def take(self, name: str, match: Match, steps: int, rate: float) -> None:
        """Take in `steps` more equal steps of a channel."""
        self.steps[name] = self.steps.get(name, 0) + steps
        self.counted_ms[name] = match.to_ms
        self.source_from_ms = min(self.source_from_ms, match.source_from_ms)
        self.source_to_ms = max(self.source_to_ms, match.source_to_ms)
        episode = self.episode
        episode.from_ms, episode.seen_ms = (
            min(episode.from_ms, match.from_ms),
            max(episode.seen_ms, match.to_ms),
        )
        episode.rate = min(episode.rate, rate)

    def due(self) -> bool | None:
        """Tell whether to speak now: False for the first time, True for an extension, None to wait."""
        first = not self.told
        doubled = self.episode.grow(self.episode.seen_ms, self.episode.rate)
        if first:
            self.told, self.episode.told_ms = True, self.episode.seen_ms
            return False
        return True if doubled else None

    def channels(self, memory: Memory) -> tuple[str, ...]:
        """Name what repeats, in the order of the station's channels."""
        return memory.names if RECORD in self.steps else tuple(n for n in memory.names if n in self.steps)


def replay_key(lag_ms: int, *, stands: bool) -> str:
    """Name what belongs together: one lag; whole records that stand still are another matter than a replay."""
    return _STANDS if stands else f"{lag_ms}"


def describe_copy(memory: Memory, config: Config, replay: Replay, *, extends: bool) -> Finding:
    """Make the finding of a replay as far as it has come."""
    episode, channels = replay.episode, replay.channels(memory)
    steps = max(replay.steps.values())
    whole = RECORD in replay.steps
    kind = _STANDS if replay.key == _STANDS else "copy"
    sure = steps >= _SURE_RECORDS if whole else len(channels) > 1 and steps >= _SURE_STEPS
    text_en, text_zh = _sentences(memory, replay, channels, steps)
    return Finding(
        detector="copy",
        version=VERSION,
        family="copy",
        kind=kind,
        kinds=_ranked(memory, replay, channels),
        verdict=verdict_of(episode.rate, impossible=sure),
        from_ms=episode.from_ms,
        to_ms=episode.seen_ms,
        channels=channels,
        statistic=("steps_equal", float(steps)),
        e_value=e_value(episode.rate, config),
        numbers={
            "steps": steps,
            "stretches": max(replay.stretches.values()),
            "lag_rows": replay.lag,
            "lag_days": float(f"{replay.lag_ms / DAY_MS:.6g}"),
            "source_from_ms": replay.source_from_ms,
            "source_to_ms": replay.source_to_ms,
            "expected_per_month": float(f"{episode.rate:.4g}"),
        },
        text_en=text_en,
        text_zh=text_zh,
        innocent=("acquisition_hold", "substitute_data", "deterministic_process"),
        look_at_en=LOOK_AT[kind][0],
        look_at_zh=LOOK_AT[kind][1],
        plot=_plot(memory, config, replay),
        episode=episode.key,
        extends=extends,
    )


def _ranked(memory: Memory, replay: Replay, channels: tuple[str, ...]) -> tuple[str, ...]:
    """Tell whole records from single channels, and equal hours of the day from other ones."""
    if replay.key == _STANDS:
        return ("record_freeze", "freeze", "joint_replay", "backfill")
    if RECORD in replay.steps or (len(channels) > 1 and 2 * len(channels) >= len(memory.names)):
        return ("joint_replay", "replay_exact", "replay_shifted", "backfill")
    if (
        abs(replay.lag_ms - round(replay.lag_ms / DAY_MS) * DAY_MS) <= _SAME_HOUR_MS
        and replay.lag_ms > DAY_MS // 2
    ):
        return ("replay_exact", "bootstrap", "backfill", "replay_shifted")
    return ("replay_shifted", "bootstrap", "resampled", "replay_exact")


def _sentences(memory: Memory, replay: Replay, channels: tuple[str, ...], steps: int) -> tuple[str, str]:
    """Say it in English and Chinese."""
    count, days = len(channels), short(replay.lag_ms / DAY_MS)
    stretches = max(replay.stretches.values())
    if replay.key == _STANDS:
        return (
            f"The whole record of {count} channels came {steps + 1} times running, equal in all.",
            f"全部 {count} 个通道的整条记录连续 {steps + 1} 次完全相同。",
        )
    if RECORD in replay.steps:
        what_en, what_zh, verb = f"All {count} channels", f"全部 {count} 个通道", "repeat"
    else:
        listed = ", ".join(channels[:-1])
        what_en = f"{listed} and {channels[-1]}" if listed else channels[-1]
        what_zh, verb = "、".join(channels), "repeat" if listed else "repeats"
    parts_en = f" in {stretches} stretches" if stretches > 1 else ""
    parts_zh = f"(分 {stretches} 段)" if stretches > 1 else ""
    en = f"{what_en} {verb}, one by one, {steps} values already sent {days} days before{parts_en} (lag {replay.lag} rows)."
    zh = f"{what_zh} 的 {steps} 个数值与 {days} 天前的数值逐一相同{parts_zh}(滞后 {replay.lag} 行)。"
    return en, zh


def _shown(memory: Memory, replay: Replay) -> int:
    """Choose the channel to draw: the one that repeats most; for whole records the first pollutant."""
    if RECORD in replay.steps:
        return (memory.indices("pollutant") or [0])[0]
    return memory.names.index(max(replay.steps, key=lambda name: (replay.steps[name], name)))


def _plot(memory: Memory, config: Config, replay: Replay) -> dict[str, Any]:
    k, episode = _shown(memory, replay), replay.episode
    at_ms, span = memory.rows.view("at_ms"), span_ms(memory, episode.from_ms, episode.seen_ms)
    first, last = np.searchsorted(at_ms, [span[0], span[1] + 1])
    # The very rows that are shown of the flagged stretch, so that both lines lie on one another.
    shown = first + thin(at_ms[first:last], config.plot_points)
    chosen = shown[(at_ms[shown] >= episode.from_ms) & (at_ms[shown] <= episode.seen_ms)] - replay.lag
    chosen = chosen[chosen >= 0]
    name = memory.names[k]
    return {
        "kind": "copy",
        "title_en": f"{name} repeats earlier values",
        "title_zh": f"{name} 重复先前数值",
        "series": series_of(memory, [k], *span),
        "interval": [episode.from_ms, episode.seen_ms],
        "match": {
            "t": at_ms[chosen].tolist(),
            "v": plain(memory.rows.view("values")[chosen, k]),
            "lag_ms": replay.lag_ms,
        },
    }
