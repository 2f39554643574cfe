"""Run the checker for a person or a script."""

import json
import sys
from pathlib import Path

import sqlalchemy as sa
from rich.console import Console
from rich.progress import Progress

from emdi.policy import parse_policy
from stackwitness.log.fsck.check import fsck
from stackwitness.log.fsck.report import UNCHECKED
from stackwitness.settings import Settings
from stackwitness_client.verify.report import printable


def run_fsck(
    engine: sa.Engine, settings: Settings, *, as_json: bool = False, policy_file: Path | None = None
) -> int:
    """Check the log, print each finding (or one JSON object), return 0 clean, 1 tampered, 2 incomplete."""
    policy = parse_policy(policy_file.read_text()) if policy_file else None
    console = Console(stderr=True)
    with Progress(console=console, disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("Checking entries", total=None)
        report = fsck(
            engine,
            settings.log_dir,
            policy,
            signer_dir=settings.signer_dir,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print(json.dumps(report.to_json(), ensure_ascii=False))
        return report.exit_code
    for finding in report.findings:
        print(printable(finding.line()))
    unseen = report.tampered + report.missing - len(report.findings)
    if unseen:
        print(f"... and {unseen} more")
    for name, count in report.unchecked.items():
        print(f"not checkable: {count} {UNCHECKED[name]}")
    verdict = "clean" if report.exit_code == 0 else f"{report.tampered} tampered, {report.missing} missing"
    print(
        f"{report.entries} entries, {report.envelopes} envelopes with {report.readings} readings, "
        f"{report.events} events, {report.pending} waiting: {verdict}"
    )
    return report.exit_code
