"""The one error tree of what runs outside the server.

ClientError
├── ManifestError        a manifest or its data files cannot be read as described
├── KeyFileError         the station's home, key or configuration is missing or unsafe
├── RecordError          a reading cannot be recorded as given
├── SpoolError           the spool on disk cannot be used
│   └── ChainLost        the server's head and the spool no longer meet; an operator must open a new epoch
├── RegistrationWaits    a key was asked for, and another operator has to approve it
├── ServerError          the server could not be asked, or did not accept
│   ├── ServerUnreachable    no answer in time; the readings stay in the spool
│   ├── ServerBusy           429 or 5xx: try again later
│   └── ServerRefused        4xx: the same request would be refused again
└── ReceiptRefused       the server's proof is wrong; nothing is freed
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class ClientError(Exception):
    """Say what went wrong outside the server; `code` is stable and dotted."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.message = message


class ManifestError(ClientError):
    """Name the file and the line or key of a fault in a manifest or its data."""

    def __init__(self, code: str, path: Path | str, where: str, message: str) -> None:
        super().__init__(code, f"{path}: {where}: {message}" if where else f"{path}: {message}")
        self.path = Path(path)
        self.where = where


class KeyFileError(ClientError):
    """Refuse a station home whose key or configuration is missing, unreadable or open to others."""


class RecordError(ClientError):
    """Refuse a reading that cannot be recorded as given."""


class SpoolError(ClientError):
    """Refuse to go on with a spool that is not usable or belongs to another station."""


class ChainLost(SpoolError):
    """Say that the spool holds nothing that continues the chain the server knows."""


class RegistrationWaits(ClientError):
    """Say that a key signs nothing before another operator has approved it."""


class ServerError(ClientError):
    """Say that the server could not be asked or did not accept."""


class ServerUnreachable(ServerError):
    """Say that no answer came; the same request may be sent again."""

    def __init__(self, message: str) -> None:
        super().__init__("server.unreachable", message)


class ServerBusy(ServerError):
    """Say that the server asked to come back later (`retry_after_s` seconds, None = unsaid)."""

    def __init__(self, status: int, retry_after_s: float | None, message: str) -> None:
        super().__init__("server.busy", message)
        self.status = status
        self.retry_after_s = retry_after_s


class ServerRefused(ServerError):
    """Carry the problem document (RFC 9457) of a refusal that a retry would not change."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        code = str(problem.get("code") or f"server.status_{status}")
        said = problem.get("detail") or problem.get("title") or "no reason given"
        super().__init__(code, f"the server refused ({status}): {said}")
        self.status = status
        self.problem = problem


class ReceiptRefused(ClientError):
    """Say that a receipt or checkpoint of the server does not hold; nothing was freed."""
