"""One matter, one decision: findings of one station that tell of the same stretch of the same channel.

A forgery makes several tests speak. Two findings touch when they share a channel and lie within a day of each other,
or are of one kind and overlap; a matter is all that hangs together by touching. So the matters do not depend on the
order in which findings arrive: a later finding joins the matters it touches, or opens one. Free of numpy, so that
whoever only shows flags stays small.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NEAR_MS = 86_400_000  # daily tests cut at midnight, so two tests of one forgery may be a day apart
SURE = 1e4  # an e-value of once in a hundred million months
VERDICTS = ("cannot be", "very unlikely", "unusual")


@dataclass(frozen=True)
class Member:
    """Hold what grouping needs of a finding; `order` is its place in the log or in the run, `key` names it."""

    key: str
    stn: str
    kind: str
    verdict: str
    from_ms: int
    to_ms: int
    channels: tuple[str, ...]
    e_value: float
    order: int

    @property
    def strength(self) -> tuple[int, float, int, float, int]:
        """Order members, strongest first: worst verdict, then highest e-value, then the longer, the earlier one.

        Beyond SURE more is no more sure: the finding that covers most speaks for the matter.
        """
        rank = VERDICTS.index(self.verdict) if self.verdict in VERDICTS else len(VERDICTS)
        return rank, -min(self.e_value, SURE), self.from_ms - self.to_ms, -self.e_value, self.order


@dataclass(frozen=True)
class Matter:
    """Hold findings that belong together, strongest first; the first speaks for all."""

    members: tuple[Member, ...]

    @property
    def lead(self) -> Member:
        """Return the strongest finding."""
        return self.members[0]

    @property
    def matter_id(self) -> str:
        """Return the key of the finding told first: it stays while others join."""
        return min(self.members, key=lambda member: member.order).key

    @property
    def from_ms(self) -> int:
        """Return where its earliest finding begins."""
        return min(member.from_ms for member in self.members)

    @property
    def to_ms(self) -> int:
        """Return where its latest finding ends."""
        return max(member.to_ms for member in self.members)

    @property
    def channels(self) -> tuple[str, ...]:
        """Return all channels, those of the stronger findings first."""
        return tuple(dict.fromkeys(name for member in self.members for name in member.channels))


def touch(one: Member, other: Member) -> bool:
    """Tell whether two findings are about the same: a channel in common, or the same oddity at the same time."""
    if one.stn != other.stn:
        return False
    gap_ms = max(one.from_ms, other.from_ms) - min(one.to_ms, other.to_ms)
    if gap_ms <= NEAR_MS and not set(one.channels).isdisjoint(other.channels):
        return True
    return gap_ms <= 0 and one.kind == other.kind


def join(matters: Iterable[Matter], member: Member) -> tuple[Matter, ...]:
    """Take a finding into the matters it touches, making them one, or open a new one; ordered by matter_id's finding.

    A member of the same key is replaced: a finding that extends only grows, so nothing falls apart.
    """
    apart: list[Matter] = []
    together = [member]
    for matter in matters:
        others = [one for one in matter.members if one.key != member.key]
        if len(others) < len(matter.members) or any(touch(one, member) for one in others):
            together += others
        else:
            apart.append(matter)
    return _ordered([*apart, _matter(together)])


def group(members: Iterable[Member]) -> tuple[Matter, ...]:
    """Group findings into matters; the same as joining them one by one, in any order."""
    done: list[Matter] = []
    near: list[list[Member]] = []
    for member in sorted(members, key=lambda one: (one.stn, one.from_ms, one.order)):
        together, apart = [member], []
        for others in near:
            if any(touch(one, member) for one in others):
                together += others
            elif _over(others, member):
                done.append(_matter(others))
            else:
                apart.append(others)
        near = [*apart, together]
    return _ordered([*done, *(_matter(others) for others in near)])


def _over(others: list[Member], member: Member) -> bool:
    """Tell whether nothing that begins at `member` or later can touch these any more."""
    return others[0].stn != member.stn or max(one.to_ms for one in others) + NEAR_MS < member.from_ms


def _matter(members: list[Member]) -> Matter:
    return Matter(tuple(sorted(members, key=lambda member: member.strength)))


def _ordered(matters: list[Matter]) -> tuple[Matter, ...]:
    return tuple(sorted(matters, key=lambda matter: min((one.order, one.key) for one in matter.members)))
