"""Seed a service with what an inspector meets: stations that pushed signed readings, flags of every picture.

Everything enters by the front door: stations and keys over HTTP, readings as signed envelopes, flags through
their flow.
"""

import math
import random
from decimal import Decimal
from typing import Any

from emdi.envelope import ZERO_HASH, seal_envelope
from emdi.keys import LocalKey
from emdi.pack import Record
from stackwitness import clock
from stackwitness.db.unit import unit_of_work
from stackwitness.flags import flow as flags
from stackwitness.flags.domain import Flag, Provenance
from stackwitness_detectors.contract import Finding
from tests.service.rig import key_form, station_form
from tests.support.service import Service

HOUR_MS = 3_600_000
STEP_MS = 15 * 60_000
DAYS = 10
CHANNELS: list[dict[str, Any]] = [
    {"name": "so2", "quantity": "sulphur dioxide", "unit": "mg/m3", "role": "pollutant", "limit": 35.0},
    {"name": "nox", "quantity": "nitrogen oxides", "unit": "mg/m3", "role": "pollutant", "limit": 50.0},
    {"name": "load", "quantity": "gross load", "unit": "MW", "role": "load"},
    {"name": "o2", "quantity": "oxygen", "unit": "%", "role": "diluent"},
]
STATIONS = (
    ("riverside-2", "Riverside unit 2", "power", 31.20, 121.50, 480),
    ("beiling-1", "北岭电厂 1 号机组", "power", 31.90, 120.90, 480),
    ("harbour", "Harbour stack", "refinery", 30.40, 122.30, 480),
    ("kiln-4", 'Kiln <4> & "cooler"', "cement", 32.50, 119.80, 480),
)
# kind of finding, verdict, kind of picture, forgeries it fits, innocent causes
KINDS = (
    (
        "hold",
        "cannot be",
        "hold",
        ("freeze", "replay_exact"),
        ("analyser_hold", "acquisition_hold", "steady_operation"),
    ),
    (
        "level_low",
        "very unlikely",
        "residual",
        ("scale", "offset", "dilution"),
        ("recalibration", "fuel_change"),
    ),
    (
        "copy",
        "cannot be",
        "copy",
        ("replay_exact", "replay_disguised"),
        ("deterministic_process", "acquisition_hold"),
    ),
    ("digits", "unusual", "digits", ("typed_digits", "rounded"), ("resolution_change", "detection_floor")),
    ("below_limit", "very unlikely", "density", ("clip", "bunch"), ("limit_control",)),
    (
        "missing_when_high",
        "unusual",
        "missing",
        ("missing_when_high", "status_abuse"),
        ("load_related_fault",),
    ),
    ("odd_features", "unusual", "features", ("generated",), ("instrument_fault",)),
)


class Plant:
    """One plant's true course, hour by hour; the same for readings and for pictures of flags."""

    def __init__(self, number: int, end_ms: int) -> None:
        self.random = random.Random(number)
        self.phase = number * 1.7
        self.start_ms = end_ms - DAYS * 24 * HOUR_MS

    def values(self, at_ms: int) -> dict[str, float]:
        """Return a reading of every channel."""
        day = math.sin(at_ms / (24 * HOUR_MS) * 2 * math.pi + self.phase)
        load = 310 + 95 * day + self.random.gauss(0, 6)
        so2 = 9 + 0.035 * load + self.random.gauss(0, 1.1)
        return {"so2": so2, "nox": 22 + 0.04 * load + self.random.gauss(0, 1.6), "load": load,
                "o2": 7.5 - load / 200 + self.random.gauss(0, 0.12)}  # fmt: skip


