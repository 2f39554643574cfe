"""What the checker found: one line each, naming table, key and log index."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

MAX_FINDINGS = 1000

Severity = Literal["tampered", "missing"]


@dataclass(frozen=True)
class Finding:
    """One contradiction. `severity`: tampered (something differs) or missing (something is gone).

    `table` is a table's name, or `disk` or `signer`; `key` names the row; `idx` the log entry, None where
    none is concerned.
    """

    severity: Severity
    code: str
    table: str
    key: str
    idx: int | None
    text: str

    def line(self) -> str:
        """Return the finding for people."""
        place = "" if self.idx is None else f" (idx {self.idx})"
        return f"{self.severity}: {self.table} {self.key}{place}: {self.text}"


# What no signature speaks for, by the name it is counted under.
UNCHECKED = {
    "ddl_seen.frozen": "changes of the schema since the log was frozen, which no event can name any more: the schema as"
    " it stands was compared with the signed one, the way there was not",
    "catalog_baseline.passed": "signed catalogs of revisions that have passed, of which a rebuild knew the SHA-256 alone",
}


@dataclass
class Report:
    """All findings (the first 1000 in full) and what was looked at; `unchecked` counts what cannot be, see UNCHECKED."""

    findings: list[Finding] = field(default_factory=list)
    tampered: int = 0
    missing: int = 0
    entries: int = 0
    envelopes: int = 0
    events: int = 0
    readings: int = 0
    size: int = 0
    pending: int = 0
    unchecked: dict[str, int] = field(default_factory=dict)

    def tamper(self, code: str, table: str, key: str, text: str, idx: int | None = None) -> None:
        """Note that something differs from what was signed."""
        self.tampered += 1
        self._keep(Finding("tampered", code, table, key, idx, text))

    def miss(self, code: str, table: str, key: str, text: str, idx: int | None = None) -> None:
        """Note that something signed is gone."""
        self.missing += 1
        self._keep(Finding("missing", code, table, key, idx, text))

    @property
    def exit_code(self) -> int:
        """0 clean, 1 tampered, 2 incomplete."""
        return 1 if self.tampered else 2 if self.missing else 0

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON-able members."""
        return {"exit_code": self.exit_code, **asdict(self)}

    def _keep(self, finding: Finding) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)
