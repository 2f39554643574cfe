"""Step 10: texts stand in events as salted hashes; the bundle discloses what its requester may read."""

from collections import Counter

from emdi.bundle import BundleReader, parse_disclosure
from emdi.errors import BundleError
from stackwitness_client.verify.contents import Contents
from stackwitness_client.verify.report import Report, Verdict

FILE = "disclosures.jsonl"
CALLED = {"reason_sha256": "reasons", "why_sha256": "explanations", "display_sha256": "names"}


def check_texts(reader: BundleReader, contents: Contents, report: Report) -> None:
    """Hold every disclosed text against the hash that an event binds; say which are withheld."""
    step = report.step(10)
    disclosed: set[tuple[bytes, str]] = set()
    try:
        for row, line in enumerate(reader.lines(FILE) if FILE in reader.sizes else (), 1):
            disclosure = parse_disclosure(line)
            bound = contents.salted.get(disclosure.event_id)
            if bound is None:
                message = "a disclosed text belongs to an event that is not in this bundle"
                step.add(Verdict.INCOMPLETE, "disclosure.event", message, file=FILE, row=row)
                continue
            names = [salted.name for salted in bound if salted.digest == disclosure.digest]
            disclosed |= {(disclosure.event_id, name) for name in names}
            if not names:
                message = f"the disclosed text is not the one that {bound[0].called} binds"
                step.add(Verdict.TAMPERED, "disclosure.text", message, idx=bound[0].idx, file=FILE, row=row)
    except BundleError as error:
        step.add(Verdict.MALFORMED, error.code, error.message, file=FILE)
    _say_withheld(contents, disclosed, report)


def _say_withheld(contents: Contents, disclosed: set[tuple[bytes, str]], report: Report) -> None:
    withheld: Counter[str] = Counter()
    total = 0
    for event_id, bound in contents.salted.items():
        for salted in bound:
            total += 1
            withheld[salted.name] += (event_id, salted.name) not in disclosed
    parts = [f"{count} {CALLED[name]}" for name, count in sorted(withheld.items()) if count]
    if parts:
        report.note(
            f"withheld from this bundle: {', '.join(parts)}; a signed event binds each by a salted hash, so that a"
            " text shown later can be held against it"
        )
    report.step(10).finish(
        f"{total - sum(withheld.values())} texts are those bound, {sum(withheld.values())} withheld"
    )
