"""What a verification found: numbered steps, findings that name the culprit, and one exit code."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from emdi.errors import EmdiError
from emdi.legible import spell_out

MAX_FINDINGS = 200
MAX_NOTES = 200


class Verdict(StrEnum):
    """How a finding weighs.

    UNFOUNDED: signed by a key nothing here names, or done by somebody nothing here let in. SEAL: the seal does not fit the content. Either is forgery
    when it stands alone, and mere consequence when something is missing.
    """

    TAMPERED = "tampered"
    INCOMPLETE = "incomplete"
    UNFOUNDED = "unfounded"
    MALFORMED = "malformed"
    SEAL = "seal"
    POLICY = "policy"


# The first verdict found in this order decides: a missing envelope breaks the seal too, yet is "incomplete".
EXIT_CODES = {
    Verdict.TAMPERED: 1,
    Verdict.INCOMPLETE: 2,
    Verdict.UNFOUNDED: 1,
    Verdict.MALFORMED: 3,
    Verdict.SEAL: 1,
    Verdict.POLICY: 4,
}
EXIT_TEXTS = {
    0: "OK: everything in this bundle is as it was signed and logged",
    1: "TAMPERED: something was changed after it was signed or logged",
    2: "INCOMPLETE: something that was signed and logged is missing from the bundle",
    3: "UNVERIFIABLE: the bundle is malformed",
    4: "POLICY NOT MET: the log's signature or witnesses are not those you trust",
}


def weigh_signature(error: EmdiError) -> Verdict:
    """Weigh who signed or acted: an unknown key or officer is forgery only if nothing that could name it is missing."""
    unknown = ("key.unknown", "key.request", "officer.unknown")
    return Verdict.UNFOUNDED if error.code in unknown else Verdict.TAMPERED


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong: where (log index, table and row, envelope, flag) and what."""

    verdict: Verdict
    code: str
    message: str
    idx: int | None = None
    file: str | None = None
    row: int | None = None
    envelope: tuple[str, int, int] | None = None
    flag_id: str | None = None

    def line(self) -> str:
        """Return the finding as one line for people."""
        place = [f"idx {self.idx}"] if self.idx is not None else []
        place += [f"{self.file} row {self.row}"] if self.file and self.row is not None else []
        place += ["envelope {} ep {} seq {}".format(*self.envelope)] if self.envelope else []
        place += [f"flag {self.flag_id}"] if self.flag_id else []
        return f"{self.verdict}: {self.message}" + (f" [{', '.join(place)}]" if place else "")

    def to_json(self) -> dict[str, Any]:
        """Return the members that are known."""
        members: dict[str, Any] = {"verdict": str(self.verdict), "code": self.code, "message": self.message}
        for name in ("idx", "file", "row", "flag_id"):
            if getattr(self, name) is not None:
                members[name] = getattr(self, name)
        if self.envelope:
            members |= dict(zip(("stn", "ep", "seq"), self.envelope, strict=True))
        return members


@dataclass(slots=True)
class Step:
    """One numbered step; `done` says what was established when nothing was found."""

    number: int
    name: str
    done: str = ""
    findings: list[Finding] = field(default_factory=list)
    found: int = 0
    verdicts: set[Verdict] = field(default_factory=set)
    ran: bool = False
    skipped: str = ""

    def skip(self, why: str) -> None:
        """Say why an optional step was not taken."""
        self.skipped = why

    @property
    def state(self) -> str:
        """Return failed, ok, not checked or not reached."""
        if self.findings:
            return "failed"
        if self.skipped and not self.done:
            return "not checked"
        return "ok" if self.ran else "not reached"

    def add(self, verdict: Verdict, code: str, message: str, **place: Any) -> None:
        """Record a finding; past the first 200 of a step they are only counted."""
        self.ran = True
        self.found += 1
        self.verdicts.add(verdict)
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(verdict, code, message, **place))

    def finish(self, done: str) -> None:
        """Say what this step established."""
        self.ran = True
        self.done = done


