"""Verify an export bundle offline, with public keys only."""

from pathlib import Path

from emdi.bundle import BundleReader
from emdi.errors import BundleError, EmdiError
from emdi.event import parse_event
from emdi.scope import Scope, parse_scope
from stackwitness_client.verify.anchors import check_anchors
from stackwitness_client.verify.completeness import CompletenessCheck
from stackwitness_client.verify.container import check_container
from stackwitness_client.verify.contents import Contents
from stackwitness_client.verify.entries import EntryWalk
from stackwitness_client.verify.findings import check_findings
from stackwitness_client.verify.parquet import check_parquet
from stackwitness_client.verify.printed import check_printed
from stackwitness_client.verify.quarantined import check_quarantined
from stackwitness_client.verify.report import Finding, Report, Step, Verdict
from stackwitness_client.verify.seal import SealCheck
from stackwitness_client.verify.texts import check_texts
from stackwitness_client.verify.trust import establish_trust

__all__ = ["Finding", "Report", "Step", "Verdict", "verify_bundle"]


def verify_bundle(
    path: Path,
    policy_text: str | None,
    known_checkpoint: bytes | None = None,
    *,
    trust_bundle_policy: bool = False,
    known_proof: str | None = None,
    tsa_roots: bytes | None = None,
    rerun_detectors: bool = False,
) -> Report:
    """Check a bundle against the verifier's own policy and return the account; never raises for a bad bundle.

    `known_checkpoint` is a signed checkpoint of the same log kept from earlier, `known_proof` the lines of a
    consistency proof from it to the bundle's, for when the bundle itself lacks the hashes. Without a policy the bundle's
    own is used, which counts as "policy not met" unless `trust_bundle_policy`. `tsa_roots`: PEM
    of the time-stamp authorities to believe. `rerun_detectors` computes the findings again, where the service
    is installed. Memory use does not grow with the bundle. Raises OSError when the file itself cannot be read.
    """
    report = Report()
    try:
        reader = BundleReader(path)
    except BundleError as error:
        report.step(1).add(Verdict.MALFORMED, error.code, error.message)
        return report
    with reader:
        if not check_container(reader, report):
            return report
        trust = establish_trust(
            reader, policy_text, known_checkpoint, trust_bundle_policy, report, known_proof
        )
        if trust is None:
            return report
        scope = _read_scope(reader, report)
        contents = EntryWalk(reader, trust, Contents.of(scope, _stations_of_export(reader)), report).run()
        check_quarantined(reader, contents, report)
        SealCheck(reader, trust, contents, report).run(scope)
        CompletenessCheck(reader, contents, report).run(scope)
        check_texts(reader, contents, report)
        check_parquet(reader, report)
        check_anchors(reader, trust.checkpoint, tsa_roots, report)
        check_printed(reader, report)
        if rerun_detectors:
            check_findings(reader, contents.stns, report)
    return report


def _read_scope(reader: BundleReader, report: Report) -> Scope | None:
    if "scope.json" not in reader.sizes:
        return None
    try:
        scope = parse_scope(reader.read("scope.json"))
    except BundleError as error:
        report.step(1).add(Verdict.MALFORMED, error.code, error.message, file="scope.json")
        return None
    report.scope = {
        "export_id": scope.export_id,
        "stns": list(scope.stns),
        "from_ms": scope.from_ms,
        "to_ms": scope.to_ms,
        "entries": scope.entries,
        "requester": scope.requester,
        "purpose": scope.purpose,
        "redacted": scope.redacted,
        "head_as_of": scope.head_as_of,
    }
    return scope


def _stations_of_export(reader: BundleReader) -> tuple[str, ...]:
    """Return the stations that the seal names, for a bundle whose scope.json is gone."""
    try:
        stns = parse_event(reader.read("export.jws").removesuffix(b"\n")).data["stns"]
        return tuple(str(stn) for stn in stns)
    except (EmdiError, KeyError, TypeError):
        return ()
