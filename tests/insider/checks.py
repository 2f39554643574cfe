"""The checks that stand outside an insider's reach, each brought into one form: a code and a line that names the place."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emdi.checkpoint import parse_checkpoint
from emdi.errors import EmdiError
from emdi.note import parse_note
from emdi.policy import format_policy
from emdi.receipt import parse_receipt, verify_receipt
from emdi.tiles import TileReader
from emdi.witness import CosignatureRequest, format_request
from stackwitness.db.roles import EVERY_AGENCY
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import StackwitnessError
from stackwitness.log.fsck import fsck
from stackwitness.readings.queries import select_suspects
from stackwitness_client.monitor.compare import compare, open_view
from stackwitness_client.verify import verify_bundle
from stackwitness_client.witness.cosigner import Reply
from tests.insider.scene import Scene

_IDX = re.compile(r"(?:idx |entry |leaf |index )(\d+)")


@dataclass(frozen=True)
class Found:
    """What one check says: its exit code (or HTTP status, or error code) and one line."""

    code: str
    says: str

    @property
    def idx(self) -> str:
        """Return the log index the line points to, or empty."""
        match = _IDX.search(self.says)
        return match[1] if match else ""


def by_fsck(scene: Scene) -> list[Found]:
    """`stackwitness fsck`: everything re-derived from the raw entries on disk and in the database."""
    report = fsck(scene.engine, scene.settings.log_dir, scene.policy, signer_dir=scene.settings.signer_dir)
    return [Found(str(report.exit_code), finding.line()) for finding in report.findings]


def by_log(scene: Scene) -> list[Found]:
    """The log process at its next turn: it compares what was signed before, and the signer re-hashes the disk."""
    try:
        loop = scene.log.start()
        loop.sequence()
        scene.log.note()
        loop.sequence()
        loop.publish()
    except (StackwitnessError, EmdiError) as error:
        return [Found(error.code, str(getattr(error, "detail", None) or error))]
    return []


def by_monitor(scene: Scene) -> list[Found]:
    """`stackwitness-monitor` on another machine: sees what any auditor may see, and has a mirror."""
    turn = scene.look()
    return [Found(str(turn.exit_code), f"{alarm.type}: {says}") for alarm, says in turn.raised]


def by_export(scene: Scene) -> list[Found]:
    """`stackwitness-verify` on a bundle exported after the deed."""
    return verify(scene, scene.export())


def by_bundle(scene: Scene) -> list[Found]:
    """`stackwitness-verify` on the bundle the court already has."""
    return verify(scene, scene.kept / "bundle.zip")


def verify(scene: Scene, bundle: Path) -> list[Found]:
    """Run the standalone verifier with the policy got from outside."""
    report = verify_bundle(bundle, format_policy(scene.policy))
    return [Found(str(report.exit_code), finding.line()) for finding in report.findings]


def by_suspects(scene: Scene) -> list[Found]:
    """What console and API show as suspect beside the readings."""
    with unit_of_work(scene.engine, "sw_read", EVERY_AGENCY) as conn:
        found = select_suspects(conn, "S1")
    return [
        Found(one.kid, f"{one.kid} follows {one.compromised_kid}: {one.envelopes} envelopes") for one in found
    ]


def by_notes(scene: Scene) -> list[Found]:
    """`stackwitness-verify` again: what is well signed is no finding, but the report says whose hands it may come from."""
    report = verify_bundle(scene.export(), format_policy(scene.policy))
    return [Found(str(report.exit_code), note) for note in report.notes if "is suspect" in note]


def by_witness(scene: Scene) -> list[Found]:
    """The witness, asked to cosign the checkpoint that the log now shows, with the proof the log can give."""
    last = parse_checkpoint(parse_note((scene.kept / "checkpoint").read_bytes()).text)
    reply = submit(scene, last.size, scene.log.reader.checkpoint())
    return [] if reply.status == 200 else [Found(str(reply.status), reply.body.decode().strip())]


def by_receipt(scene: Scene) -> list[Found]:
    """The station: its receipt and the log's present checkpoint cannot both be true."""
    view = open_view(str(scene.settings.log_dir), scene.policy)
    receipt = parse_receipt(next(scene.kept.glob("*.tlog-proof")).read_bytes())
    path = scene.kept / "receipt-checkpoint"
    path.write_bytes(receipt.checkpoint)
    compared = compare(view, open_view(str(path), scene.policy), (), 0)
    return [] if compared.proof is None else [Found("1", compared.says)]


def by_kept_receipts(scene: Scene) -> list[Found]:
    """Receipts given before the deed verify for ever, without the service."""
    for path in sorted(scene.kept.glob("*.tlog-proof")):
        place = verify_receipt(path.read_bytes(), path.with_suffix(".jws").read_bytes(), scene.policy)
        assert place.index >= 0
    return []


def submit(scene: Scene, old: int, note: bytes) -> Reply:
    """Ask the witness to cosign a checkpoint that follows size `old`."""
    checkpoint = parse_checkpoint(parse_note(note).text)
    reader = scene.log.reader
    proof: tuple[bytes, ...] = ()
    if 0 < old < checkpoint.size:
        proof = tuple(TileReader(reader.file, checkpoint.size).consistency(old))
    return scene.cosigner().add_checkpoint(format_request(CosignatureRequest(old, proof, note)))


Check = Callable[[Scene], list[Found]]
EXPORTING = {"new bundle", "bundle's notes"}  # without a log that goes on there is no export
# In this order on one copy: the last three write.
CHECKS: dict[str, Check] = {
    "fsck": by_fsck,
    "monitor": by_monitor,
    "witness": by_witness,
    "receipt": by_receipt,
    "old bundle": by_bundle,
    "suspects": by_suspects,
    "log process": by_log,
    "new bundle": by_export,
    "bundle's notes": by_notes,
}


def check_all(scene: Scene) -> dict[str, list[Found]]:
    """Return what each check says of a scene; where the log does not go on, nothing is asked for an export."""
    found: dict[str, list[Found]] = {}
    for name, check in CHECKS.items():
        if name not in EXPORTING or not found["log process"]:
            found[name] = check(scene)
    return found