def seed(service: Service, *, stations: int = 4, flags_each: int = 3, days: int = DAYS) -> list[Flag]:
    """Fill the service; return the raised flags."""
    end_ms = clock.now_ms() // HOUR_MS * HOUR_MS - 2 * HOUR_MS
    raised = []
    for number, (stn, name, industry, lat, lon, offset) in enumerate(STATIONS[:stations]):
        form = station_form(stn, CHANNELS)
        place = {"name": name, "industry": industry, "lat": lat, "lon": lon, "utc_offset_min": offset}
        plant = Plant(number, end_ms)
        sender = Sender(service, {**form, **place})
        for day in range(DAYS - days, DAYS):
            push_day(sender, plant, plant.start_ms + day * 24 * HOUR_MS)
        for i in range(flags_each):
            raised.append(raise_one(service, stn, plant, number + i * stations))
    return raised


class Sender:
    """A registered station: one key, one chain."""

    def __init__(self, service: Service, form: dict[str, Any]) -> None:
        self.service, self.stn = service, form["stn"]
        self.key = LocalKey.generate("Ed25519", f"{self.stn}-1")
        operator = service.headers("operator")
        answer = service.client.post("/v1/stations", json=form, headers=operator)
        assert answer.status_code == 201, answer.text
        path = f"/v1/stations/{self.stn}/keys"
        answer = service.client.post(path, json=key_form(self.key, self.stn), headers=operator)
        assert answer.status_code == 202, answer.text
        approver = service.headers("approver")
        answer = service.client.post(f"{path}/{self.key.kid}/approve", headers=approver)
        assert answer.status_code == 201, answer.text
        self.seq, self.prev = 0, ZERO_HASH

    def push(self, packs: list[list[Record]]) -> None:
        """Seal packs into the next envelopes and push them as one request."""
        lines = []
        for records in packs:
            envelope = seal_envelope(
                self.key,
                stn=self.stn,
                ep=1,
                seq=self.seq,
                prev=self.prev,
                iat_ms=clock.now_ms(),
                cp=None,
                records=records,
            )
            self.seq, self.prev = self.seq + 1, envelope.env_id
            lines.append(envelope.jws)
        answer = self.service.client.post("/v1/envelopes", content=b"\n".join(lines))
        assert answer.status_code == 202, answer.text


def push_day(sender: Sender, plant: Plant, from_ms: int) -> None:
    """Push one day as four envelopes; maintenance on every third day, an hour lost on every fifth."""
    day = (from_ms - plant.start_ms) // (24 * HOUR_MS)
    packs = []
    for quarter in range(4):
        start = from_ms + quarter * 6 * HOUR_MS
        records = []
        for at_ms in range(start, start + 6 * HOUR_MS, STEP_MS):
            hour = (at_ms - from_ms) // HOUR_MS
            if day % 5 == 4 and hour == 15:
                continue
            letter = (
                "M" if day % 3 == 1 and hour in (11, 12, 13) else "C" if hour == 2 and day % 4 == 0 else "N"
            )
            values = plant.values(at_ms)
            for channel in CHANNELS:
                value = Decimal(f"{values[channel['name']]:.1f}")
                missing = letter == "M" and hour == 12 and channel["role"] == "pollutant"
                records.append(
                    Record(channel["name"], at_ms, channel["unit"], None if missing else value, letter)
                )
        packs.append(records)
    sender.push(packs)


def raise_one(service: Service, stn: str, plant: Plant, number: int) -> Flag:
    """Raise a flag of the kind that this number stands for."""
    kind, verdict, picture, kinds, innocent = KINDS[number % len(KINDS)]
    plot = draw(picture, plant)
    from_ms, to_ms = plot["interval"]
    finding = Finding(
        detector=kind,
        version="1",
        family=picture,
        kind=kind,
        kinds=kinds,
        verdict=verdict,
        from_ms=from_ms,
        to_ms=to_ms,
        channels=("so2",),
        statistic=("hours", 31.0),
        e_value=31000.0 / (1 + number),
        numbers={"held_h": 31, "level_mg_m3": 12.4, "load_lo_mw": 210.0, "load_hi_mw": 405.0},
        text_en="so2 stayed at 12.4 mg/m3 for 31 h while load moved 210-405 MW; in 14 months of reference "
        "the longest such hold was 4 h; e = 3.1e4.",
        text_zh="so2 在 31 小时内一直保持 12.4 mg/m3，而负荷在 210-405 MW 之间变化；14 个月参考期内"
        "最长恒值为 4 小时；e = 3.1e4。",
        innocent=innocent,
        look_at_en="Compare the analyser's own display and memory with the logger.",
        look_at_zh="对比分析仪自身显示与存储数据和数采仪数据。",
        plot=plot,
        episode=f"{kind}:so2:{number}",
        extends=False,
    )
    provenance = Provenance(stn, 1, 12, 24, "aa" * 32, "bb" * 32)
    with unit_of_work(service.wiring.engine) as conn:
        flag = flags.raise_flag(conn, service.wiring.service_key, finding, provenance)
    assert flag is not None
    return flag


