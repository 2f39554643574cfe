"""Words for the codes of findings, readings and jobs. An unknown code is shown as it is, never hidden."""

from __future__ import annotations

from stackwitness.console.locale import Tongue
from stackwitness.console.locale import mark as _
from stackwitness.console.views import TONES

_VERDICT = {"cannot be": _("cannot be"), "very unlikely": _("very unlikely"), "unusual": _("unusual")}
_DECISION = {
    "confirmed_odd": _("Confirmed odd"),
    "needs_visit": _("Needs a visit"),
    "explained": _("Explained"),
    "dismissed": _("Dismissed"),
}
_DECISION_MEANING = {
    "confirmed_odd": _("The records cannot explain it; it goes on."),
    "needs_visit": _("Only somebody on site can tell."),
    "explained": _("A record shows an innocent cause."),
    "dismissed": _("The flag itself is mistaken."),
}
_ROLE = {
    "operator": _("operator"),
    "inspector": _("inspector"),
    "regulator": _("regulator"),
    "auditor": _("auditor"),
}
_CHANNEL_ROLE = {
    "pollutant": _("pollutant"),
    "load": _("load"),
    "diluent": _("diluent"),
    "flow": _("flow"),
    "temperature": _("temperature"),
    "pressure": _("pressure"),
    "moisture": _("moisture"),
    "ambient": _("ambient air"),
    "process": _("process"),
}
# What a finding is called, and which forgeries it may be.
_KIND = {
    "hold": _("Held value"),
    "near_hold": _("Almost held value"),
    "copy": _("Copied stretch"),
    "pieces": _("Strung-together past"),
    "likeness": _("Disguised copy"),
    "foreign": _("Another station's course"),
    "lower_than_neighbours": _("Lower than neighbours"),
    "apart_from_neighbours": _("Apart from neighbours"),
    "record_repeat": _("Repeated records"),
    "level_low": _("Level too low"),
    "exceedances_missing": _("High hours too low"),
    "oxygen_line": _("Gases off their line"),
    "honest_at_visits": _("Other level at visits"),
    "dependence_lost": _("Moves with nothing"),
    "digits": _("Odd last digits"),
    "below_limit": _("Crowding below the limit"),
    "missing_when_high": _("Missing when high"),
    "too_smooth": _("Too smooth"),
    "too_rough": _("Jumps about"),
    "response_lost": _("Steps follow nothing"),
    "comb": _("Comb in the values"),
    "ceiling": _("Piled up below a level"),
    "equal_means": _("Equal means"),
    "idle_load": _("Load says idle, stack runs"),
    "load_withheld": _("Load not sent, stack runs"),
    "marked_high": _("Marked when high"),
    "filled_line": _("Filled straight lines"),
    "pulse": _("Falls at set hours"),
    "parameter_moved": _("Parameter moved"),
    "range_changed": _("Range changed"),
    "flow_to_load": _("Flow off its load"),
    "above_saturation": _("Wetter than saturated"),
    "common_fall": _("All gases fall alike"),
    "odd_challenge": _("Odd calibration"),
    "calibrated_high": _("Calibrated when high"),
    "odd_features": _("Odd day"),
    "skipped_data": _("Admitted loss of data"),
    "freeze": _("freezing a value"),
    "near_freeze": _("near-freezing"),
    "replay_exact": _("replaying an old stretch"),
    "replay_disguised": _("replaying an old stretch in disguise"),
    "replay": _("replaying an old stretch"),
    "backfill": _("filling in afterwards"),
    "borrowed_stack": _("borrowing another stack's readings"),
    "record_freeze": _("freezing whole records"),
    "scale": _("scaling down"),
    "limit_aware_scale": _("scaling down what exceeds the limit"),
    "span_change": _("changing the span"),
    "scale_above_limit": _("scaling down what exceeds the limit"),
    "offset": _("subtracting a constant"),
    "drift": _("slow drift of a parameter"),
    "clip": _("clamping at the limit"),
    "bunch": _("moving values below the limit"),
    "typed_digits": _("typing numbers by hand"),
    "rounded": _("rounding"),
    "round": _("rounding"),
    "smoothed": _("smoothing"),
    "smooth": _("smoothing"),
    "selective_transmission": _("sending only what pleases"),
    "generated": _("generating numbers"),
    "status_abuse": _("hiding behind status marks"),
    "calibration_gas": _("measuring calibration gas"),
    "zero_air": _("measuring clean air"),
    "dilution": _("diluting the sample"),
    "manual_jitter": _("setting the output by hand"),
    "replay_shifted": _("replaying an old stretch at other hours"),
    "joint_replay": _("replaying whole old records"),
    "neighbour_copied": _("copying a neighbour"),
    "averaging_game": _("bending the rest of the day below the limit"),
    "scale_after_rounding": _("scaling down after rounding"),
    "altered_records": _("lowering single records"),
    "offset_audited": _("subtracting a constant except on audit days"),
    "inspection_honest": _("being honest on inspection days only"),
    "bootstrap": _("stringing old pieces together"),
    "resampled": _("drawing from like hours of the past"),
    "invented_records": _("inventing records"),
    "dilution_forged_o2": _("diluting the sample and forging oxygen"),
    "o2_low": _("reporting too little oxygen"),
    "joint_scale": _("scaling load and pollutant down together"),
}
_STATUS = {
    "F": _("stopped"),
    "M": _("maintenance"),
    "S": _("set by hand"),
    "D": _("fault"),
    "C": _("calibration"),
    "T": _("over range"),
    "B": _("communication fault"),
    "H": _("held"),
    "R": _("substitute data"),
    # Ours, for an hour or a day: zoom in to see which marks.
    "X": _("partly not normal"),
}
# Innocent cause -> what it is, and the record that would clear it. The codes are the detectors' catalogue.
_INNOCENT = {
    "substitute_data": (
        _("Substitute data sent without a mark"),
        _("Missing-data log; monitor availability report"),
    ),
    "analyser_hold": (
        _("The analyser or its signal was held (blow-back, calibration, sample line)"),
        _("Analyser event log; blow-back and calibration schedule"),
    ),
    "acquisition_hold": (
        _("The data logger repeated its last values or filled a gap afterwards"),
        _("Data logger event log; communication log"),
    ),
    "detection_floor": (
        _("Readings at the detection floor or in coarse steps"),
        _("Instrument certificate: detection limit and resolution"),
    ),
    "steady_operation": (
        _("The plant really ran unusually steadily"),
        _("Control-room trend of load and fuel"),
    ),
    "recalibration": (
        _("Retuning, recalibration or repair moved the level"),
        _("Calibration and maintenance record; relative accuracy test report"),
    ),
    "fuel_change": (
        _("Another fuel, reagent dose or catalyst"),
        _("Fuel and reagent receipts; coal analysis"),
    ),
    "treatment_change": (
        _("The abatement plant was changed or ran differently"),
        _("Abatement plant log (pumps, pH, ammonia)"),
    ),
    "covariate_fault": (
        _("Load, oxygen or another explaining channel was wrong"),
        _("A second source of load and oxygen"),
    ),
    "process_fault": (
        _("The machine or process itself failed, stopped or was run differently"),
        _("Operating log, alarm list, repair orders"),
    ),
    "resolution_change": (
        _("The instrument's range or output resolution was changed"),
        _("Parameter change record of analyser and logger"),
    ),
    "parameter_filed": (
        _("A parameter (area, factor, reference oxygen) was changed and filed"),
        _("Parameter change record with date and approval"),
    ),
    "droplets": (
        _("Droplets in the gas are evaporated and measured as vapour"),
        _("Demister inspection; gravimetric moisture test"),
    ),
    "gas_changed": (
        _("Another gas bottle, or a changed calibration procedure"),
        _("Gas certificate; calibration procedure and log"),
    ),
    "working_hours": (
        _("Calibrations are done in working hours, when load is high"),
        _("Duty roster; calibration plan"),
    ),
    "limit_control": (
        _("Abatement is really controlled to a set-point just below the limit"),
        _("Controller set-point history; reagent flow"),
    ),
    "load_related_fault": (
        _("The instrument fails or is serviced at high load for technical reasons"),
        _("Fault and maintenance record with times"),
    ),
    "instrument_fault": (_("An instrument fault or a leak"), _("Fault record; leak test")),
    "common_source": (
        _("Both stations really measure the same gas, or share an analyser or logger"),
        _("Drawing of ducts and sample lines; list of shared instruments"),
    ),
    "local_cause": (
        _("Something near this station only (wind, traffic, works, an outage)"),
        _("Site log; weather record; outage record"),
    ),
    "logger_replaced": (
        _("The data logger was replaced or lost its memory"),
        _("Maintenance record; serial number of the logger"),
    ),
    "communication_loss": (
        _("The connection failed for longer than the station's memory lasts"),
        _("Communication log; the provider's fault record"),
    ),
    "deterministic_process": (
        _("A start-up or set programme that really repeats"),
        _("Control programme and its log"),
    ),
}
_EXPORT_STATE = {
    "queued": _("queued"),
    "building": _("being made"),
    "done": _("ready"),
    "failed": _("failed"),
}
_FLAG_STATE = {"open": _("open"), "decided": _("decided"), "all": _("all")}
_AGGREGATE = {"none": _("every reading"), "hour": _("hourly means"), "day": _("daily means")}
LEGEND = {
    "suspect": _("flagged"),
    "reported": _("reported"),
    "context": _("context"),
    "expected": _("expected range"),
    "limit": _("limit"),
    "earlier": _("earlier stretch"),
    "gap": _("no value"),
    "odd": _("the odd readings"),
    "bar": _("counted"),
    "reference": _("expected"),
}


