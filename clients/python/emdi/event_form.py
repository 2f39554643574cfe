"""The form of the data of events that nothing else is learnt from at once: who is let in, limits, channels, the detectors' numbers.

Whoever holds the service's key can sign such an event and say nothing in it, or nonsense. It changes nothing for anybody, and it is
named: an honest service never makes one (docs/formats.md, section 3).
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from emdi.errors import BundleError, EnvelopeError
from emdi.event import Event
from emdi.runs import RUN, parse_run
from emdi.tables import take_sha256

ROLES = frozenset({"operator", "inspector", "regulator", "auditor"})
MAX_MS = 253_402_300_800_000  # the year 10000
Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return type(value) is str and value != ""


def _number(value: Any) -> bool:
    return type(value) in (int, float, Decimal)


def _uint(value: Any) -> bool:
    return type(value) is int and value >= 0


def _ms(value: Any) -> bool:
    return _uint(value) and value < MAX_MS


def _sha(value: Any) -> bool:
    try:
        return bool(take_sha256(value))
    except BundleError:
        return False


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


_CHANNEL: dict[str, Check] = {
    **dict.fromkeys(("name", "quantity", "unit", "role"), _text),
    **dict.fromkeys(("limit", "resolution"), _or_null(_number)),
}


def _channels(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_fits(_CHANNEL, one) for one in value)


def _fits(form: dict[str, Check], value: Any) -> bool:
    return isinstance(value, dict) and all(
        name in value and check(value[name]) for name, check in form.items()
    )


def _role(value: Any) -> bool:
    return type(value) is str and value in ROLES


def _object(value: Any) -> bool:
    return isinstance(value, dict) and bool(value)


FORMS: dict[str, dict[str, Check]] = {
    "station.register": {
        "stn": _text,
        "name": _text,
    },
    "channel.set": {"stn": _text, "channels": _channels},
    "limit.change": {
        "stn": _text,
        "channel": _text,
        "old": _or_null(_number),
        "new": _or_null(_number),
        "why_sha256": _sha,
        "from_ms": _ms,
    },
    "epoch.ack": {"ep": _uint, "why_sha256": _sha},
    "detector.config": {"config_hash": _sha, "version": _text, "config": _object, "numpy": _text},
    "access.grant": {
        "account_id": _text,
        "role": _role,
        "agency": _or_null(_text),
        "display_sha256": _sha,
    },
    "access.token": {"account_id": _text, "kind": _text, "token_sha256": _sha, "expires_ms": _or_null(_ms)},
    "access.revoke": {"account_id": _text, "why_sha256": _sha},
}
SUBJECTS = {"stn": "station", "account_id": "account"}


def check_form(event: Event) -> None:
    """Check that the data of an event says what its type promises; types without a form here pass.

    Raises EnvelopeError("event.data"), RunError("run.data").
    """
    if event.typ == RUN:
        parse_run(event)
    form = FORMS.get(event.typ)
    if form is None:
        return
    for name, check in form.items():
        if name not in event.data:
            raise EnvelopeError("event.data", f"the data of {event.typ} lacks {name}")
        if not check(event.data[name]):
            raise EnvelopeError("event.data", f"{name} of {event.typ} is {str(event.data[name])[:80]!r}")
    for name, kind in SUBJECTS.items():
        if name in form and event.subj != f"{kind}:{event.data[name]}":
            raise EnvelopeError(
                "event.data", f"{name} of {event.typ} is not the one of its subject {event.subj}"
            )
    if event.typ == "detector.config" and event.subj != "detector":
        raise EnvelopeError("event.data", f"{event.typ} stands on subject {event.subj}")
