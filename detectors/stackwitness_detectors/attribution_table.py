"""How many of the forgeries of each kind made a test speak and put a kind first. Written by bench/learn_kinds.py."""

from __future__ import annotations

from collections.abc import Mapping

TRIALS: Mapping[str, int] = {}
COUNTS: Mapping[str, Mapping[str, int]] = {}
