"""Steps 1 and 2: the zip holds what MANIFEST lists, and nothing else."""

from emdi.bundle import MEMBERS, UNLISTED, BundleReader, hash_member, parse_manifest
from emdi.errors import BundleError
from emdi.layout import LOGGED
from stackwitness_client.verify.report import Report, Verdict

# Without these nothing can be said; without another the rest can still be checked.
ESSENTIAL = frozenset({"MANIFEST", "checkpoint", "entries.bin"})


def check_container(reader: BundleReader, report: Report) -> bool:
    """Check presence of members and the manifest; tell whether the rest can be looked at."""
    step = report.step(1)
    # All that names the export in the log may be absent where the log is frozen: the seal is asked about that.
    spared = frozenset() if LOGGED & reader.sizes.keys() else LOGGED
    missing = sorted(MEMBERS - spared - reader.sizes.keys())
    for name in missing:
        step.add(Verdict.INCOMPLETE, "bundle.missing", f"{name} is missing", file=name)
    step.finish(f"{len(reader.sizes)} members, {sum(reader.sizes.values())} bytes")
    if not ESSENTIAL.isdisjoint(missing):
        return False
    _check_manifest(reader, report)
    return True


def _check_manifest(reader: BundleReader, report: Report) -> None:
    step = report.step(2)
    try:
        lines = {line.name: line for line in parse_manifest(reader.read("MANIFEST"))}
    except BundleError as error:
        step.add(Verdict.MALFORMED, error.code, error.message, file="MANIFEST")
        return
    for name in sorted(lines.keys() - reader.sizes.keys()):
        if name not in MEMBERS:
            step.add(Verdict.INCOMPLETE, "manifest.missing", f"{name} is listed but missing", file=name)
    for name in sorted(reader.sizes.keys() - UNLISTED - lines.keys()):
        step.add(Verdict.TAMPERED, "manifest.undeclared", f"{name} is not listed in MANIFEST", file=name)
    for name in sorted(reader.sizes.keys() & lines.keys()):
        try:
            if hash_member(reader, name) != lines[name]:
                message = f"{name} differs from its line in MANIFEST"
                step.add(Verdict.TAMPERED, "manifest.differs", message, file=name)
        except BundleError as error:
            message = f"{name} is damaged: {error.message}"
            step.add(Verdict.TAMPERED, error.code, message, file=name)
    step.finish(f"{len(lines)} members hashed")
