"""Inclusion paths of many leaves of one tree, each inner hash computed once."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from emdi.merkle import leaf_hash, node_hash, split_point

MEMO_LIMIT = 100_000


class PathMaker:
    """Give inclusion paths of neighbouring leaves; `leaf(idx)` returns a leaf hash."""

    def __init__(self, leaf: Callable[[int], bytes], size: int) -> None:
        self._leaf = leaf
        self._size = size
        self._memo: dict[tuple[int, int], bytes] = {}

    def inclusion(self, idx: int) -> list[bytes]:
        """Return the inclusion path, leaf sibling first (RFC 6962 2.1.1)."""
        path: list[bytes] = []
        first, end = 0, self._size
        while end - first > 1:
            middle = first + split_point(end - first)
            if idx < middle:
                path.append(self._hash(middle, end))
                end = middle
            else:
                path.append(self._hash(first, middle))
                first = middle
        return path[::-1]

    def _hash(self, first: int, end: int) -> bytes:
        if end - first == 1:
            return self._leaf(first)
        known = self._memo.get((first, end))
        if known is None:
            middle = first + split_point(end - first)
            known = node_hash(self._hash(first, middle), self._hash(middle, end))
            if len(self._memo) >= MEMO_LIMIT:
                self._memo.clear()
            self._memo[(first, end)] = known
        return known


def prove_lines(lines: Sequence[str], names: Iterable[tuple[str, str]]) -> list[tuple[str, int, list[bytes]]]:
    """Return (line, index, inclusion path) of the lines of a head that speak of the given (kind, name).

    `lines` are all lines of the head, sorted. Where a name has no line, its two neighbours stand in for it: with
    consecutive indexes they show that nothing is between them.
    """
    chosen: set[int] = set()
    for kind, name in names:
        lead = f"{kind} {name} "
        at = bisect_left(lines, lead)
        if at < len(lines) and lines[at].startswith(lead):
            chosen.add(at)
        else:
            chosen |= {place for place in (at - 1, at) if 0 <= place < len(lines)}
    paths = PathMaker(lambda index: leaf_hash(lines[index].encode("ascii")), len(lines))
    return [(lines[index], index, paths.inclusion(index)) for index in sorted(chosen)]
