"""Make docs/forge.md from the registry: `python -m tests.detectors.forge_page > docs/forge.md`."""

from __future__ import annotations

from stackwitness_detectors.forge import KINDS, Forgery

HEAD = """# The forge

`stackwitness_detectors.forge` forges readings as real forgers did, to measure detectors and to run demos. It is pure:
the same arguments give the same frame. Nothing outside the interval changes; inside, only normal readings do (a forger leaves
calibrations alone; `backfill` alone fills gaps). Forged values stand on the instrument's steps and within what is
physically possible (no negative concentration, no more oxygen than in air).

![Every kind at its third level on a simulated coal unit: the truth grey, the report red](pictures/forgeries.svg)

`python bench/draw_forgeries.py` draws the picture; this page is made by `python -m tests.detectors.forge_page`, and a
test compares.

| call | gives |
|---|---|
| `forge(kind, frame, context, channel, from_ms, to_ms, strength, seed, around)` | the forged frame; `strength` is a number, a level's name, or None (the usual one) |
| `plan(kind, context, frame, strengths, durations, starts, seed, ...)` | injections for a benchmark: places apart from gaps, marks, known episodes and each other, the same for every level |
| `inject(frame, context, injection, around)` | a planned forgery, made |
| `assume_limits(context, frame, exceeded)` | the context with a limit where the data name none |
| `hidden_mass(before, after, context, from_ms, to_ms)` | per channel the share of the reported mass that is gone, kilograms where a flow in m3 is known, and the share at reference oxygen |
| `attack(...)`, `frontier(...)`, `score_by_run(...)` | the adaptive attacker, below |

`Surroundings` (`around`) holds frames of neighbours and honest intervals. What a kind lacks is a `ForgeError`:
`forge.needs`, `forge.history`, `forge.nothing` (no reading would change), `forge.room` (no place is fit), `forge.kind`,
`forge.channel`, `forge.interval`, `forge.times`, `forge.strength`, `forge.absurd`.

## The kinds

Levels are faint, mild, strong, gross; the usual one is bold. Lengths are short, medium, long; where the data are short
all three shrink alike, so that the longest takes at most two fifths of them. "A limit" is met for a channel without one
by the level that a fifth of its past readings exceed. A share in the column "strength" runs from 0 to 1.
"""
TAIL = """
Readings marked C, M, D, F or B are in no report: relabelling hides their mass. `dilution` hides mass but nothing at
reference oxygen; `o2_low` the reverse. The analyser-side kinds (`scale`, `drift`, `span_change`, `dilution`, ...) fill the last step
of the instrument evenly before they lower the value, as the true signal does; `scale_after_rounding` does not, and
leaves a comb in the digits. Forged readings end at the last place that the channel writes at their size (five digits:
2.2343, 54.741). What happens in transmission (late or changed second copies) is not in a frame: the
simulated stations do that, and the log shows it.

## The adaptive attacker

It knows the detectors, not the dates of inspections. `attack` hides at least a given share of a channel's mass in an
interval, keeps every clock hour's mean at most the limit, and searches eight parameters of a composed forgery for the
least score: how selectively high readings are lowered, noise, how much of an old stretch is mixed in (which costs the
correlation with the plant), smoothing, length of segments, share of the time at work, a slow start, the margin below
the limit. For each style the slope that hides the target is solved for, so the budget is spent on styles only: a third
at random, the rest by covariance matrix adaptation, seeded. The score is any function of a frame, larger when more
suspicious; `score_by_run` makes one of today's detectors (largest log10 e-value found from the interval's start on).
`frontier` repeats this for several targets and places and tells the hidden mass at detection probability 50 %.
An attack that cannot be made legally counts as detected.
"""


def row(forgery: Forgery) -> str:
    """Give one line of a family's table."""
    does = (forgery.change.__doc__ or "").split("\n\n")[0].strip().removesuffix(".")
    levels = ", ".join(f"**{s:g}**" if s == forgery.strength else f"{s:g}" for s in forgery.strengths)
    lengths = ", ".join(f"{h:g} h" if h < 48 else f"{h / 24:g} d" for h in forgery.durations_h)
    cells = [
        f"`{forgery.kind}`",
        " ".join(does.split()),
        f"{forgery.unit}: {levels}",
        lengths,
        ", ".join(forgery.needs) or "-",
        forgery.hides,
        forgery.case,
    ]
    return f"| {' | '.join(cells)} |"


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for family in dict.fromkeys(f.family for f in KINDS.values()):
        parts.append(
            f"\n### {family.capitalize()}\n\n| kind | what is done | strength | lengths | needs | hides | case |\n|---|---|---|---|---|---|---|\n"
        )
        parts += [row(f) + "\n" for f in KINDS.values() if f.family == family]
    return "".join([*parts, TAIL])


if __name__ == "__main__":
    print(page(), end="")
