"""Run libFuzzer on one parser: `atheris_driver.py NAME [libFuzzer options]`.

Every second mutation is libFuzzer's own, of bytes; the others keep the form of the input (`structure.py`).
"""

import random
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(include=["emdi"]):
    from tests.fuzz.parsers import run
    from tests.fuzz.structure import change_structure


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Return the next input after this one; `seed` is libFuzzer's, so a run can be repeated."""
    chance = random.Random(seed)
    if chance.random() < 0.5:
        return bytes(atheris.Mutate(data, max_size))
    try:
        changed = change_structure(data, chance)
    except Exception:  # what earlier mutations left of the form cannot be kept
        changed = data
    return changed if 0 < len(changed) <= max_size else bytes(atheris.Mutate(data, max_size))


def main() -> None:
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, lambda data: run(name, data), custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
