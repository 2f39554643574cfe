"""Step 13: the detectors run again over the same readings. They are the service's; without it this is not checked."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from emdi.bundle import BundleReader
from emdi.errors import EmdiError
from emdi.judging import MISSING
from stackwitness_client.verify.report import Report, Verdict

RERUN = "stackwitness.evidence.rerun"


def check_findings(reader: BundleReader, stns: Iterable[str], report: Report) -> None:
    """Run the detectors again for each station and compare every run and every flag."""
    step = report.step(13)
    try:
        rerun: Any = import_module(RERUN)
    except ImportError as error:
        step.skip(
            f"what the detectors need is not installed ({error.name}): pip install 'stackwitness[server]'"
        )
        return
    said, again = [], 0
    try:
        accounts = rerun.rerun_bundle(reader, stns)
    except EmdiError as error:
        step.add(Verdict.MALFORMED, error.code, error.message, file="entries.bin")
        return
    for account in accounts:
        for one in account.differences:
            verdict = Verdict.INCOMPLETE if one.code in MISSING else Verdict.TAMPERED
            step.add(verdict, one.code, f"station {account.stn}: {one.text}", idx=one.idx)
        for why in account.skipped:
            report.note(f"Findings of station {account.stn} not computed again: {why}.")
        again += account.runs
        said.append(f"{account.stn}: {account.runs} runs, {account.flags} flags, {account.readings} readings")
    if again == 0 and not step.findings:
        step.skip("no run of the detectors lies wholly within this bundle; see the notes")
        return
    step.finish("the same findings; " + "; ".join(said))
