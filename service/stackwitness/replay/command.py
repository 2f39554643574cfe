"""`stackwitness replay`: the numbered steps, the report, the exit code."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict
from typing import Any

from rich.console import Console

from stackwitness.replay.options import ReplayError, ReplayOptions, parse_forgery, parse_speed, parse_time
from stackwitness.replay.progress import ReplayProgress
from stackwitness.replay.sender import Sender, StationAccount
from stackwitness.replay.served import Served, find_approver, find_server, find_token, iso
from stackwitness_client.dataset import find_files
from stackwitness_client.errors import (
    ClientError,
    ManifestError,
    ReceiptRefused,
    ServerBusy,
    ServerRefused,
    ServerUnreachable,
)
from stackwitness_client.http import ServerLink
from stackwitness_client.manifest import StationSource, load_manifest
from stackwitness_detectors.forge import KINDS

EXIT_CODES = {
    0: "everything is stored, proven and (unless --no-wait-detection) judged",
    2: "the options or the manifest cannot be used",
    3: "no server: none runs from the home folder and no URL was given",
    4: "the server did not answer for too long; the same command goes on later",
    5: "the server refused, or its chain and the spool's do not meet",
    6: "a receipt or checkpoint of the server does not hold",
    7: "a data file is not what the manifest says",
    8: "the server does not hold what it acknowledged, or detection did not catch up in time",
    130: "interrupted; the same command goes on",
}
WORKERS_AT_MAX = 4
NO_SERVER = frozenset({"replay.no_server", "replay.no_token"})


def run(options: ReplayOptions) -> int:
    """Replay a manifest's stations; print and write the report; return an exit code of EXIT_CODES.

    Running it again sends nothing twice: it goes on from the spool of each station in HOME/replay/.
    """
    console = Console(stderr=True)
    try:
        report = replay(options)
    except ClientError as error:
        console.print(
            f"stackwitness replay: {error}", style="red", highlight=False, markup=False, soft_wrap=True
        )
        return exit_code(error)
    except KeyboardInterrupt:
        return 130
    text = json.dumps(report, indent=2)
    if options.report is not None:
        options.report.write_text(text + "\n", "utf-8")
    print(text)
    return int(report["exit_code"])


def run_arguments(
    *, speed: str, forgeries: Sequence[str], stations: str, files: str, from_at: str, to_at: str, **given: Any
) -> int:
    """Read what the command line gave as text, then replay; returns the exit code."""
    try:
        options = ReplayOptions(
            speed=parse_speed(speed),
            forgeries=tuple(parse_forgery(text) for text in forgeries),
            stations=tuple(name for name in stations.split(",") if name),
            files=tuple(name for name in files.split(",") if name),
            from_ms=parse_time(from_at) if from_at else None,
            to_ms=parse_time(to_at) if to_at else None,
            **given,
        )
    except ReplayError as error:
        print(f"stackwitness replay: {error}", file=sys.stderr)
        return exit_code(error)
    return run(options)


def exit_code(error: ClientError) -> int:
    """Return the exit code of an error."""
    match error:
        case ManifestError():
            return 7 if error.code.startswith("data.") else 2
        case ReceiptRefused():
            return 6
        case ServerUnreachable() | ServerBusy():
            return 4
        case ServerRefused():
            return 5
        case ReplayError():
            if error.code in NO_SERVER:
                return 3
            return {"replay.stopped": 130, "replay.no_receipts": 4}.get(error.code, 2)
        case _:
            return 5


def replay(options: ReplayOptions) -> dict[str, Any]:
    """Replay and return the report; raises ClientError for what stops all stations."""
    # 1 What is to be sent, checked before anything is sent
    manifest = load_manifest(options.manifest)
    sources = choose(manifest.stations, options)
    for source in sources:
        find_files(source, options.data, options.files)
    # 2 Where to
    server, token, approver_token = find_server(options), find_token(options), find_approver(options)
    stop = threading.Event()
    began = time.monotonic()
    with (
        closing(ServerLink(server, token=token)) as link,
        closing(ServerLink(server, token=approver_token)) as other,
    ):
        approver = other if approver_token else None
        served = Served(link, options.patience_s, lambda seconds: _wait(stop, seconds), approver)
        policy_text = served.patiently(link.policy)
        # 3 Every station through the SDK
        with ReplayProgress(manifest.title, len(sources)) as progress:
            senders = [Sender(s, options, server, served, policy_text, stop, progress.tell) for s in sources]
            failures = _send_all(senders, options, progress, stop)
        sent_s = time.monotonic() - began
        # 4 Ask back what is stored, wait for detection, count flags
        accounts = [sender.account for sender in senders]
        _ask_back(served, accounts, options)
        report = make_report(manifest.title, server, accounts, sent_s, time.monotonic() - began)
    report["exit_code"] = max((exit_code(error) for error in failures), default=_verdict(accounts))
    return report


def choose(stations: Sequence[StationSource], options: ReplayOptions) -> list[StationSource]:
    """Return the stations asked for; raises ReplayError for unknown stations, channels or forgeries."""
    known = {source.stn: source for source in stations}
    for stn in (*options.stations, *(forgery.stn for forgery in options.forgeries)):
        if stn not in known:
            raise ReplayError("replay.station", f"the manifest has no station {stn!r}: {', '.join(known)}")
    for forgery in options.forgeries:
        if forgery.kind not in KINDS:
            raise ReplayError("forge.kind", f"{forgery.kind!r} is none of {', '.join(KINDS)}")
        if forgery.channel not in {channel.name for channel in known[forgery.stn].channels}:
            raise ReplayError("forge.channel", f"station {forgery.stn} has no channel {forgery.channel!r}")
        if options.stations and forgery.stn not in options.stations:
            raise ReplayError("replay.station", f"station {forgery.stn} is forged but not replayed")
    return [known[stn] for stn in options.stations] if options.stations else list(stations)


def _wait(stop: threading.Event, seconds: float) -> None:
    if stop.wait(seconds):
        raise ReplayError("replay.stopped", "stopped; the same command goes on where it was")


def _send_all(
    senders: Sequence[Sender], options: ReplayOptions, progress: ReplayProgress, stop: threading.Event
) -> list[ClientError]:
    workers = len(senders) if options.speed is not None else min(WORKERS_AT_MAX, len(senders))
    failures: list[ClientError] = []
    with ThreadPoolExecutor(workers, "replay") as pool:
        running: dict[Future[StationAccount], Sender] = {
            pool.submit(sender.run): sender for sender in senders
        }
        try:
            for future in as_completed(running):
                account = running[future].account
                error = future.exception()
                if error is None:
                    words = f"{account.readings_recorded:,} readings recorded, {account.receipts:,} receipts"
                elif isinstance(error, ClientError):
                    failures.append(error)
                    account.error = words = str(error)
                else:
                    raise error
                progress.finish(account.stn, words)
        except BaseException:
            stop.set()
            raise
    return failures


def _ask_back(served: Served, accounts: Sequence[StationAccount], options: ReplayOptions) -> None:
    for account in accounts:
        if account.from_ms is not None and account.to_ms is not None and account.error is None:
            account.stored = served.count_readings(account.stn, account.from_ms, account.to_ms)
    if options.wait_detection:
        wait_for_detection(served, accounts, options.detection_within_s)
    for account in accounts:
        if account.error is None:
            account.flags = served.flags_by_kind(account.stn)


def wait_for_detection(served: Served, accounts: Sequence[StationAccount], within_s: float) -> None:
    """Wait until every station's full hours are judged, or time is up; notes either on the accounts."""
    sent = [account for account in accounts if account.error is None and account.to_ms is not None]
    ends = time.monotonic() + within_s
    while True:
        judged = served.judged_stations()
        for account in sent:
            account.detection_caught_up = account.stn in judged
        if all(account.detection_caught_up for account in sent) or time.monotonic() >= ends:
            return
        served.sleep(1.0)


