"""One tree of errors; each becomes an RFC 9457 problem with a stable `code`.

StackwitnessError
├── BadRequest 400          what was sent cannot be read
├── Unauthorized 401        who are you?
├── Forbidden 403           we know you, and you may not
├── NotFound 404
├── Conflict 409            clashes with what is stored
│   └── LogFrozen           this log takes nothing more; its successor does
├── TooLarge 413
├── Unprocessable 422       readable, and wrong
└── Unavailable 503         try again (Retry-After)
    ├── TooManyPending      the log is behind: back-pressure
    ├── DatabaseUnavailable
    └── LogUnavailable      the log or its signer does not answer
"""

from typing import Any

TYPE_PREFIX = "urn:stackwitness:error:"


class StackwitnessError(Exception):
    """Say what went wrong; `extra` members go into the problem body beside the standard ones."""

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        *,
        detail: str = "",
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(f"{code}: {detail or title}")
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra

    def problem(self) -> dict[str, Any]:
        """Return the members of the problem body (RFC 9457 3.1)."""
        return problem_members(self.status, self.code, self.title, self.detail, **self.extra)


def problem_members(status: int, code: str, title: str, detail: str = "", **extra: Any) -> dict[str, Any]:
    """Return the members of a problem body in their usual order."""
    standard = {"type": TYPE_PREFIX + code, "title": title, "status": status, "code": code}
    return {**standard, "detail": detail or title, **extra}


class BadRequest(StackwitnessError):
    """The request cannot be read."""

    def __init__(self, code: str, title: str, **extra: Any) -> None:
        super().__init__(400, code, title, **extra)


class Unauthorized(StackwitnessError):
    """The caller is not known."""

    def __init__(
        self, code: str = "account.unknown", title: str = "Sign in, or send a bearer token", **extra: Any
    ) -> None:
        super().__init__(401, code, title, headers={"WWW-Authenticate": "Bearer"}, **extra)


class Forbidden(StackwitnessError):
    """The caller is known and may not do this."""

    def __init__(
        self, code: str = "account.role", title: str = "Your role may not do this", **extra: Any
    ) -> None:
        super().__init__(403, code, title, **extra)


class NotFound(StackwitnessError):
    """There is no such thing."""

    def __init__(self, code: str, title: str, **extra: Any) -> None:
        super().__init__(404, code, title, **extra)


class Conflict(StackwitnessError):
    """The request clashes with what is stored."""

    def __init__(self, code: str, title: str, **extra: Any) -> None:
        super().__init__(409, code, title, **extra)


class LogFrozen(Conflict):
    """This log takes no entry any more; `successor_origin` names the one that does."""

    def __init__(
        self,
        successor_origin: str,
        code: str = "log.frozen",
        title: str = "This log is frozen",
        why: str = "",
        **extra: Any,
    ) -> None:
        detail = f"it goes on in {successor_origin}: see docs/runbooks/shards.md"
        detail = f"{why}; {detail}" if why else detail
        super().__init__(code, title, detail=detail, successor_origin=successor_origin, **extra)
        self.successor_origin = successor_origin


class TooLarge(StackwitnessError):
    """The body is larger than allowed."""

    def __init__(self, code: str, title: str, **extra: Any) -> None:
        super().__init__(413, code, title, **extra)


class Unprocessable(StackwitnessError):
    """The request was read, and is wrong."""

    def __init__(self, code: str, title: str, **extra: Any) -> None:
        super().__init__(422, code, title, **extra)


class Unavailable(StackwitnessError):
    """Something behind the service does not answer now; `retry_after_s` says when to come back."""

    def __init__(self, code: str, title: str, *, retry_after_s: int = 1, **extra: Any) -> None:
        super().__init__(503, code, title, headers={"Retry-After": str(retry_after_s)}, **extra)


class TooManyPending(Unavailable):
    """Too many leaves wait for the log."""

    def __init__(
        self, code: str = "log.behind", title: str = "The log is behind; try again", **extra: Any
    ) -> None:
        super().__init__(code, title, **extra)


class DatabaseUnavailable(Unavailable):
    """The database does not answer, or gave up a lock."""

    def __init__(
        self,
        code: str = "database.unavailable",
        title: str = "The database does not answer; try again",
        **extra: Any,
    ) -> None:
        super().__init__(code, title, **extra)


class LogUnavailable(Unavailable):
    """The log or its signer does not answer."""

    def __init__(
        self, code: str = "log.unavailable", title: str = "The log does not answer; try again", **extra: Any
    ) -> None:
        super().__init__(code, title, **extra)
