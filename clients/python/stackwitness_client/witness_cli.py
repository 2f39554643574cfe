"""The program stackwitness-witness: cosign the checkpoints of logs you have no part in."""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from emdi.errors import EmdiError
from emdi.note import VerifierKey
from emdi.policy import parse_policy
from stackwitness_client.errors import ClientError
from stackwitness_client.witness.cosigner import Cosigner
from stackwitness_client.witness.keys import KINDS, create_key, load_keys
from stackwitness_client.witness.memory import WitnessMemory
from stackwitness_client.witness.serving import WitnessServer

REFUSED = 3
STATE = "witness.sqlite"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what it says, 3 when it could not."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (ClientError, EmdiError, OSError) as error:
        print(f"stackwitness-witness: {error}", file=sys.stderr)
        return REFUSED
    return 0


def init(arguments: argparse.Namespace) -> None:
    """Make a key and print its public half."""
    signer = create_key(arguments.home, arguments.name, KINDS[arguments.kind])
    WitnessMemory(arguments.home / STATE)
    print(signer.vkey)


def vkey(arguments: argparse.Namespace) -> None:
    """Print the public halves of the keys."""
    for signer in load_keys(arguments.home, test_keys=True):
        print(signer.vkey)


def add_log(arguments: argparse.Namespace) -> None:
    """Trust logs: by their verifier key, or every log of a policy file."""
    memory = WitnessMemory(arguments.home / STATE)
    for item in arguments.log:
        path = Path(item)
        keys = (
            [log.key for log in parse_policy(path.read_text("utf-8")).logs]
            if path.is_file()
            else [VerifierKey.parse(item)]
        )
        for key in keys:
            memory.add_log(key)
            print(f"witnessing {key.name}")


def run(arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    logging.basicConfig(
        level=logging.INFO if arguments.verbose else logging.WARNING, format="%(asctime)s %(message)s"
    )
    memory = WitnessMemory(arguments.home / STATE)
    cosigner = Cosigner(memory, load_keys(arguments.home, test_keys=arguments.test_keys))
    with WitnessServer((arguments.host, arguments.port), cosigner) as server:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2})
        thread.start()
        print(f"ready {server.url} for {', '.join(memory.origins()) or 'no log yet (add-log)'}", flush=True)
        stop.wait()
        server.shutdown()
        thread.join()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stackwitness-witness", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, action: object) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=action.__doc__, description=action.__doc__)
        made.add_argument("--home", type=Path, required=True, help="folder of key and state, private")
        made.set_defaults(run=action)
        return made

    made = command("init", init)
    made.add_argument("name", help="name of the witness, such as witness.example.org/emissions")
    made.add_argument("--kind", choices=KINDS, default="ed25519", help="kind of key")
    command("vkey", vkey)
    made = command("add-log", add_log)
    made.add_argument("log", nargs="+", help="a log's verifier key, or a policy file that names it")
    made = command("run", run)
    made.add_argument("--host", default="127.0.0.1", help="address to listen on")
    made.add_argument("--port", type=int, default=7380, help="port to listen on; 0 takes a free one")
    made.add_argument("--verbose", action="store_true", help="a line for each request")
    made.add_argument("--test-keys", action="store_true", help="accept keys printed in public test vectors")
    return parser


if __name__ == "__main__":
    sys.exit(main())
