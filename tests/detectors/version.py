"""What a version of the detectors is: its numbers and its rules. Write it down anew: `python -m tests.detectors.version`."""

import hashlib
import json
from pathlib import Path

import stackwitness_detectors
from stackwitness_detectors import CODE_VERSION, config_hash

KEPT = Path(__file__).parent / "version.json"
ROOM = Path(stackwitness_detectors.__file__).parent
JUDGES_NOTHING = ("forge", "bench")


def rules_sha256() -> str:
    """Hash the source of every module that judges, but for lines that only comment: Python versions differ in how they parse."""
    digest = hashlib.sha256()
    for path in sorted(ROOM.rglob("*.py")):
        place = path.relative_to(ROOM)
        if place.parts[0] not in JUDGES_NOTHING:
            lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
            told = "\n".join(line for line in lines if line and not line.startswith("#"))
            digest.update(f"{place.as_posix()}\n{told}\n".encode())
    return digest.hexdigest()


def present() -> dict[str, str]:
    """Return what is to be kept of this version."""
    return {"version": CODE_VERSION, "config_sha256": config_hash(), "rules_sha256": rules_sha256()}


if __name__ == "__main__":
    KEPT.write_text(json.dumps(present(), indent=1) + "\n", encoding="utf-8")
