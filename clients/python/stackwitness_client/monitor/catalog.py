"""Hold the database's catalog, as the server reports it, against the baseline the log signed."""

import hashlib
from collections.abc import Iterator

from stackwitness_client.errors import ServerUnreachable
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor.finding import Finding
from stackwitness_client.monitor.state import State

# docs/database.md; an administrator may honestly take rights from PostgreSQL's own functions before a catalog is signed.
BENT, PERHAPS_HARDENED = "bent ", "bent pg_"
MAX_CHANGES = 50
MAX_LINES = 20_000
MAX_LINE_CHARS = 20_000  # longer than any definition; whatever is shown goes into an alarm


def check_catalog(link: ServerLink, state: State) -> Iterator[Finding]:
    """Yield the change of a trigger, grant, function or table that no signed baseline covers; raise ServerError."""
    baseline = state.get("baseline")
    if baseline is None:
        return
    shown = link.ask("GET", "/v1/catalog").json()
    try:
        lines = [str(line)[:MAX_LINE_CHARS] for line in shown["lines"]]
    except (KeyError, TypeError) as error:
        raise ServerUnreachable(f"the answer of /v1/catalog has another shape: {error}") from error
    bent = [line for line in lines if line.startswith(BENT) and not line.startswith(PERHAPS_HARDENED)]
    yield from _bent(bent, baseline["idx"])
    lines = [line for line in lines if line not in bent]
    digest = catalog_digest(lines)
    if digest == baseline["sha256"]:
        with state.transaction():
            state.put("catalog", lines[:MAX_LINES])
        return
    known = state.get("catalog", [])
    changes = [f"- {line}" for line in sorted(set(known) - set(lines))]
    changes += [f"+ {line}" for line in sorted(set(lines) - set(known))] if known else []
    says = f"the database's catalog is not the signed baseline (entry {baseline['idx']})"
    says += "".join(f"; {change}" for change in changes[:3])
    seen = {"sha256": digest, "lines": len(lines), "changes": changes[:MAX_CHANGES]}
    yield Finding("catalog", f"catalog:{baseline['idx']}:{digest}", says, (baseline["idx"],), seen)


def _bent(bent: list[str], idx: int) -> Iterator[Finding]:
    """Yield what takes effect out of definitions that stand as before: no honest catalog has it, and none is signed."""
    if bent:
        says = f"the database's catalog does not hold what it defines: {'; '.join(bent[:3])}"
        seen = {"sha256": catalog_digest(bent), "lines": len(bent), "changes": bent[:MAX_CHANGES]}
        yield Finding("catalog", f"catalog:bent:{seen['sha256']}", says, (idx,), seen)


def catalog_digest(lines: list[str]) -> str:
    """Return SHA-256 in hex over the lines, each ended by a line feed."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
