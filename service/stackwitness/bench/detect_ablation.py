"""What each family and each test is worth: recall and false alarms when its findings are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stackwitness_detectors.bench.judging import heard_alarms, quiet_of
from stackwitness_detectors.bench.metrics import rates
from stackwitness_detectors.bench.replay import Alarm
from stackwitness_detectors.bench.trials import Place, Trial

Told = Sequence[tuple[Trial, list[Alarm]]]


def leave_out(
    places: Mapping[str, Place], clean: Mapping[str, list[Alarm]], told: Told, budget: float
) -> dict[str, dict[str, Any]]:
    """Return per family, and per test where a family has several, the figures without it.

    The rest keeps the parts of the budget it had: `--without` measures what it would do with the whole. `only`
    is the share of forgeries that nothing else finds.
    """
    heard = [a for _, alarms in told for a in alarms] + [a for alarms in clean.values() for a in alarms]
    tests: dict[str, set[str]] = {}
    for a in heard:
        tests.setdefault(a.family, set()).add(a.detector)
    names = sorted(tests) + sorted(d for group in tests.values() if len(group) > 1 for d in group)
    whole = _recall(clean, told, "")
    table = {}
    for name in names:
        kept = {stn: _but(alarms, name) for stn, alarms in clean.items()}
        without = _recall(kept, told, name)
        quiet = rates([quiet_of(places[stn], alarms) for stn, alarms in kept.items()], budget)
        table[name] = {
            "mean_recall": _mean(without),
            "only": round(_mean(whole) - _mean(without), 6),
            "realised_rate": quiet["realised_rate"],
            "kinds_lost": {
                kind: round(whole[kind] - without[kind], 4)
                for kind in whole
                if whole[kind] - without[kind] > 0
            },
        }
    return table


def _but(alarms: Sequence[Alarm], name: str) -> list[Alarm]:
    return [a for a in alarms if name not in (a.family, a.detector)]


def _recall(clean: Mapping[str, list[Alarm]], told: Told, name: str) -> dict[str, float]:
    hits: dict[str, list[bool]] = {}
    for trial, alarms in told:
        heard = heard_alarms(trial, _but(alarms, name), clean[trial.stn])
        hits.setdefault(trial.kind, []).append(bool(heard))
    return {kind: sum(group) / len(group) for kind, group in sorted(hits.items())}


def _mean(by_kind: Mapping[str, float]) -> float:
    return round(sum(by_kind.values()) / max(len(by_kind), 1), 6)
