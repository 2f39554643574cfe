"""Step 3: which checkpoint to believe, by the verifier's own policy and by what the verifier knew before."""

from dataclasses import dataclass

from emdi.bundle import BundleReader
from emdi.checkpoint import Checkpoint, parse_checkpoint
from emdi.encoding import b64_decode
from emdi.errors import BundleError, EmdiError, EncodingError, NoteError, PolicyError
from emdi.note import parse_note
from emdi.policy import Policy, parse_policy
from stackwitness_client.verify.report import Report, Step, Verdict


@dataclass(frozen=True, slots=True)
class Trust:
    """The policy in force (None when there is none), the bundle's checkpoint and one the verifier kept."""

    policy: Policy | None
    checkpoint: Checkpoint
    known: Checkpoint | None
    known_path: tuple[bytes, ...] | None = None


def choose_policy(
    reader: BundleReader, text: str | None, trust_bundle: bool, report: Report
) -> Policy | None:
    """Return the verifier's policy; without one the bundle's own, which proves nothing by itself."""
    step = report.step(3)
    if text is not None:
        try:
            return parse_policy(text)
        except (PolicyError, NoteError) as error:
            step.add(Verdict.POLICY, error.code, f"your policy cannot be used: {error.message}")
        return None
    warning = (
        "NO POLICY OF YOUR OWN: the log key is the one the bundle itself brings, so a forger could bring his"
    )
    report.note(warning)
    if not trust_bundle:
        step.add(
            Verdict.POLICY, "policy.own", f"{warning}; give --policy, or --trust-bundle-policy to accept this"
        )
    try:
        return parse_policy(reader.text("policy.txt"))
    except (EmdiError, KeyError) as error:
        step.add(Verdict.MALFORMED, "policy.bundle", f"policy.txt cannot be used: {error}", file="policy.txt")
        return None


def open_trusted(note: bytes, policy: Policy | None, step: Step, name: str) -> Checkpoint | None:
    """Read a checkpoint, recording what is wrong with its signatures; None when it is not even readable."""
    if policy is not None:
        try:
            policy.check(note)
        except PolicyError as error:
            step.add(Verdict.POLICY, error.code, f"{name}: {error.message}", file=name)
        except NoteError as error:
            verdict = Verdict.TAMPERED if error.code == "note.signature" else Verdict.MALFORMED
            step.add(verdict, error.code, f"{name}: {error.message}", file=name)
    try:
        return parse_checkpoint(parse_note(note).text)
    except NoteError as error:
        step.add(Verdict.MALFORMED, error.code, f"{name}: {error.message}", file=name)
        return None


def establish_trust(
    reader: BundleReader,
    policy_text: str | None,
    known: bytes | None,
    trust_bundle: bool,
    report: Report,
    known_proof: str | None = None,
) -> Trust | None:
    """Check the bundle's checkpoint; None when there is no checkpoint to hold anything against."""
    step = report.step(3)
    policy = choose_policy(reader, policy_text, trust_bundle, report)
    try:
        checkpoint = open_trusted(reader.read("checkpoint"), policy, step, "checkpoint")
    except BundleError as error:
        step.add(Verdict.MALFORMED, error.code, error.message, file="checkpoint")
        return None
    if checkpoint is None:
        return None
    kept = None if known is None else open_trusted(known, policy, step, "known checkpoint")
    report.checkpoint = {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
    }
    if kept is not None:
        compare_known(kept, checkpoint, step, "checkpoint")
    step.finish(f"{checkpoint.origin}, size {checkpoint.size}" + ("" if policy else ", by no policy"))
    return Trust(policy, checkpoint, kept, _parse_path(known_proof, step))


def compare_known(known: Checkpoint, other: Checkpoint, step: Step, name: str) -> None:
    """Hold a checkpoint against the one the verifier kept; same size and another root is a fork."""
    if known.origin != other.origin:
        step.add(
            Verdict.POLICY, "known.origin", f"your known checkpoint is of {known.origin}, not {other.origin}"
        )
    elif known.size == other.size and known.root != other.root:
        message = (
            f"FORK: {name} and your known checkpoint have size {known.size} and different roots; keep both"
        )
        step.add(Verdict.TAMPERED, "known.fork", message, file=name)


def _parse_path(text: str | None, step: Step) -> tuple[bytes, ...] | None:
    """Read a consistency proof, one b64 hash per line."""
    if text is None:
        return None
    try:
        return tuple(b64_decode(line) for line in text.splitlines())
    except EncodingError as error:
        step.add(Verdict.MALFORMED, "known.proof", f"--known-proof cannot be read: {error.message}")
        return None
