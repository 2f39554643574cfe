"""The program stackwitness-monitor: watch a log from outside, compare two views of it, check a proof file."""

import argparse
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from emdi.errors import EmdiError, NoteError, PolicyError
from emdi.policy import parse_policy
from emdi.proof_check import check_proof
from emdi.proof_file import format_proof, parse_proof
from stackwitness_client.errors import ClientError
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor.compare import compare, open_view
from stackwitness_client.monitor.loop import Monitor, Turn, wall_ms
from stackwitness_client.monitor.serving import serving
from stackwitness_client.monitor.source import HttpSource
from stackwitness_client.verify.report import printable

MALFORMED, POLICY = 3, 4
PROGRESS_EVERY_S = 5.0
EXIT_TEXTS = {
    0: "nothing is wrong with what could be checked",
    1: "the log, or what the server shows of it, was changed; or two histories were signed",
    2: "something that must be there is missing or stale",
    3: "not reachable, or malformed",
    4: "the checkpoint does not meet the policy",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code (0 ok, 1 .. 4 see --help)."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (PolicyError, NoteError) as error:
        print(printable(f"stackwitness-monitor: {error}"), file=sys.stderr)
        return POLICY
    except (OSError, UnicodeDecodeError, ClientError, EmdiError) as error:
        print(printable(f"stackwitness-monitor: {error}"), file=sys.stderr)
        return MALFORMED


def run(arguments: argparse.Namespace) -> int:
    """Watch a log: one turn with --once, else one every --interval seconds until SIGTERM."""
    policy = parse_policy(arguments.policy.read_text("utf-8"))
    token = arguments.token_file.read_text("utf-8").strip() if arguments.token_file else None
    stop = threading.Event()
    with ExitStack() as stack:
        link = ServerLink(arguments.log, token=token)
        stack.callback(link.close)
        monitor = Monitor(
            arguments.home,
            link,
            policy,
            api=token is not None,
            progress=_Progress().show,
            sample_requests=arguments.sample,
            witness_urls=arguments.witness_url,
            tsa_roots=arguments.tsa_root.read_bytes() if arguments.tsa_root else None,
            token_of=partial(_read_token, dict(arguments.successor_token_file)),
        )
        stack.callback(monitor.close)
        if arguments.serve is not None:
            port = stack.enter_context(serving(monitor, arguments.serve, arguments.serve_address))
            print(
                f"serving the mirror on http://{arguments.serve_address}:{port}", file=sys.stderr, flush=True
            )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        said = ""
        while True:
            turn = monitor.turn()
            said = _tell(turn, said)
            if arguments.once or stop.wait(arguments.interval):
                return turn.exit_code


def _read_token(files: Mapping[str, Path], origin: str) -> str | None:
    """Return the token of a log that follows, once its file is there: tokens are issued when a log begins."""
    path = files.get(origin)
    return path.read_text("utf-8").strip() if path is not None and path.exists() else None


def _token_file(text: str) -> tuple[str, Path]:
    origin, sign, path = text.partition("=")
    if not (origin and sign and path):
        raise argparse.ArgumentTypeError("give ORIGIN=FILE")
    return origin, Path(path)


def run_compare(arguments: argparse.Namespace) -> int:
    """Compare two views of one log; write the proof when they are two histories."""
    policy = parse_policy(arguments.policy.read_text("utf-8")) if arguments.policy else None
    one, two = (open_view(given, policy) for given in (arguments.a, arguments.b))
    sources = [HttpSource(ServerLink(url)).read for url in arguments.url]
    found = compare(one, two, sources, wall_ms())
    print(printable(found.says))
    if policy is None:
        print("signatures not checked: no --policy (`stackwitness-monitor check` does, with one)")
    if found.proof is None:
        return 2 if found.undecided else 0
    arguments.output.write_bytes(format_proof(found.proof))
    print(f"FORK: the proof is in {arguments.output}")
    return 1


def run_check(arguments: argparse.Namespace) -> int:
    """Check a proof file offline: 1 when it proves what its type stands for, 3 when it does not."""
    policy = parse_policy(arguments.policy.read_text("utf-8"))
    proof = parse_proof(arguments.proof.read_bytes())
    account = check_proof(proof, policy)
    print(printable(f"{account.type}: {account.says}"))
    for line in account.proven:
        print(printable(f"  proven by signatures and hashes: {line}"))
    for line in account.observed:
        print(printable(f"  observed by whoever made this file: {line}"))
    return proof.exit_code


def _tell(turn: Turn, said: str) -> str:
    """Print new alarms, and the state of things when it changed."""
    for alarm, says in turn.raised:
        print(printable(f"ALARM {alarm.n} {alarm.type}: {says} ({alarm.path})"))
    turns = [turn]
    while turns[-1].next is not None:
        turns.append(turns[-1].next)
    state = f"exit {turn.exit_code}; {'; '.join(note for each in turns for note in each.notes)}"
    if any(each.entries for each in turns) or turn.raised or state != said:
        said = "ok" if turn.exit_code == 0 else f"not ok ({turn.exit_code})"
        print(printable(f"{said}: {'; successor: '.join(map(_describe, turns))}"))
    sys.stdout.flush()
    return state


def _describe(turn: Turn) -> str:
    compared = (
        f"{turn.readings} readings and {turn.flags} flags compared" if turn.readings or turn.flags else ""
    )
    parts = [f"size {turn.size}", f"{turn.entries} new", *([compared] if compared else []), *turn.notes]
    return ", ".join(parts)


class _Progress:
    """Say on stderr how far a long first reading is."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()
        self._from: int | None = None

    def show(self, at: int, size: int) -> None:
        """Print a line now and then."""
        now = time.monotonic()
        if self._from is None:
            self._from = at
        if at < size and now - self._told >= PROGRESS_EVERY_S:
            rate = (at - self._from) / (now - self._began)
            print(f"{at} of {size} entries checked, {rate:.0f} a second", file=sys.stderr, flush=True)
            self._told = now


def _parser() -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code}  {text}" for code, text in EXIT_TEXTS.items())
    parser = argparse.ArgumentParser(
        prog="stackwitness-monitor",
        description="Watch a log from outside, with keys of your own choosing and no access to its database.",
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    watch = commands.add_parser("run", help="follow a log, keep a mirror, raise alarms")
    watch.add_argument("--log", required=True, metavar="URL", help="the server, or another monitor's mirror")
    watch.add_argument("--policy", required=True, type=Path, help="your own policy file, got independently")
    watch.add_argument("--home", required=True, type=Path, help="folder for mirror, memory and alarms")
    watch.add_argument(
        "--token-file", type=Path, help="token of an auditor, to compare what the server shows"
    )
    watch.add_argument(
        "--successor-token-file",
        action="append",
        default=[],
        type=_token_file,
        metavar="ORIGIN=FILE",
        help="token of an auditor of the log that follows this one, once it is frozen; the file may come later",
    )
    watch.add_argument(
        "--witness-url",
        action="append",
        default=[],
        metavar="URL",
        help="compare with what this witness holds",
    )
    watch.add_argument(
        "--tsa-root", type=Path, metavar="PEM", help="time-stamp authorities to trust; kept unchecked without"
    )
    watch.add_argument("--once", action="store_true", help="one turn, then exit with its code")
    watch.add_argument("--interval", type=float, default=60.0, metavar="S", help="seconds between turns")
    watch.add_argument(
        "--sample", type=int, default=10, help="stretches of old readings to compare again a turn"
    )
    watch.add_argument("--serve", type=int, metavar="PORT", help="serve the mirror read-only on this port")
    watch.add_argument("--serve-address", default="127.0.0.1", help="address to serve on")
    watch.set_defaults(run=run)
    two = commands.add_parser("compare", help="hold two views of one log against each other")
    two.add_argument("a", metavar="A", help="URL, checkpoint file, or a monitor's home")
    two.add_argument("b", metavar="B", help="URL, checkpoint file, or a monitor's home")
    two.add_argument("--url", action="append", default=[], help="log or mirror to take tiles from")
    two.add_argument("--policy", type=Path, help="check the signatures of both first")
    two.add_argument("-o", "--output", type=Path, default=Path("proof.json"), help="where a fork proof goes")
    two.set_defaults(run=run_compare)
    check = commands.add_parser("check", help="check a proof file offline")
    check.add_argument("proof", type=Path)
    check.add_argument("--policy", required=True, type=Path, help="your own policy file")
    check.set_defaults(run=run_check)
    return parser


if __name__ == "__main__":
    sys.exit(main())
