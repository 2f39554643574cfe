"""Be a whole province of stations: simulated plants that push signed readings through the real SDK.

`python -m stackwitness.province` registers the stations, sends twelve weeks of history in a burst, then goes on
living: the last hours at sixty times their speed, so that something moves on the screen, then in real time.
It may be stopped and started again at any moment: each station's spool knows what it has already said.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from emdi.keys import LocalKey
from emdi.pack import Record
from stackwitness import clock
from stackwitness.log.stopping import stop_on_signals
from stackwitness.private_file import write_private
from stackwitness.settings import Settings
from stackwitness_client.errors import ClientError, ServerBusy, ServerUnreachable
from stackwitness_client.home import CONFIG, StationConfig, make_home, open_home
from stackwitness_client.http import ServerLink
from stackwitness_client.registration import register
from stackwitness_client.simulator import INDUSTRIES, PROVINCE, UTC_OFFSET_MIN, ForgingPlant, ProvinceStation
from stackwitness_client.station import Station, packs

# Ten minutes, the usual upload of HJ 212; twelve weeks, for slow tests compare with as much honest past.
STEP_MS = 600_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
HISTORY_DAYS = 84.0
# What is sent at sixty times its speed before real time: three hours, so three minutes.
SPEEDED_MS = 3 * HOUR_MS
SPEED = 60
SLICE_MS = 28 * DAY_MS
READINGS_PER_ENVELOPE = 504
SENDERS = 2
GIVE_UP_S = 20.0


class LivingStation:
    """Be one station of the province: its plant as it reports, and its SDK folder."""

    def __init__(self, described: ProvinceStation, plant: ForgingPlant, station: Station) -> None:
        self.described, self.plant, self.station = described, plant, station

    def next_ms(self, first_ms: int) -> int:
        """Return the next moment to report: after the last one in the spool, else `first_ms`."""
        last_ms = self.station.spool.head().last_at_ms
        return first_ms if last_ms is None else last_ms + STEP_MS

    def record(self, from_ms: int, to_ms: int) -> int:
        """Sign and keep the readings of [from_ms, to_ms); return how many."""
        count = 0

        def rows() -> Iterator[Sequence[Record]]:
            nonlocal count
            for at_ms in range(from_ms, to_ms, STEP_MS):
                row = self.plant.readings(at_ms)
                count += len(row)
                yield row

        self.station.record_packs(packs(rows(), READINGS_PER_ENVELOPE))
        return count


def say(line: str) -> None:
    """Print one line of progress at once."""
    print(line, flush=True)


def run_province(
    settings: Settings,
    *,
    honest: bool = False,
    days: float = HISTORY_DAYS,
    stop: threading.Event | None = None,
) -> None:
    """Run the province until SIGTERM (or `stop`)."""
    stop = stop or stop_on_signals()
    home = settings.home / "province"
    home.mkdir(parents=True, exist_ok=True)
    start_ms = first_start_ms(home)
    url = find_api(settings)
    stations = open_stations(settings, home, url, start_ms, honest=honest, stop=stop)
    try:
        first_ms = whole_step(start_ms - int(days * DAY_MS))
        fill_history(stations, first_ms, stop)
        live(stations, first_ms, stop)
    finally:
        for living in stations:
            living.station.close()
    say("province: stopped")


def first_start_ms(home: Path) -> int:
    """Return when the province was first started: cheats and history are counted from there."""
    path = home / "start.json"
    if not path.exists():
        write_private(path, json.dumps({"start_ms": clock.now_ms()}))
    start_ms: int = json.loads(path.read_text("utf-8"))["start_ms"]
    return start_ms


def find_api(settings: Settings) -> str:
    """Return the address of the API: as configured, else where the running `up` says."""
    if settings.port:
        return f"http://{settings.host}:{settings.port}"
    found: str = json.loads(settings.run_file.read_text("utf-8"))["api_url"]
    return found


def open_stations(
    settings: Settings, home: Path, url: str, start_ms: int, *, honest: bool, stop: threading.Event
) -> list[LivingStation]:
    """Register every station with two operators' tokens and open its folder; repeated, nothing changes."""
    tokens = [
        (settings.home / f"{name}.token").read_text("utf-8").strip() for name in ("operator", "approver")
    ]
    opened: list[LivingStation] = []
    with (
        closing(ServerLink(url, token=tokens[0])) as link,
        closing(ServerLink(url, token=tokens[1])) as other,
    ):
        for described in PROVINCE:
            while not stop.is_set():
                try:
                    station = open_station(link, other, home / described.stn, described)
                except (ServerUnreachable, ServerBusy) as error:
                    say(f"province: waiting for the service ({error})")
                    stop.wait(2.0)
                else:
                    plant = described.reporting(start_ms, honest=honest)
                    opened.append(LivingStation(described, plant, station))
                    break
    say(f"province: {len(opened)} stations registered at {url}")
    return opened


