"""`stackwitness-station`: make a station's key, record readings, push them, say where things stand."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from emdi.envelope import SKIP_WHY
from stackwitness_client.errors import (
    ClientError,
    KeyFileError,
    ReceiptRefused,
    RecordError,
    ServerBusy,
    ServerRefused,
    ServerUnreachable,
    SpoolError,
)
from stackwitness_client.home import (
    StationConfig,
    adopt_successor,
    load_config,
    make_home,
    make_successor,
    open_home,
)
from stackwitness_client.http import ServerLink
from stackwitness_client.registration import is_pinned, key_form, rotate
from stackwitness_client.station import Reading, Station

EXIT_CODES = """exit codes:
  0  done
  2  wrong use
  3  the station's folder, key or spool cannot be used
  4  the server did not answer; everything recorded stays in the spool
  5  the server refused (a retry would be refused again)
  6  the server's receipt or checkpoint does not hold; nothing was freed
  7  a reading given to `record` cannot be recorded; readings before it are kept
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments) or 0)
    except ClientError as error:
        print(f"stackwitness-station: {error}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        return 130


def exit_code(error: ClientError) -> int:
    """Return the documented exit code of an error."""
    match error:
        case ReceiptRefused():
            return 6
        case RecordError():
            return 7
        case ServerRefused():
            return 5
        case ServerUnreachable() | ServerBusy():
            return 4
        case KeyFileError() | SpoolError():
            return 3
        case _:
            return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stackwitness-station",
        description=__doc__,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    init = commands.add_parser("init", help="make key and folder; print the registration request")
    init.add_argument("--station", required=True, metavar="S", help="station id")
    init.add_argument("--server", required=True, metavar="URL")
    init.add_argument("--alg", choices=("Ed25519", "ES256"), default="Ed25519")
    init.add_argument("--kid", help="key id (default: <station>-1)")
    init.add_argument(
        "--policy", type=Path, help="policy file to pin; without it the server's is taken on trust"
    )
    init.add_argument("--channel", action="append", default=[], metavar="NAME=UNIT", help="unit of a channel")
    init.add_argument(
        "--epoch", type=int, metavar="N", help="start at this epoch: the spool of an earlier one is lost"
    )
    init.set_defaults(run=_init)

    record = commands.add_parser("record", help="sign and keep readings: JSON objects, one a line")
    example = '{"at": "2026-01-02T03:04:00Z", "values": {"NOX": 41.2}}'
    record.add_argument("lines", nargs="*", help=f"{example} (default: lines of stdin)")
    record.add_argument("--push", action="store_true", help="push when all are recorded")
    record.set_defaults(run=_record)

    push = commands.add_parser("push", help="send what waits, verify receipts, free what is proven")
    push.add_argument("--watch", action="store_true", help="go on until interrupted")
    push.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="pause of --watch")
    push.add_argument("--give-up", type=float, default=60.0, metavar="SECONDS", help="without success")
    push.set_defaults(run=_push)

    status = commands.add_parser("status", help="print head, spool and last verified checkpoint as JSON")
    status.set_defaults(run=_status)

    for command in (init, record, push, status, *_add_later(commands)):
        command.add_argument("--home", required=True, type=Path, metavar="DIR", help="the station's folder")
    return parser


def _add_later(commands: Any) -> tuple[argparse.ArgumentParser, ...]:
    """Add what a station needs when its key or its spool ends."""
    rotate = commands.add_parser(
        "rotate-key", help="replace the key by a new one, which the old one vouches for"
    )
    rotate.add_argument(
        "--kid", metavar="KID", help="id of the new key (default: the number of the old one + 1)"
    )
    rotate.add_argument("--alg", choices=("Ed25519", "ES256"), help="default: as the old key")
    rotate.add_argument(
        "--token-file", required=True, type=Path, metavar="FILE", help="an operator's bearer token"
    )
    rotate.add_argument("--give-up", type=float, default=60.0, metavar="SECONDS", help="without success")
    rotate.set_defaults(run=_rotate_key)

    skip = commands.add_parser("skip", help="go on after a lost spool, in the same epoch, admitting the loss")
    skip.add_argument(
        "--lost",
        required=True,
        type=int,
        metavar="N",
        help="how many may have been signed after the server's head",
    )
    skip.add_argument("--why", required=True, help="1 to 64 letters, digits, spaces, . _ -")
    skip.set_defaults(run=_skip)

    epoch = commands.add_parser("new-epoch", help="go on after a lost spool, in the epoch after the server's")
    epoch.set_defaults(run=_new_epoch)
    return rotate, skip, epoch


def _init(arguments: argparse.Namespace) -> None:
    units: dict[str, str] = {}
    for channel in arguments.channel:
        name, equals, unit = channel.partition("=")
        if not equals or not name or not unit:
            raise KeyFileError("home.channel", f"--channel takes NAME=UNIT, not {channel!r}")
        units[name] = unit
    config = StationConfig(
        arguments.station, arguments.kid or f"{arguments.station}-1", arguments.server, units
    )
    if arguments.policy is not None:
        try:
            policy_text = arguments.policy.read_text("utf-8")
        except OSError as error:
            raise KeyFileError("home.policy", f"{arguments.policy}: {error.strerror}") from error
    else:
        with closing(ServerLink(arguments.server)) as link:
            policy_text = link.policy()
        digest = hashlib.sha256(policy_text.encode()).hexdigest()
        print(f"INSECURE: policy taken from the server on first use, SHA-256 {digest}", file=sys.stderr)
    key = make_home(arguments.home, config, alg=arguments.alg, policy_text=policy_text)
    with closing(open_home(arguments.home)) as station:
        if arguments.epoch is not None:
            station.spool.open_epoch(arguments.epoch)
    request = {"method": "POST", "path": f"/v1/stations/{config.stn}/keys", "body": key_form(key, config.stn)}
    print(json.dumps(request, indent=2))


