"""Simulated plants in tests: registered over HTTP, pushed with the real SDK into the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from starlette.testclient import TestClient

from emdi.keys import LocalKey
from emdi.policy import parse_policy
from stackwitness_client.http import ServerLink
from stackwitness_client.registration import register
from stackwitness_client.simulator import Cheat, ForgingPlant, Plant
from stackwitness_client.station import Station, packs
from tests.support.service import Service

DAY_MS = 86_400_000
# A Monday at midnight UTC, in the past of every test run.
START_MS = 1_767_571_200_000


class SignedIn:
    """The test client with an account's headers on every request."""

    def __init__(self, client: TestClient, headers: dict[str, str]) -> None:
        self._client, self._headers = client, headers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def stream(self, method: str, url: str, *, headers: dict[str, str], **given: Any) -> Any:
        """Send a request in the account's name, as a link asks: uncompressed."""
        own = {"accept-encoding": "identity", **self._headers}
        return self._client.stream(method, url, headers={**headers, **own}, **given)


class PushedPlant:
    """A plant and its station: `push(from_ms, to_ms)` sends what it reports."""

    def __init__(
        self, service: Service, folder: Path, stn: str, plant: Plant, cheats: tuple[Cheat, ...] = ()
    ) -> None:
        self.service, self.stn = service, stn
        self.reporting = ForgingPlant(plant, cheats)
        key = LocalKey.generate("Ed25519", f"{stn}-1")
        operator, approver = (self._link(account) for account in ("operator", "approver"))
        register(operator, station_form(stn, plant), key, approver)
        policy = parse_policy(service.client.get("/log/policy").text)
        self.station = Station(folder / stn, stn, key, "http://127.0.0.1:9", policy, link=self._link())

    def _link(self, account: str | None = None) -> ServerLink:
        link = ServerLink("http://127.0.0.1:9")
        link.close()
        headers = self.service.headers(account) if account else {}
        # The service runs in this process: same requests, no socket.
        link._client = cast(Any, SignedIn(self.service.client, headers))
        return link

    def push(self, from_ms: int, to_ms: int, step_s: int = 300) -> int:
        """Record and push [from_ms, to_ms); return how many envelopes."""
        times = range(from_ms, to_ms, step_s * 1000)
        sealed = self.station.record_packs(packs(self.reporting.readings(at_ms) for at_ms in times))
        self.station.pusher.push(give_up_s=5)
        return len(sealed)


def station_form(stn: str, plant: Plant) -> dict[str, Any]:
    """Return the registration of a plant."""
    channels = [
        {
            "name": c.name,
            "quantity": c.quantity,
            "unit": c.unit,
            "role": c.role,
            "limit": c.limit,
            "resolution": c.resolution,
        }
        for c in plant.channels
    ]
    place: dict[str, Any] = {"lat": 35.0, "lon": 105.0, "utc_offset_min": 0}
    names = {"stn": stn, "name": f"Plant {stn}", "agency": "North bureau", "industry": plant.industry.title}
    return {**names, **place, "channels": channels}


@contextmanager
def pushed_plant(
    service: Service, folder: Path, stn: str, plant: Plant, cheats: tuple[Cheat, ...] = ()
) -> Iterator[PushedPlant]:
    """Give a registered plant; its spool is closed at the end."""
    pushed = PushedPlant(service, folder, stn, plant, cheats)
    try:
        yield pushed
    finally:
        pushed.station.spool.close()
