"""Tell whether all that constraints.txt pins is installed: then a set-up without a network is complete."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def missing() -> list[str]:
    """Return the pins that are not met."""
    pins = (Path(__file__).parents[2] / "constraints.txt").read_text().splitlines()
    wrong = []
    for pin in pins:
        name, _, wanted = pin.partition("==")
        try:
            met = version(name) == wanted
        except PackageNotFoundError:
            met = False
        if wanted and not met:
            wrong.append(pin)
    return wrong


if __name__ == "__main__":
    unmet = missing()
    sys.stderr.write(f"not installed: {', '.join(unmet)}\n" if unmet else "everything is installed already\n")
    sys.exit(1 if unmet else 0)
