"""The kinds of forgery, by family, with the real case each copies (sources: docs/forge.md)."""

from __future__ import annotations

from stackwitness_detectors.forge import copies, invented, levels, marks, physics
from stackwitness_detectors.forge.registry import Forgery

_SHARE = "share of the interval that is forged"
_SHARES = (0.25, 0.5, 0.75, 1.0)
_LOWER = "share taken away"
_BELOW = "share below the past median"
_AIR = "share of air in the sample"
_HELD_H, _DAYS_H, _WEEKS_H = (12.0, 48.0, 168.0), (24.0, 48.0, 168.0), (168.0, 336.0, 720.0)
_MONTHS_H = (720.0, 2160.0, 4320.0)

_FREEZE = (
    Forgery("freeze", "freeze", copies.freeze, _SHARE, _SHARES, "gross", _HELD_H, "course", "changed", (),
            "Debao: constants sent through an industrial PC"),
    Forgery("near_freeze", "freeze", copies.near_freeze, "noise, as a share of the value",
            (0.02, 0.01, 0.003, 0.001), "strong", _DAYS_H, "course", "stillness", (),
            "Laibin, Shenyang: far too quiet for months"),
    Forgery("manual_jitter", "freeze", copies.manual_jitter, _BELOW, (0.1, 0.2, 0.4, 0.6), "mild", _DAYS_H,
            "mass", "hidden", (), "MANUAL_MODE of a transmitter: a set value, its last digit stirred"),
    Forgery("record_freeze", "freeze", copies.record_freeze, _SHARE, _SHARES, "gross", _HELD_H, "course",
            "changed", (), "simulated-data software that hangs: every channel stands still"),
)  # fmt: skip
_COPY = (
    Forgery("replay_exact", "copy", copies.replay_exact, _SHARE, _SHARES, "gross", _DAYS_H, "course",
            "changed", ("earlier days",), "simulated-data software: a stored week again and again"),
    Forgery("replay_disguised", "copy", copies.replay_disguised,
            "noise, as a share of the value; lowered by five times that", (0.01, 0.02, 0.04, 0.06), "mild",
            _DAYS_H, "course", "hidden", ("earlier days",), "the same with noise and a factor on top"),
    Forgery("replay_shifted", "copy", copies.replay_shifted, _SHARE, _SHARES, "gross", _DAYS_H, "course",
            "changed", ("earlier days",), "an old stretch sent hours off, so that equal hours do not meet"),
    Forgery("joint_replay", "copy", copies.joint_replay, _SHARE, _SHARES, "gross", _DAYS_H, "course",
            "changed", ("earlier days",), "two sets of books: old records, load and all"),
    Forgery("borrowed_stack", "copy", copies.borrowed_stack, _SHARE, _SHARES, "gross", _DAYS_H, "course",
            "changed", ("neighbour",), "the probe put into, or the data taken from, another stack"),
    Forgery("neighbour_copied", "copy", copies.neighbour_copied, _SHARE, _SHARES, "gross", _DAYS_H, "course",
            "changed", ("neighbour",), "Guangzhou: two posts equal in every row of a public file"),
    Forgery("backfill", "copy", marks.backfill, "hours a day filled in, beside every gap",
            (1.0, 3.0, 6.0, 12.0), "strong", _WEEKS_H, "course", "changed", (),
            "outages filled in afterwards and marked normal"),
)  # fmt: skip
_SHAPE = (
    Forgery("clip", "shape", levels.clip, "share of the limit kept below it", (0.005, 0.01, 0.03, 0.08),
            "mild", _WEEKS_H, "mass", "hidden", ("a limit",),
            "clamp at the limit (China, 20 typical cases of 2022-2023)"),
    Forgery("bunch", "shape", levels.bunch, "share above the limit that is moved below",
            (0.05, 0.1, 0.15, 0.3), "strong", _WEEKS_H, "mass", "hidden", ("a limit",),
            "Gujarat audits: reports just below the standard (QJE 2013)"),
    Forgery("averaging_game", "shape", levels.averaging_game, "share of the limit the day's mean ends below",
            (0.005, 0.01, 0.03, 0.08), "mild", _WEEKS_H, "mass", "hidden", ("a limit",),
            "the rest of the day bent so that the regulated mean just complies"),
    Forgery("typed_digits", "shape", marks.typed_digits, "share of the readings typed", _SHARES, "gross",
            _WEEKS_H, "course", "changed", (), "hand-typed records; last-digit tests of Dumas and Devine"),
    Forgery("rounded", "shape", marks.rounded, "steps of the instrument rounded to", (2.0, 5.0, 10.0, 20.0),
            "strong", _WEEKS_H, "course", "distance", (), "values read off a display and typed in"),
)  # fmt: skip
_LEVEL = (
    Forgery("scale", "level", levels.scale, _LOWER, (0.05, 0.1, 0.2, 0.3), "gross", _WEEKS_H, "mass",
            "hidden", (), "Yeosu 2015-2019: 4,253 records, 33.6 % lower; slope 1.0 to 0.6"),
    Forgery("scale_after_rounding", "level", levels.scale_after_rounding, _LOWER, (0.05, 0.1, 0.2, 0.3),
            "strong", _WEEKS_H, "mass", "hidden", (), "a factor in the logger, after the analyser's output"),
    Forgery("limit_aware_scale", "level", levels.limit_aware_scale, _LOWER + " above the limit",
            (0.05, 0.1, 0.15, 0.3), "strong", _WEEKS_H, "mass", "hidden", ("a limit",),
            "software that lowers only what would exceed"),
    Forgery("altered_records", "level", levels.altered_records, _LOWER + " of half the records",
            (0.1, 0.2, 0.336, 0.5), "strong", _WEEKS_H, "mass", "hidden", (),
            "Yeosu 2015-2019: 4,253 records altered, x0.66 on average"),
    Forgery("offset", "level", levels.offset, "share of the limit subtracted", (0.02, 0.05, 0.1, 0.2), "mild",
            _WEEKS_H, "mass", "hidden", ("a limit",), "an analyser's zero moved up, left so"),
    Forgery("offset_audited", "level", levels.offset_audited, "share of the limit subtracted",
            (0.02, 0.05, 0.1, 0.2), "mild", _MONTHS_H, "mass", "hidden", ("a limit", "audits"),
            "Berkshire Power 2008-2011: lowered by about 0.5 ppm, undone for each audit"),
    Forgery("inspection_honest", "level", levels.inspection_honest, _LOWER + " between visits",
            (0.05, 0.1, 0.2, 0.3), "strong", _WEEKS_H, "mass", "hidden", ("audits",),
            "honest while somebody watches (Berkshire Power: behaviour changed round audits)"),
    Forgery("drift", "level", levels.drift, _LOWER + " at the end", (0.05, 0.1, 0.2, 0.4), "strong",
            _WEEKS_H, "mass", "hidden", (), "parameters turned a little every few days"),
    Forgery("span_change", "level", levels.span_change, "share by which the range is set too small",
            (0.05, 0.1, 0.2, 0.4), "strong", _WEEKS_H, "mass", "hidden", (),
            "range and slope parameters changed (China, 2,658 firms in 2015)"),
)  # fmt: skip
_DYNAMICS = (
    Forgery("smoothed", "dynamics", copies.smoothed, "hours of the moving mean", (3.0, 6.0, 12.0, 24.0),
            "strong", _WEEKS_H, "course", "distance", (), "averages sent instead of readings"),
    Forgery("generated", "dynamics", invented.generated, _SHARE, _SHARES, "gross", _DAYS_H, "course",
            "changed", (), "Yeosu: 8,843 records issued without measuring, by a good statistician"),
    Forgery("bootstrap", "dynamics", invented.bootstrap, _SHARE, _SHARES, "gross", _DAYS_H, "course",
            "changed", ("history",), "past pieces strung together anew"),
    Forgery("resampled", "dynamics", invented.resampled, _SHARE, _SHARES, "gross", _DAYS_H, "course",
            "changed", ("history", "drivers"), "a generator trained on the plant: values fit load and weather"),
    Forgery("invented_records", "dynamics", invented.invented_records, _BELOW, (0.1, 0.2, 0.4, 0.6), "mild",
            _DAYS_H, "mass", "hidden", (), "Yeosu 2015-2019: 8,843 records issued without measuring"),
)  # fmt: skip
_AVAILABILITY = (
    Forgery("missing_when_high", "availability", marks.missing_when_high,
            "share of the limit above which readings are lost", (1.2, 1.1, 1.0, 0.9), "strong", _WEEKS_H,
            "mass", "hidden", ("a limit",), "Jersey City and 14 others: monitors rest on bad days"),
    Forgery("status_abuse", "availability", marks.status_abuse,
            "share of the limit above which readings are relabelled", (1.2, 1.1, 1.0, 0.9), "strong",
            _WEEKS_H, "mass", "hidden", ("a limit",),
            "Formosa No. 6: 25,000 readings relabelled in 11 months"),
)  # fmt: skip
_PHYSICS = (
    Forgery("calibration_gas", "physics", physics.calibration_gas, "hours a day", (1.0, 3.0, 6.0, 12.0),
            "strong", _DAYS_H, "mass", "hidden", (), "sampling pipe moved to clean gas at night"),
    Forgery("zero_air", "physics", physics.zero_air, "hours a day", (1.0, 3.0, 6.0, 12.0), "strong", _DAYS_H,
            "mass", "hidden", (), "the probe in a clean container: the true value was 16 times higher"),
    Forgery("dilution", "physics", physics.dilution, _AIR, (0.05, 0.1, 0.2, 0.4), "strong", _WEEKS_H, "mass",
            "hidden", ("oxygen",), "air let into the sample line; oxygen reported as it then is"),
    Forgery("dilution_forged_o2", "physics", physics.dilution_forged_o2, _AIR, (0.05, 0.1, 0.2, 0.4),
            "strong", _WEEKS_H, "mass", "hidden", ("oxygen",),
            "air let into the sample line; oxygen reported from before"),
    Forgery("o2_low", "physics", physics.o2_low, "percentage points of O2 taken away", (0.3, 0.7, 1.5, 3.0),
            "strong", _WEEKS_H, "corrected value", "distance", ("oxygen",),
            "Berkshire Power: false low O2, so a low value at reference oxygen"),
    Forgery("joint_scale", "physics", physics.joint_scale, _LOWER, (0.05, 0.1, 0.2, 0.3), "strong", _WEEKS_H,
            "mass", "hidden", ("load or flow",), "load, flow and pollutant lowered together"),
)  # fmt: skip

KINDS: dict[str, Forgery] = {
    forgery.kind: forgery
    for forgery in (*_FREEZE, *_COPY, *_SHAPE, *_LEVEL, *_DYNAMICS, *_AVAILABILITY, *_PHYSICS)
}
