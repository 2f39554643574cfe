"""The detectors' numbers as an event spells them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from stackwitness_detectors import Config, config_hash


def rebuild_config(data: dict[str, Any]) -> Config | None:
    """Return the configuration a detector.config event spells; None unless its hash is the one it names."""
    given = data.get("config")
    names = {one.name: type(getattr(Config(), one.name)) for one in fields(Config)}
    if not isinstance(given, dict) or given.keys() != names.keys():
        return None
    try:
        config = Config(**{name: make(given[name]) for name, make in names.items()})
    except (TypeError, ValueError):
        return None
    return config if config_hash(config) == data.get("config_hash") else None
