"""A whole log and bundle whose service signs and logs any data it is told to: what the holder of its key can do."""

import json
from dataclasses import dataclass, field
from typing import Any

from emdi.bundle import BundleReader
from emdi.errors import EncodingError
from emdi.event import Event
from emdi.report import make_report
from stackwitness_client.verify import verify_bundle
from tests.emdi.making import honest_log, members_of, zip_of
from tests.emdi.making_log import Log


@dataclass
class Scripted(Log):
    """A log whose events of the station take their data from a script, in order, as long as it lasts."""

    script: list[Any] = field(default_factory=list)

    def make_event(self, typ: str, data: dict[str, Any], act: str = "system") -> Event:
        written = self.script[len(self.events)] if len(self.events) < len(self.script) else data
        if not isinstance(written, dict):
            raise EncodingError("json.form", "data is an object")
        try:
            return super().make_event(typ, written, act)
        except ValueError as error:  # no JSON says infinity or half a surrogate pair
            raise EncodingError("json.form", "cannot be written") from error


def script_of(log: Log) -> bytes:
    """Return the data of the station's events, in order."""
    return json.dumps([event.data for event in log.events], default=float).encode()


def read_sealed_log(data: bytes) -> None:
    """Build the honest log with these data in its events, seal its bundle, check it and report on it."""
    try:
        script = json.loads(data)
    except ValueError as error:
        raise EncodingError("json.form", "no JSON") from error
    log = honest_log(Scripted(script=script if isinstance(script, list) else []))
    members = members_of(log)
    verify_bundle(zip_of(members), log.policy)
    make_report(BundleReader(zip_of(members)))
