"""Every loss that a station admits becomes a flag: no statistics, the admission itself is what is shown."""

from __future__ import annotations

from stackwitness.db.unit import unit_of_work
from stackwitness.detection import queries
from stackwitness.detection.queries import Gap
from stackwitness.flags import flow as flags
from stackwitness.flags.domain import Provenance
from stackwitness.stations.queries import list_channels
from stackwitness.wiring import Wiring
from stackwitness_detectors.contract import Finding

DETECTOR, VERSION, KIND = "continuity", "1", "skipped_data"
INNOCENT = ("logger_replaced", "communication_loss", "acquisition_hold")


def raise_gaps(wiring: Wiring, stn: str) -> int:
    """Flag each admitted loss that has no flag yet; return how many were raised."""
    with unit_of_work(wiring.engine, "sw_detect") as conn:
        gaps = queries.list_unflagged_gaps(conn, stn)
        names = tuple(channel.name for channel in list_channels(conn, stn)) if gaps else ()
        for gap in gaps:
            provenance = Provenance(stn, gap.ep, max(gap.seq_first - 1, 0), gap.seq_last + 1, "", "")
            flags.raise_flag(conn, wiring.service_key, describe(gap, names), provenance)
    return len(gaps)


def describe(gap: Gap, channels: tuple[str, ...]) -> Finding:
    """Word one admitted loss: which envelopes, and which time lies between the readings around it."""
    count = gap.seq_last - gap.seq_first + 1
    hours = round((gap.to_ms - gap.from_ms) / 3_600_000, 2)
    span = str(gap.seq_first) if count == 1 else f"{gap.seq_first}-{gap.seq_last}"
    en = (
        f"The station admits that {count} envelopes are lost (epoch {gap.ep}, seq {span}, reason given:"
        f" {gap.why}). {hours:g} hours lie between the readings before and after."
    )
    zh = (
        f"站点承认丢失了 {count} 个数据包(第 {gap.ep} 纪元,序号 {span},所述原因:{gap.why})。"
        f"丢失前后的读数相隔 {hours:g} 小时。"
    )
    return Finding(
        detector=DETECTOR,
        version=VERSION,
        family="continuity",
        kind=KIND,
        kinds=("selective_transmission", "missing_when_high"),
        verdict="unusual",
        from_ms=gap.from_ms,
        to_ms=max(gap.to_ms, gap.from_ms),
        channels=channels,
        statistic=("envelopes_lost", float(count)),
        e_value=1.0,
        numbers={
            "envelopes_lost": count,
            "hours": hours,
            "seq_first": gap.seq_first,
            "seq_last": gap.seq_last,
        },
        text_en=en,
        text_zh=zh,
        innocent=INNOCENT,
        look_at_en="The logger's event log and the record of its replacement or repair",
        look_at_zh="数据采集仪的事件日志及其更换或维修记录",
        plot={"kind": "missing", "series": [], "interval": [gap.from_ms, max(gap.to_ms, gap.from_ms)]},
        episode=f"gap-{gap.ep}-{gap.seq_first}",
        extends=False,
    )