def draw(picture: str, plant: Plant) -> dict[str, Any]:
    """Return plot data of one kind of picture, hour by hour."""
    hours = DAYS * 24
    at_ms = [plant.start_ms + i * HOUR_MS for i in range(hours)]
    course = [plant.values(at) for at in at_ms]
    first, last = 150, 181
    so2: list[float | None] = [round(c["so2"], 1) for c in course]
    plot: dict[str, Any] = {
        "kind": picture, "title_en": "SO2 beside the load", "title_zh": "SO2 与负荷",
        "interval": [at_ms[first], at_ms[last]], "limit": 35.0,
    }  # fmt: skip
    if picture == "hold":
        so2[first : last + 1] = [12.4] * (last + 1 - first)
        plot["histogram"] = {
            "edges": [float(2 * i) for i in range(18)],
            "counts": [300, 120, 40, 10, 4, 1, *[0] * 11],
            "reference": [],
            "mark": 31.0,
            "label_en": "Length of holds in the reference, hours",
            "label_zh": "参考期内恒值持续时间（小时）",
        }
    elif picture == "residual":
        mid = [9 + 0.035 * c["load"] for c in course]
        plot["band"] = {"t": at_ms, "lo": [m - 2.4 for m in mid], "mid": mid, "hi": [m + 2.4 for m in mid]}
        so2[first:] = [round((v or 0) * 0.72, 1) for v in so2[first:]]
        plot["interval"] = [at_ms[first], at_ms[-1]]
    elif picture == "copy":
        so2[first : last + 1] = so2[40 : 40 + last + 1 - first]
        plot["match"] = {"t": at_ms[40 : 40 + last + 1 - first], "v": so2[first : last + 1]}
    elif picture == "digits":
        plot["histogram"] = {
            "edges": [float(i) for i in range(11)],
            "counts": [310, 90, 80, 95, 88, 260, 79, 91, 84, 70],
            "reference": [124.7] * 10,
            "mark": None,
            "label_en": "Last digit of the values",
            "label_zh": "末位数字",
        }
    elif picture == "density":
        bell = [max(0.0, 60 - abs(i - 12) * 3.0) for i in range(60)]
        plot["histogram"] = {
            "edges": [20 + i * 0.5 for i in range(61)],
            "counts": [b + (90 if 27 <= i < 30 else 0) if i < 30 else 1 for i, b in enumerate(bell)],
            "reference": bell, "mark": 35.0, "label_en": "Hourly means round the limit, mg/m3",
            "label_zh": "限值附近的小时均值,mg/m3",
        }  # fmt: skip
    elif picture == "missing":
        so2 = [None if c["load"] > 385 else v for c, v in zip(course, so2, strict=True)]
    names = [c["name"] for c in CHANNELS] if picture == "features" else ["so2", "load"]
    plot["series"] = [
        {"channel": c["name"], "unit": c["unit"], "role": c["role"], "t": at_ms,
         "v": so2 if c["name"] == "so2" else [round(x[c["name"]], 2) for x in course]}
        for c in CHANNELS if c["name"] in names
    ]  # fmt: skip
    return plot