def _say(t: Tongue, table: dict[str, str], code: str) -> str:
    text = table.get(code)
    return t.say(text) if text else code.replace("_", " ")


def verdict(t: Tongue, code: str) -> str:
    """Name a verdict."""
    return _say(t, _VERDICT, code)


def tone(code: str) -> str:
    """Return the CSS name of a verdict."""
    return TONES.get(code, "unusual")


def decision(t: Tongue, code: str) -> str:
    """Name a decision."""
    return _say(t, _DECISION, code)


def decision_meaning(t: Tongue, code: str) -> str:
    """Say what a decision means."""
    return _say(t, _DECISION_MEANING, code)


def role(t: Tongue, code: str) -> str:
    """Name the role of an account."""
    return _say(t, _ROLE, code)


def channel_role(t: Tongue, code: str) -> str:
    """Name the role of a channel."""
    return _say(t, _CHANNEL_ROLE, code)


def kind(t: Tongue, code: str) -> str:
    """Name a kind of finding or of forgery."""
    return _say(t, _KIND, code)


def status(t: Tongue, letter: str) -> str:
    """Name a status letter (HJ 212, and H and R of ours)."""
    return _say(t, _STATUS, letter)


def innocent(t: Tongue, code: str) -> str:
    """Say an innocent cause."""
    return t.say(_INNOCENT[code][0]) if code in _INNOCENT else code.replace("_", " ")


def clearing(t: Tongue, code: str) -> str:
    """Say which record would clear an innocent cause; empty when unknown."""
    return t.say(_INNOCENT[code][1]) if code in _INNOCENT else ""


def innocent_codes() -> frozenset[str]:
    """Return the innocent causes that have words."""
    return frozenset(_INNOCENT)


def kind_codes() -> frozenset[str]:
    """Return the kinds that have words."""
    return frozenset(_KIND)


def export_state(t: Tongue, code: str) -> str:
    """Name the state of an export."""
    return _say(t, _EXPORT_STATE, code)


def flag_state(t: Tongue, code: str) -> str:
    """Name a filter of the flag list."""
    return _say(t, _FLAG_STATE, code)


def aggregate(t: Tongue, code: str) -> str:
    """Name how readings are gathered into points."""
    return _say(t, _AGGREGATE, code)


def legend(t: Tongue, code: str) -> str:
    """Name a line or mark of a picture."""
    return _say(t, LEGEND, code)