def open_station(link: ServerLink, approver: ServerLink, folder: Path, described: ProvinceStation) -> Station:
    """Make the station's key and folder at the first start, register both, open the folder."""
    channels = described.plant().channels
    if not (folder / CONFIG).exists():
        units = {channel.name: channel.unit for channel in channels}
        config = StationConfig(described.stn, f"{described.stn}-1", link.url, units)
        (folder / "key.pem").unlink(missing_ok=True)  # a start that died before the folder was complete
        make_home(folder, config, alg="Ed25519", policy_text=link.policy())
    form = {
        "stn": described.stn,
        "name": described.name,
        "agency": described.agency,
        "industry": INDUSTRIES[described.industry].title,
        "lat": described.lat,
        "lon": described.lon,
        "utc_offset_min": UTC_OFFSET_MIN,
        "channels": [
            {
                "name": c.name,
                "quantity": c.quantity,
                "unit": c.unit,
                "role": c.role,
                "limit": c.limit,
                "resolution": c.resolution,
            }
            for c in channels
        ],
    }
    register(link, form, LocalKey.load(folder / "key.pem", f"{described.stn}-1"), approver)
    return open_home(folder, server=link.url)


def fill_history(stations: Sequence[LivingStation], first_ms: int, stop: threading.Event) -> None:
    """Send everything up to a few hours ago, station by station, on two threads."""
    to_ms = whole_step(clock.now_ms() - SPEEDED_MS)
    began_ms = clock.now_ms()
    totals = {"stations": 0, "readings": 0}
    lock = threading.Lock()

    def fill(living: LivingStation) -> None:
        sent = fill_station(living, living.next_ms(first_ms), to_ms, stop)
        with lock:
            totals["stations"] += 1
            totals["readings"] += sent
            if not sent:  # a restart: its history is told
                return
            took_s = (clock.now_ms() - began_ms) / 1000
            say(
                f"province: {totals['stations']} of {len(stations)} stations,"
                f" {totals['readings']:,} readings,"
                f" {took_s:.0f} s ({living.described.name})"
            )

    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(fill, stations))


def fill_station(living: LivingStation, from_ms: int, to_ms: int, stop: threading.Event) -> int:
    """Record and push [from_ms, to_ms) in slices; return how many readings were recorded."""
    count = 0
    while from_ms < to_ms and not stop.is_set():
        until_ms = min(from_ms + SLICE_MS, to_ms)
        count += living.record(from_ms, until_ms)
        from_ms = until_ms
        while not stop.is_set() and not push(living):
            stop.wait(1.0)
    return count


def live(stations: Sequence[LivingStation], first_ms: int, stop: threading.Event) -> None:
    """Report every ten minutes of plant time: sixty times as fast until now, then as the clock goes."""
    say(f"province: history sent; the last {SPEEDED_MS // HOUR_MS} hours follow at {SPEED} times their speed")
    real = False
    while not stop.is_set():
        due_ms = min(living.next_ms(first_ms) for living in stations)
        wait_ms = due_ms - clock.now_ms()
        if wait_ms <= 0:
            for living in stations:
                if living.next_ms(first_ms) <= due_ms:
                    living.record(due_ms, due_ms + STEP_MS)
                    push(living)
            stop.wait(STEP_MS / SPEED / 1000)
            continue
        if not real:
            real = True
            say("province: caught up; from now on in real time")
        for living in stations:
            push(living)
        stop.wait(min(wait_ms / 1000, 10.0))


def push(living: LivingStation) -> bool:
    """Send what waits and free what is proven; a failure leaves it all in the spool for the next time."""
    try:
        living.station.push(give_up_s=GIVE_UP_S)
    except ClientError as error:
        say(f"province: {living.described.stn}: {error}")
        return False
    return True


def whole_step(at_ms: int) -> int:
    """Return the last full step at or before a time."""
    return at_ms - at_ms % STEP_MS


def main(argv: Sequence[str] | None = None) -> None:
    """Run the province of the service in this environment."""
    parser = argparse.ArgumentParser(prog="python -m stackwitness.province", description=__doc__)
    parser.add_argument("--honest", action="store_true", help="nobody forges")
    parser.add_argument(
        "--days", type=float, default=HISTORY_DAYS, help="days of history (default %(default)s)"
    )
    arguments = parser.parse_args(argv)
    run_province(Settings(), honest=arguments.honest, days=arguments.days)


if __name__ == "__main__":
    main()