def _verdict(accounts: Sequence[StationAccount]) -> int:
    short = any(a.stored is not None and a.stored < a.readings_recorded for a in accounts)
    return 8 if short or any(a.detection_caught_up is False for a in accounts) else 0


def make_report(
    title: str, server: str, accounts: Sequence[StationAccount], sent_s: float, wall_s: float
) -> dict[str, Any]:
    """Return the report: totals, then one object a station."""
    flags: Counter[str] = Counter()
    for account in accounts:
        flags.update(account.flags)
    recorded = sum(account.readings_recorded for account in accounts)
    return {
        "title": title,
        "server": server,
        "sent": {
            "readings": recorded,
            "envelopes": sum(account.push.sent for account in accounts),
            "rows": sum(account.rows_recorded for account in accounts),
        },
        "acknowledged": {
            "envelopes_new": sum(account.push.stored for account in accounts),
            "envelopes_known": sum(account.push.known for account in accounts),
            "retries": sum(account.retries for account in accounts),
        },
        "stored": {"readings": sum(account.stored or 0 for account in accounts)},
        "receipts": {
            "verified_now": sum(account.push.freed for account in accounts),
            "kept": sum(account.receipts for account in accounts),
            "readings": sum(account.receipt_readings for account in accounts),
        },
        "flagged": dict(sorted(flags.items())),
        "seconds_to_proven": round(sent_s, 3),
        "seconds": round(wall_s, 3),
        "readings_per_second": round(recorded / sent_s, 1) if sent_s > 0 else None,
        "stations": [_station(account) for account in accounts],
    }


def _station(account: StationAccount) -> dict[str, Any]:
    return {
        "stn": account.stn,
        "from": None if account.from_ms is None else iso(account.from_ms),
        "to": None if account.to_ms is None else iso(account.to_ms),
        "rows": asdict(account.tally),
        "rows_sent_before": account.rows_sent_before,
        "rows_recorded": account.rows_recorded,
        "readings_recorded": account.readings_recorded,
        "readings_in_chain": account.readings_in_chain,
        "envelopes_in_chain": account.envelopes_in_chain,
        "stored": account.stored,
        "receipts": account.receipts,
        "receipt_readings": account.receipt_readings,
        "flagged": account.flags,
        "detection_caught_up": account.detection_caught_up,
        "error": account.error,
    }
