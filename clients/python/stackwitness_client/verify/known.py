"""Step 3, second part: is the log that the verifier knew from earlier a prefix of this one?"""

from collections.abc import Sequence

from emdi.errors import ProofError
from emdi.merkle import leaf_hash, node_hash, split_point, verify_consistency
from stackwitness_client.verify.report import Report, Verdict
from stackwitness_client.verify.trust import Trust


class KnownPrefix:
    """Put the root of the first `known.size` leaves together from hashes that proven paths contain.

    The log's tree of N leaves holds the complete subtrees that make up the tree of the m first ones. The path
    of leaf m has them all on its left; other paths have some.
    """

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        known = trust.known
        usable = known is not None and known.origin == trust.checkpoint.origin
        self._size = known.size if known is not None and usable and known.size < trust.checkpoint.size else 0
        self._wanted: dict[tuple[int, int], bytes | None] = dict.fromkeys(_prefix(self._size))

    def take(self, idx: int, data: bytes, path: Sequence[bytes]) -> None:
        """Learn the subtrees on one proven path."""
        if not self._size or None not in self._wanted.values():
            return
        spans = []
        first, end = 0, self._trust.checkpoint.size
        while end - first > 1:
            middle = first + split_point(end - first)
            here, there = (
                ((first, middle), (middle, end)) if idx < middle else ((middle, end), (first, middle))
            )
            spans.append((here, there))
            first, end = here
        node = leaf_hash(data)
        for (here, there), sibling in zip(reversed(spans), path, strict=True):
            self._keep(here, node)
            self._keep(there, sibling)
            node = node_hash(node, sibling) if here < there else node_hash(sibling, node)

    def finish(self, report: Report) -> None:
        """Compare with the root the verifier kept, or say what would be needed."""
        known, here = self._trust.known, self._trust.checkpoint
        if known is None or known.origin != here.origin or known.size == here.size:
            return
        if not self._size:
            report.note(
                f"your known checkpoint (size {known.size}) is newer than this bundle's (size {here.size}): that this"
                " one is a prefix of it shows a proof from the log's tiles"
            )
            return
        hashes = [node for node in self._wanted.values() if node is not None]
        if len(hashes) == len(self._wanted):
            root = hashes[-1]
            for left in reversed(hashes[:-1]):
                root = node_hash(left, root)
            self._weigh(root == known.root, report)
        elif self._trust.known_path is not None:
            try:
                verify_consistency(known.size, here.size, known.root, here.root, self._trust.known_path)
                self._weigh(True, report)
            except ProofError as error:
                message = f"the proof from your known checkpoint does not hold: {error.message}"
                report.step(3).add(Verdict.TAMPERED, error.code, message)
        else:
            self._say_not_checked(report)

    def _say_not_checked(self, report: Report) -> None:
        report.note(
            f"NOT CHECKED: that your known checkpoint (size {self._size}) is a prefix of this log (size"
            f" {self._trust.checkpoint.size}): the bundle lacks the hashes. A proof (RFC 9162 2.1.4) computed from"
            " the log's or a mirror's tiles can be given with --known-proof"
        )

    def _weigh(self, holds: bool, report: Report) -> None:
        if holds:
            report.note(f"the log you knew (size {self._size}) is a prefix of this one: proven")
            return
        message = f"FORK: your known checkpoint of size {self._size} is no prefix of this log; keep both"
        report.step(3).add(Verdict.TAMPERED, "known.fork", message, file="checkpoint")

    def _keep(self, span: tuple[int, int], node: bytes) -> None:
        if span in self._wanted:
            self._wanted[span] = node


def _prefix(size: int) -> list[tuple[int, int]]:
    """Return the complete subtrees that make up the first `size` leaves, largest first."""
    spans, first = [], 0
    while first < size:
        width = 1 << ((size - first).bit_length() - 1)
        spans.append((first, first + width))
        first += width
    return spans
