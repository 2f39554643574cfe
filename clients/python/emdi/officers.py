"""Which account held which role at which log index, learnt from the events access.grant and access.revoke.

One class for every reader of the log, so that none of them believes what another refuses.
"""

from dataclasses import dataclass, field
from typing import Any

from emdi.errors import OfficerError
from emdi.event import Event

# Who must have done what: a signed act of somebody without this role is the service's invention.
ROLE_OF_ACT = {
    "key.request": "operator",
    "key.register": "operator",
    "key.rotate": "operator",
    "key.revoke": "operator",
    "key.compromise": "operator",
    "limit.change": "operator",
    "epoch.ack": "inspector",
    "review.decision": "inspector",
}
ACCESS_EVENTS = ("access.grant", "access.revoke")
# A request that was let in just before its account ended is signed just after.
ENDING_MS = 60_000


@dataclass(slots=True)
class Officers:
    """Take the log's events in order; only signed and proven ones, since what is taken is believed."""

    _roles: dict[str, str] = field(default_factory=dict)
    _ended: dict[str, tuple[int, int]] = field(default_factory=dict)

    def take_event(self, idx: int, event: Event, recv_ms: int) -> None:
        """Learn from an event; raise OfficerError officer.unknown | officer.role | officer.revoked for one who could not act.

        `recv_ms` is the time of receipt its entry states: the later of both times counts, since whoever holds the
        service's key writes into an event what time he likes, and monitors see when an entry came.
        """
        if event.typ == "access.grant":
            account_id = event.data.get("account_id")
            if event.subj == f"account:{account_id}" and type(event.data.get("role")) is str:
                self._roles.setdefault(str(account_id), event.data["role"])
        elif event.typ == "access.revoke":
            # Who holds the service's key could date an end ahead, so that it never comes.
            self._ended.setdefault(event.subj.partition(":")[2], (idx, min(event.ts_ms, recv_ms)))
        elif (role := ROLE_OF_ACT.get(event.typ)) is not None:
            for name in _acting(event):
                self._check(name, role, event, max(event.ts_ms, recv_ms))

    def _check(self, name: str, role: str, event: Event, at_ms: int) -> None:
        held = self._roles.get(name)
        if held is None:
            raise OfficerError("officer.unknown", f"no event before this {event.typ} grants {name!r} access")
        if held != role:
            raise OfficerError("officer.role", f"{name!r} is {held}, and only {role}s do {event.typ}")
        ended = self._ended.get(name)
        if ended is not None and at_ms > ended[1] + ENDING_MS:
            raise OfficerError(
                "officer.revoked", f"the access of {name!r} ended at idx {ended[0]}, before this {event.typ}"
            )


def _acting(event: Event) -> list[str]:
    """Return who acts: whoever the event names, and behind a new key all who approved it."""
    approvals: Any = event.data.get("approvals") if event.typ == "key.register" else None
    names = [str(name) for name in approvals] if isinstance(approvals, list) else []
    return list(dict.fromkeys([*names, event.act]))
