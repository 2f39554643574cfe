"""What can go wrong inside the log. All of it stops signing; none of it stops ingest before the queue is
full.
"""

from typing import Any

from stackwitness.errors import LogUnavailable


class LogCorrupt(LogUnavailable):
    """The database contradicts itself or the disk: nothing is published or signed."""

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__("log.corrupt", "The log contradicts itself", detail=detail, **extra)


class LogForked(LogUnavailable):
    """The database is not the one that was signed: an older copy, another history, another key."""

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__("log.forked", "The log is not the one that was signed", detail=detail, **extra)


class LogOvertaken(LogUnavailable):
    """Another sequencer extended the log first: forget everything and read again."""

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__("log.overtaken", "Another sequencer was first", detail=detail, **extra)


class LogKeyInvalid(LogUnavailable):
    """A key file that cannot be used."""

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__("log.key", "A key of the log cannot be used", detail=detail, **extra)


class ServiceKeyUnusable(LogUnavailable):
    """The key that signs events now is not one this process holds."""

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(
            "log.service_key", "The key that signs events cannot be used", detail=detail, **extra
        )


class PolicyUnusable(LogUnavailable):
    """The policy file cannot be read, or is of another log."""

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__("log.policy", "The policy file cannot be used", detail=detail, **extra)


class QuorumMissing(LogUnavailable):
    """Too few witnesses cosigned, and the settings ask for all the policy asks for: nothing is published."""

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__("log.quorum", "The quorum of witnesses is missing", detail=detail, **extra)


class SignerRefused(LogUnavailable):
    """The signer says no; `code` says why, and asking again will not help."""

    def __init__(self, code: str, detail: str, **extra: Any) -> None:
        super().__init__(code, "The signer refuses", detail=detail, **extra)


class SignerUnavailable(LogUnavailable):
    """The signer does not answer, or could not keep its state: ask again."""

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__("signer.unavailable", "The signer does not answer", detail=detail, **extra)
