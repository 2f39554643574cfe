"""The program stackwitness-verify: check an export bundle offline."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from stackwitness_client.verify import verify_bundle
from stackwitness_client.verify.report import EXIT_TEXTS

UNREADABLE = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Verify one bundle, print the account and return the exit code (0 ok, 1 .. 4 see --help)."""
    arguments = _parser().parse_args(argv)
    try:
        policy = arguments.policy.read_text("utf-8") if arguments.policy else None
        known = arguments.known.read_bytes() if arguments.known else None
        proof = arguments.known_proof.read_text("ascii") if arguments.known_proof else None
        report = verify_bundle(
            arguments.bundle,
            policy,
            known,
            trust_bundle_policy=arguments.trust_bundle_policy,
            known_proof=proof,
            tsa_roots=arguments.tsa_root.read_bytes() if arguments.tsa_root else None,
            rerun_detectors=arguments.rerun_detectors,
        )
        if arguments.json:
            text = json.dumps(report.to_json(), ensure_ascii=False, indent=2)
            arguments.json.write_text(text + "\n", "utf-8")
    except (OSError, UnicodeDecodeError) as error:
        print(f"stackwitness-verify: {error}", file=sys.stderr)
        return UNREADABLE
    sys.stdout.write(report.text())
    return report.exit_code


def _parser() -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code}  {text}" for code, text in EXIT_TEXTS.items())
    parser = argparse.ArgumentParser(
        prog="stackwitness-verify",
        description="Check an export bundle offline, with public keys only.",
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path, help="the .zip to check")
    parser.add_argument("--policy", type=Path, help="your own policy file, got independently of the bundle")
    parser.add_argument("--known", type=Path, help="a signed checkpoint of the log you kept from earlier")
    parser.add_argument(
        "--known-proof", type=Path, help="consistency proof from it to this bundle, a b64 hash per line"
    )
    parser.add_argument(
        "--tsa-root", type=Path, help="PEM of the time-stamp authorities' roots you trust, for the anchors"
    )
    parser.add_argument(
        "--rerun-detectors",
        action="store_true",
        help="compute the findings again (needs pip install 'stackwitness[server]')",
    )
    parser.add_argument("--json", type=Path, help="write the report as JSON to this file")
    parser.add_argument(
        "--trust-bundle-policy", action="store_true", help="accept the log key that the bundle itself brings"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