def _rotate_key(arguments: argparse.Namespace) -> None:
    """Send everything first: what the old key signed and the server lacks would be refused afterwards."""
    home, config = arguments.home, load_config(arguments.home)
    kid = arguments.kid or next_kid(config.kid)
    try:
        token = arguments.token_file.read_text("utf-8").strip()
    except OSError as error:
        raise KeyFileError("home.token", f"{arguments.token_file}: {error.strerror}") from error
    with closing(open_home(home)) as station, closing(ServerLink(config.server, token=token)) as operator:
        new = make_successor(home, kid, arguments.alg or station.signer.public.alg)
        if not is_pinned(operator, config.stn, new):
            _push_once(station, arguments.give_up)
            rotate(operator, config.stn, station.signer, new)
    adopt_successor(home, kid)
    print(f"key {kid} signs from now on; {config.kid} signs nothing any more")


def next_kid(kid: str) -> str:
    """Return a key id with its number raised: mill-1 -> mill-2, mill -> mill-2."""
    name, dash, number = kid.rpartition("-")
    return f"{name}-{int(number) + 1}" if dash and number.isdecimal() and number.isascii() else f"{kid}-2"


def _skip(arguments: argparse.Namespace) -> None:
    if arguments.lost < 1:
        raise RecordError("record.skip", "--lost takes a number from 1")
    if SKIP_WHY.fullmatch(arguments.why) is None:
        raise RecordError("record.skip", "--why takes 1 to 64 letters, digits, spaces and . _ -")
    with closing(open_home(arguments.home)) as station:
        lost = station.skip(arguments.lost, arguments.why)
        ep = station.spool.head().ep
        print(f"the next envelope admits the loss of epoch {ep}, seq {lost.first} to {lost.last}")


def _new_epoch(arguments: argparse.Namespace) -> None:
    with closing(open_home(arguments.home)) as station:
        head = station.link.station_head(station.stn)
        mine = station.spool.head()
        station.spool.open_epoch(max(mine.ep, head[0] if head else -1) + 1)
        print(f"epoch {station.spool.head().ep}")


def _record(arguments: argparse.Namespace) -> None:
    with closing(open_home(arguments.home)) as station:
        recorded = 0
        for number, line in enumerate(arguments.lines or _stdin_lines(), 1):
            values, at, status = _parse_line(line, number)
            envelope = station.record(values, at, status)
            recorded += 1
            print(f"{envelope.ep} {envelope.seq} {envelope.env_id.hex()}")
        if arguments.push and recorded:
            _push_once(station, 60.0)


def _stdin_lines() -> Iterator[str]:
    return (line for line in sys.stdin if line.strip())


def _parse_line(line: str, number: int) -> tuple[dict[str, Any], datetime | int, str]:
    """Read {"at", "values", "status"?}; a value is a number, text, null, or {"value", "unit"?, "status"?}."""
    try:
        item = json.loads(line, parse_float=Decimal)
        at, values = item["at"], item["values"]
        when = at if isinstance(at, int) else datetime.fromisoformat(at)
        status = str(item.get("status", "N"))
        read = {
            name: Reading(value["value"], value.get("unit"), value.get("status", status))
            if isinstance(value, dict)
            else value
            for name, value in values.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError("record.line", f"line {number} is no reading: {error}") from error
    return read, when, status


def _push(arguments: argparse.Namespace) -> None:
    with closing(open_home(arguments.home)) as station:
        while True:
            try:
                _push_once(station, None if arguments.watch else arguments.give_up, wait=not arguments.watch)
            except (ServerUnreachable, ServerBusy) as error:
                if not arguments.watch:
                    raise
                print(f"stackwitness-station: {error}", file=sys.stderr)
            if not arguments.watch:
                return
            time.sleep(arguments.every)


def _push_once(station: Station, give_up_s: float | None, *, wait: bool = True) -> None:
    pusher = station.pusher
    account = pusher.drain(give_up_s=give_up_s) if wait else station.push(give_up_s=give_up_s)
    if account.sent or account.freed:
        print(
            f"sent {account.sent}, stored {account.stored}, known {account.known}, proven {account.freed}",
            flush=True,
        )


def _status(arguments: argparse.Namespace) -> None:
    config = load_config(arguments.home)
    with closing(open_home(arguments.home)) as station:
        head, count, seen = station.spool.head(), station.spool.count(), station.spool.seen()
    print(
        json.dumps(
            {
                "station": config.stn,
                "key": config.kid,
                "server": config.server,
                "head": {"ep": head.ep, "seq": head.seq, "env_id": head.env_id.hex()},
                "sealed": head.sealed,
                "waiting": count.waiting,
                "stored": count.stored,
                "receipts": count.receipts,
                "checkpoint": {"size": seen[0], "root": seen[1].hex()} if seen else None,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
