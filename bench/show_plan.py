"""Read the plan of `bench/show.py`; what is misspelt is refused before hours are spent on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refusal import Refusal, read_toml

from stackwitness.bench import detect
from stackwitness_client.manifest import load_manifest
from stackwitness_detectors.forge import DURATIONS, KINDS, LEVELS

_HALVES = (0.5, 0.75)
_SETTINGS: dict[str, type] = {
    "kinds": list, "split": list, "days": int, "seeds": list, "trials": int, "budgets": list,
}  # fmt: skip
_RUN = _SETTINGS | {"manifest": str, "stations": list, "brief": bool}
_ABLATION = _SETTINGS | {"part": str, "stations": list, "variants": list}
_PLAN = _SETTINGS | {"run": list, "ablation": dict}


def read_plan(path: Path) -> dict[str, Any]:
    """Read and check a plan. Raises Refusal with the key that is unknown, missing or of another kind."""
    plan = read_toml(path)
    _check(plan, _PLAN, f"{path}: the plan")
    for key in ("seeds", "budgets", "run"):
        if not plan.get(key):
            raise Refusal(f"{path}: the plan names no {key}")
    for number, part in enumerate(plan["run"], 1):
        where = f"{path}: run {number}"
        _check(part, _RUN, where)
        _need({**plan, **part}, ("manifest", "trials"), where)
    if "ablation" in plan:
        where = f"{path}: ablation"
        _check(plan["ablation"], _ABLATION, where)
        _need({**plan, **plan["ablation"]}, ("part", "stations", "trials"), where)
    names = [part["manifest"] for part in plan["run"]]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Refusal(f"{path}: named twice: {', '.join(twice)}")
    return plan


def check_manifests(plan: Mapping[str, Any], folder: Path) -> None:
    """Read all manifests of the plan. Raises ManifestError for one that is not there, Refusal for an unknown station."""
    for part in plan["run"]:
        known = {source.stn for source in load_manifest(folder / part["manifest"]).stations}
        if unknown := sorted(set(part.get("stations", ())) - known):
            raise Refusal(f"{part['manifest']} has no station {', '.join(unknown)}")


def settings_of(plan: Mapping[str, Any], part: Mapping[str, Any]) -> detect.Settings:
    """Return how one part of the plan is measured."""
    told = {**plan, **part}
    kinds, split = tuple(told.get("kinds", ())) or tuple(KINDS), tuple(told.get("split", _HALVES))
    grid = tuple(LEVELS), tuple(DURATIONS)
    return detect.Settings(
        kinds, tuple(told["seeds"]), told["trials"], split, *grid, days=told.get("days", 0)
    )


def _need(told: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    if missing := [key for key in keys if key not in told]:
        raise Refusal(f"{where} names no {', '.join(missing)}")


def _check(told: Any, known: dict[str, type], where: str) -> None:
    if not isinstance(told, dict):
        raise Refusal(f"{where} is no table")
    if unknown := sorted(told.keys() - known.keys()):
        raise Refusal(f"{where} has no {', '.join(unknown)}; it may have {', '.join(known)}")
    for key, value in told.items():
        if not isinstance(value, known[key]):
            raise Refusal(f"{where}: {key} = {value!r} is of another kind")
    if unknown := sorted(set(map(str, told.get("kinds", ()))) - set(KINDS)):
        raise Refusal(f"{where}: the forge makes no {', '.join(unknown)}")
    if len(told.get("split", _HALVES)) != 2:
        raise Refusal(f"{where}: split takes two numbers")
