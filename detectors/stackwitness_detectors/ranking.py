"""Choose whom to inspect: e-BH keeps the share of innocents among those chosen below a promise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# Of the stations chosen for a visit, at most so many are expected to be innocent.
FDR = 0.1
# An e-value is that of one test, one channel and one month, so only the last month's count.
MONTH_MS = 30 * 86_400_000
# At least as many as there are tests of a channel (`families.families_of`, `fleet.judge.make_tests`): those that are silent
# count as 0.
TESTS = 52


@dataclass(frozen=True)
class Spoken:
    """Hold what ranking needs of an open flag or a finding beside the neighbours: which test spoke of which channels, up to when, how strongly."""

    detector: str
    channels: tuple[str, ...]
    to_ms: int
    e_value: float


def evidence_of(spoken: Iterable[Spoken], channels: int, now_ms: int) -> float:
    """Average a station's e-values of the last month over all tests and the `channels` they judge.

    Of one test's flags of the same channels the strongest counts; what ended earlier says nothing of now.
    """
    best: dict[tuple[str, tuple[str, ...]], float] = {}
    for one in spoken:
        if one.to_ms > now_ms - MONTH_MS:
            place = (one.detector, one.channels)
            best[place] = max(best.get(place, 0.0), one.e_value)
    return station_e_value(list(best.values()), TESTS * max(channels, 1))


def station_e_value(family_e_values: Sequence[float], families: int) -> float:
    """Average the e-values of a station's families; a family that is silent counts as 0.

    A mean of e-values is an e-value whatever hangs together (Vovk and Wang 2021); a product is not. `families` is
    the number that could have spoken, at least as many as are given.
    """
    return float(sum(family_e_values)) / max(families, len(family_e_values), 1)


def choose_stations(e_values: Mapping[str, float], fdr: float = FDR) -> tuple[str, ...]:
    """Name the stations to inspect, strongest evidence first, so that at most `fdr` of them are expected innocent.

    e-BH (Wang and Ramdas 2022): of K stations the k with the largest e-values are chosen, k the largest number with
    k e_(k) >= K / fdr. It holds for e-values that depend on each other in any way. `e_values` holds every
    station of the fleet, 0 for a silent one; ties are broken by name.
    """
    order = sorted(e_values, key=lambda stn: (-e_values[stn], stn))
    need = len(order) / fdr
    chosen = max((k for k, stn in enumerate(order, 1) if k * e_values[stn] >= need), default=0)
    return tuple(order[:chosen])
