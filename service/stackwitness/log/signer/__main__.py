"""Run the signer, or one of its actions on the key, as `stackwitness signer` and `up` start it."""

import json
import logging
import sys

from stackwitness.errors import StackwitnessError
from stackwitness.log.disk import Disk
from stackwitness.log.signer.keys import open_key_store
from stackwitness.log.signer.options import SignerOptions, parse_options
from stackwitness.log.signer.server import run_signer
from stackwitness.log.signer.signing import LogSigner
from stackwitness.log.signer.user import enter

FORMAT = "%(asctime)s [%(levelname)s] %(name)s %(message)s"


class JsonLines(logging.Formatter):
    """One JSON object a line, with the members of the other processes' logs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        members = {"event": record.getMessage(), "level": record.levelname.lower(), "logger": record.name}
        return json.dumps({**members, "timestamp": self.formatTime(record)})


def main() -> int:
    """Serve until SIGTERM, or do the one action asked for; 3 when key or state do not allow it."""
    options = parse_options(sys.argv[1:])
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if options.log_json else logging.Formatter(FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    try:
        act(options)
    except StackwitnessError as error:
        print(f"stackwitness signer: {error}", file=sys.stderr)
        return 3
    return 0


def act(options: SignerOptions) -> None:
    """Read passphrase or PIN while we may, become the signer's user, then act."""
    home = Disk(options.signer_dir)
    keys = open_key_store(options, home)
    enter(options)
    match options.action:
        case "next-key":
            if not keys.exists():
                keys.create(options.log_origin)
            print(keys.load()[0].vkey, keys.add_next(options.log_origin).vkey)
        case "retire-key":
            print(LogSigner.open(home, Disk(options.log_dir), options.log_origin, keys=keys).retire_key())
        case _:
            run_signer(options, init=options.init, keys=keys)


if __name__ == "__main__":
    sys.exit(main())
