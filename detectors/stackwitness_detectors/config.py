"""Every number that decides, with its unit and its reason; the hash of these numbers stands in each flag."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields, replace

VERSION = "6"
_USUAL = 0.25  # findings a station-month: the budget at which `parts_usual` was set


@dataclass(frozen=True)
class Config:
    """Set the budget (expected false findings per station-month, all tests together), its shares, the windows."""

    budget: float = 0.25
    # What the parts of all tests add up to so that `budget` is what is heard (`parts`): tests that speak of one matter are one event,
    # most are quieter than their part, and what is really odd is told at any budget. Set at the design stations (docs/detectors.md).
    parts_usual: float = 0.25
    parts_power: float = 2.0
    # Shares of the parts: only their proportions count (`spread`); 0 turns a test off. A small one for holds
    # is no gain: what is not told is learned.
    freeze_budget: float = 0.056
    near_freeze_budget: float = 0.02
    copy_budget: float = 0.001
    pieces_budget: float = 0.01
    likeness_budget: float = 0.01
    level_budget: float = 0.11
    exceedances_budget: float = 0.015
    oxygen_line_budget: float = 0.01
    visits_budget: float = 0.01
    correlation_budget: float = 0.01
    digits_budget: float = 0.01
    density_budget: float = 0.01
    availability_budget: float = 0.01
    second_opinion_budget: float = 0.005
    dynamics_budget: float = 0.02
    response_budget: float = 0.01
    comb_budget: float = 0.002
    heap_budget: float = 0.005
    ceiling_budget: float = 0.01
    equal_means_budget: float = 0.002
    marked_high_budget: float = 0.01
    lines_budget: float = 0.005
    idle_budget: float = 0.005
    pulse_budget: float = 0.02
    implied_budget: float = 0.01
    range_budget: float = 0.01
    flow_to_load_budget: float = 0.01
    saturation_budget: float = 0.002
    common_mode_budget: float = 0.01
    challenge_budget: float = 0.01
    convenient_budget: float = 0.01
    # What comparisons between stations may give, as a share of the same budget on top of what each station's own give.
    fleet_share: float = 0.2
    # Memory. 4,320 rows = 180 days of hours, 15 days of 5 minutes; more makes the state heavy for a database.
    history_rows: int = 4320
    history_hours: int = 24 * 70  # reference (56 days) + the windows being judged (14 days)
    ledger_days: int = 540  # one line a day of each channel: a year and a half calibrates the level
    history_days: int = 240  # daily statistics that calibrate the daily tests: two seasons
    # Reference of the conditional model: days 14..56 before: a fortnight of forgery does not teach it.
    reference_from_days: int = 56
    reference_lag_days: int = 14
    young_lag_days: int = 7  # while the history is too short for the full lag
    reference_min_hours: int = 240  # ten operating days: fewer do not carry some 50 quadratic terms
    refit_days: int = 7
    archive_hours: int = 1752  # a year, every fifth hour: the range of loads and seasons
    # Freezes.
    run_reference_samples: int = 240
    run_reference_hours: float = 72.0
    hold_min_samples: int = 4  # three equal steps are common on every coarse instrument
    hold_min_hours: float = 0.5  # blow-back of an analyser holds its value for minutes
    tail_keep: int = 32  # the longest reference runs that are remembered
    tail_alpha_low: float = 1.5  # Hill exponent bounds: below 1.5 no mean, above 6 nothing is believed
    tail_alpha_high: float = 6.0
    tail_alpha_prior: float = 3.0
    daily_alpha_high: float = 8.0  # daily means are nearly normal: their tails fall faster
    contrast_share: float = 0.02  # load counts as moving when its range exceeds 2 % of its highest value
    still_penalty: float = 10.0  # a hold while the load stands still must be this much rarer
    # Copies.
    step_bits: float = 6.0  # most evidence one equal step of one channel may give (dependence)
    side_channel_weight: float = 0.25  # of the further channels of a record: channels move together
    copy_min_steps: int = 6
    far_rows: int = 20_000  # of the channels one would forge: two years of hours, two weeks of minutes
    piece_step_bits: float = 12.0  # many short pieces are weighed against the own days
    record_min_steps: int = 2
    likeness_tail_nats: float = 2.0  # the same for likenesses, in nats
    piece_tail_bits: float = 3.0  # scale of the tail of a day's bits: twice that of independent steps
    # Daily tests.
    calibration_min_days: int = 10
    day_min_hours: int = 12
    week_min_hours: int = 72
    week_reference_days: int = 28  # sliding weeks overlap: four of them must stand apart
    level_least_shortfall: float = 0.025  # analysers may be out by 2.5 % of span: less tells nothing
    told_days: int = 42  # what has been told for six weeks becomes the reference
    quiet_days: int = 2  # an episode ends after this many quiet days
    # Shape of the distribution.
    density_min_values: int = 20
    # Availability.
    missing_min_hours: int = 8
    # e-value: e = kappa p^(kappa - 1) (Vovk and Wang 2021); 0.5 favours no particular strength.
    kappa: float = 0.5
    plot_points: int = 600
    # For comparison only: daily tests speak of what is higher than anything in their reference, whatever the budget.
    plain_thresholds: bool = False
    # For comparison only: off, `level` and `exceedances` judge every window by the channel's own past and add nothing up.
    pooled_laws: bool = True

    @property
    def parts(self) -> float:
        """Return what the parts of a station's tests add up to, findings a station-month, so that `budget` is what is heard."""
        return self.parts_usual * math.pow(self.budget / _USUAL, self.parts_power)

    def spread(self) -> Config:
        """Give every test its part: afterwards each `*_budget` is the findings a station-month that it alone promises.

        Spreading again changes nothing. They add up to `parts`; without any share all are 0.
        """
        shares = {f.name: float(getattr(self, f.name)) for f in fields(self) if f.name.endswith("_budget")}
        whole = sum(shares.values())
        factor = self.parts / whole if whole > 0 else 0.0
        return replace(self, **{name: share * factor for name, share in shares.items()})  # type: ignore[arg-type]


DEFAULT = Config()


def config_hash(config: Config = DEFAULT) -> str:
    """Hash the configuration and the detectors' version (SHA-256, lowercase hex)."""
    text = json.dumps({"version": VERSION, **asdict(config)}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
