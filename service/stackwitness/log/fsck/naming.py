"""Name a log entry for people: what kind, whose, which number."""

from emdi.envelope import parse_envelope
from emdi.errors import EmdiError
from emdi.event import parse_event

_IDS = ("flag_id", "review_id", "export_id", "kid", "stn")


def name_body(kind: int, body: bytes) -> str:
    """Return a name such as "envelope S1/0/17" or "event flag.raised S1-7 (station:S1 #7)"."""
    try:
        if kind in (1, 3):
            envelope = parse_envelope(body)
            word = "envelope" if kind == 1 else "quarantined envelope"
            return f"{word} {envelope.stn}/{envelope.ep}/{envelope.seq}"
        if kind == 2:
            event = parse_event(body)
            own = next((f" {event.data[name]}" for name in _IDS if name in event.data), "")
            return f"event {event.typ}{own} ({event.subj} #{event.sseq})"
    except EmdiError:
        return "an entry that cannot be read"
    return "the genesis"