STEPS = (
    "container: sizes, names, no undeclared member",
    "MANIFEST against the members",
    "checkpoint signature and policy",
    "Merkle proofs of every entry",
    "signatures, with keys from the log",
    "chains: envelopes and events without a hole",
    "seal: export.made in the log, bundle.note",
    "tables regenerated from the signed entries",
    "completeness: nothing of the period left out, by the heads of the log",
    "texts: disclosed, or withheld under a hash that a signed event binds",
    "Parquet tables written again from the signed entries",
    "time stamps (RFC 3161) on checkpoints of this log",
    "findings computed again from the same readings",
    "printed report: every number from this bundle",
)
OPTIONAL = {
    11: "the bundle has no Parquet tables",
    12: "the bundle has no time stamps",
    13: "not asked for",
    14: "the bundle has no printed report",
}
LIMITS = (
    "That the probe measured the gas of this stack, and measured it truly: the proof begins at the station's key.",
    "That the station sent everything it measured: what was never sent is in no log.",
    "That a text is true: a reason, a name or an explanation is bound to its author and time, not to the facts.",
    "That the time of receipt is true before the first cosignature or time stamp over it: until then it is the"
    " server's word.",
    "That envelopes received outside the exported runs hold no reading of the period: the log says late ones by"
    " late.arrival events, which are the service's word and which whoever reads the whole log can check.",
    "That the heads are those of the whole log: the service signed them, and monitors that read every entry"
    " recompute them; so does `stackwitness fsck`.",
    "That witnesses are independent of the operator: their names stand in your policy, their owners do not. Without"
    " witnesses in it, the log's operator could show someone else another history.",
)


class Report:
    """The account of one verification."""

    def __init__(self) -> None:
        self.steps = [
            Step(number, name, skipped=OPTIONAL.get(number, "")) for number, name in enumerate(STEPS, 1)
        ]
        self.counts = {
            "envelopes": 0,
            "readings": 0,
            "flags": 0,
            "reviews": 0,
            "events": 0,
            "quarantined": 0,
            "custody": 0,
        }
        self.notes: list[str] = []
        self.scope: dict[str, Any] = {}
        self.checkpoint: dict[str, Any] = {}

    def note(self, text: str) -> None:
        """Say something that is no fault, once; past the first 200 notes nothing more is said."""
        if text not in self.notes and len(self.notes) < MAX_NOTES:
            self.notes.append(text)

    def step(self, number: int) -> Step:
        """Return a step by its number."""
        return self.steps[number - 1]

    @property
    def findings(self) -> list[Finding]:
        """Return all findings kept, in the order of the steps."""
        return [finding for step in self.steps for finding in step.findings]

    @property
    def exit_code(self) -> int:
        """Return 0 ok, 1 tampered, 2 incomplete, 3 unverifiable, 4 policy not met."""
        present = {verdict for step in self.steps for verdict in step.verdicts}
        for verdict, code in EXIT_CODES.items():
            if verdict in present:
                return code
        return 0 if all(step.ran or step.skipped for step in self.steps) else 3

    def to_json(self) -> dict[str, Any]:
        """Return the report for machines."""
        steps = [
            {
                "number": step.number,
                "name": step.name,
                "state": step.state,
                "established": step.done,
                "why": step.skipped if step.state == "not checked" else "",
                "found": step.found,
                "findings": [finding.to_json() for finding in step.findings],
            }
            for step in self.steps
        ]
        summary = {"exit_code": self.exit_code, "result": EXIT_TEXTS[self.exit_code], "counts": self.counts}
        context = {"scope": self.scope, "checkpoint": self.checkpoint}
        return {**summary, **context, "steps": steps, "notes": self.notes, "limits": list(LIMITS)}

    def text(self) -> str:
        """Return the report for people."""
        lines: list[str] = []
        for step in self.steps:
            said = {"ok": f" - {step.done}" if step.done else "", "not checked": f": {step.skipped}"}
            state = "FAILED" if step.state == "failed" else step.state
            lines.append(f"{step.number}. {step.name}: {state}" + said.get(step.state, ""))
            lines += [f"   {finding.line()}" for finding in step.findings]
            if step.found > len(step.findings):
                lines.append(f"   ... and {step.found - len(step.findings)} more")
        lines += ["", ", ".join(f"{name}: {count}" for name, count in self.counts.items())]
        lines += [f"Note: {note}" for note in self.notes]
        lines += ["", "What this does not prove:", *(f"- {limit}" for limit in LIMITS), ""]
        return "\n".join(map(printable, [*lines, EXIT_TEXTS[self.exit_code]])) + "\n"


def printable(line: str) -> str:
    """Return the line with control characters spelled out: a bundle must not steer the reader's terminal, nor deceive
    the reader with letters that hide or pass for others.
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in spell_out(line))
