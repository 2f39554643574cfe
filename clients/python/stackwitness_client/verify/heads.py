"""The lines of a head of the log that a bundle holds, each proven against the signed event head.daily."""

import itertools

from emdi.bundle import BundleReader, parse_proof
from emdi.errors import HeadError
from emdi.head import HeadLine, parse_head, verify_line
from emdi.layout import head_names
from stackwitness_client.verify.contents import HeadEvent


class ProvenHead:
    """The lines of one head that the bundle holds, each proven; and what the lines show to be absent."""

    def __init__(self, event: HeadEvent, lines: list[tuple[int, str, HeadLine]]) -> None:
        self.event = event
        self._lines = lines
        self._by_name = {line[:2]: line for _, _, line in lines}

    def find(self, kind: str, name: str) -> HeadLine | None:
        """Return a line; None when its absence is proven. Raises HeadError("head.unproven")."""
        if (kind, name) in self._by_name:
            return self._by_name[kind, name]
        lead = f"{kind} {name} "
        before = max((item[:2] for item in self._lines if item[1] < lead), default=(-1, ""))
        after = min((item[:2] for item in self._lines if item[1] > lead), default=(self.event.lines, ""))
        if before[0] + 1 != after[0]:
            raise HeadError(
                "head.unproven", f"the head at size {self.event.as_of} lacks the line of {kind} {name}"
            )
        return None


def prove_head(reader: BundleReader, event: HeadEvent) -> ProvenHead:
    """Read and prove the lines; raise EmdiError for any that the event does not commit to."""
    file, proofs = head_names(event.as_of)
    lines = parse_head(reader.read(file))
    paths = [parse_proof(line) for line in reader.lines(proofs)]
    if len(paths) != len(lines):
        raise HeadError("head.proof", "a line has no proof, or a proof no line")
    proven = [
        (index, line, verify_line(line, index, event.lines, path, event.root))
        for line, (index, path) in zip(lines, paths, strict=True)
    ]
    if any(one[0] >= two[0] for one, two in itertools.pairwise(proven)):
        raise HeadError("head.order", "the lines' indexes do not ascend")
    return ProvenHead(event, proven)
