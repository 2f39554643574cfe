"""Choose whom to inspect: e-BH keeps the share of innocents among those chosen below a promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def station_e_value(family_e_values: Sequence[float], families: int) -> float:
    """Average the e-values of a station's families; a family that is silent counts as 0.

    A mean of e-values is an e-value whatever hangs together (Vovk and Wang 2021); a product is not. `families` is
    the number that could have spoken, at least as many as are given.
    """
    return float(sum(family_e_values)) / max(families, len(family_e_values), 1)


def choose_stations(e_values: Mapping[str, float], fdr: float = 0.1) -> tuple[str, ...]:
    """Name the stations to inspect, strongest evidence first, so that at most `fdr` of them are expected innocent.

    e-BH (Wang and Ramdas 2022): of K stations the k with the largest e-values are chosen, k the largest number with
    k e_(k) >= K / fdr. It holds for e-values that depend on each other in any way. `e_values` holds every
    station of the fleet, 0 for a silent one; ties are broken by name.
    """
    order = sorted(e_values, key=lambda stn: (-e_values[stn], stn))
    need = len(order) / fdr
    chosen = max((k for k, stn in enumerate(order, 1) if k * e_values[stn] >= need), default=0)
    return tuple(order[:chosen])
