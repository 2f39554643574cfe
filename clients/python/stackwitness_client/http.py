"""Ask the server: one client, one way to read its refusals, and the waiting between attempts."""

from __future__ import annotations

import json
import random
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

import httpx2

from stackwitness_client.errors import ServerBusy, ServerRefused, ServerUnreachable

BUSY = frozenset({429, 500, 502, 503, 504})
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
# The server is not trusted: no answer may be larger, and none may drip in for longer.
MAX_ANSWER_BYTES = 16 << 20
MAX_FILE_BYTES = 128 << 20
ANSWER_WITHIN_S = 600.0


@cache
def certificates(*, trust_env: bool) -> ssl.SSLContext:
    """Return the authorities a connection trusts, read once a process; `trust_env`: also those that SSL_CERT_FILE or SSL_CERT_DIR names."""
    return httpx2.create_ssl_context(trust_env=trust_env)


@dataclass
class Backoff:
    """Space out attempts: exponential with full jitter, never earlier than the server's Retry-After."""

    first_s: float = 0.25
    cap_s: float = 30.0
    random: random.Random = field(default_factory=random.SystemRandom)
    _failures: int = 0

    def next_s(self, retry_after_s: float | None = None) -> float:
        """Return how many seconds to wait before the next attempt."""
        ceiling = min(self.cap_s, self.first_s * 2.0**self._failures)
        self._failures = min(self._failures + 1, 32)
        jittered = self.random.uniform(ceiling / 2, ceiling)
        return jittered if retry_after_s is None else max(retry_after_s, 0.0) + jittered - ceiling / 2

    def reset(self) -> None:
        """Start again from the shortest wait: an attempt succeeded."""
        self._failures = 0


@dataclass(frozen=True)
class Answer:
    """Hold one answer: status, body bytes."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Parse the body as JSON; a body that is none counts as no answer, and so do NaN and lone surrogates."""
        try:
            value = json.loads(self.body, parse_constant=_refuse_constant)
            if b"\\u" in self.body:
                json.dumps(value, ensure_ascii=False).encode()
            return value
        except (ValueError, RecursionError) as error:
            raise ServerUnreachable(f"the answer is not JSON: {error}") from error


class ServerLink:
    """Talk to one server, by its own address or that of its log (ending in /log); every method raises ServerUnreachable, ServerBusy or ServerRefused."""

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 60.0) -> None:
        self.url = base_of(url)
        # Not compressed: a small answer could unfold without end.
        headers = {"user-agent": "stackwitness-client", "accept-encoding": "identity"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        # A proxy of the environment must never stand between two processes of one machine.
        trust_env = urlsplit(self.url).hostname not in LOOPBACK
        self._client = httpx2.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx2.Timeout(timeout_s, connect=10.0),
            trust_env=trust_env,
            verify=certificates(trust_env=trust_env),
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        data: Any = None,
        query: Mapping[str, Any] | None = None,
        accept: Iterable[int] = (),
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Send one request; 2xx and the statuses in `accept` are returned, everything else is raised."""
        headers = {} if data is None else {"content-type": "application/json"}
        content = json.dumps(data).encode() if data is not None else body
        try:
            with self._client.stream(
                method, path, content=content, headers=headers, params=dict(query) if query else None
            ) as response:
                answer = Answer(response.status_code, b"".join(_within(response, max_bytes)))
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise ServerUnreachable(f"{self.url}: {error or type(error).__name__}") from error
        if response.is_success or response.status_code in accept:
            return answer
        if response.status_code in BUSY:
            raise ServerBusy(
                response.status_code,
                retry_after_s(response.headers.get("retry-after")),
                f"{method} {path} answered {response.status_code}",
            )
        raise ServerRefused(response.status_code, problem_of(answer.body))

    # What a station needs ---------------------------------------------------------------------------------
    def send_envelopes(self, lines: Sequence[bytes]) -> Any:
        """Send signed envelopes of one station in order; return {"stored": [...], "known": [...]}."""
        return self.ask("POST", "/v1/envelopes", body=b"\n".join(lines)).json()

    def receipts(self, env_ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the receipts that exist by now, by envelope id."""
        answer = self.ask(
            "POST", "/v1/receipts", data={"env_ids": [env_id.hex() for env_id in env_ids]}
        ).json()
        try:
            return {
                bytes.fromhex(key): text.encode()
                for key, text in answer["receipts"].items()
                if text is not None
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ServerUnreachable("the answer of /v1/receipts has another shape") from error

    def station_head(self, stn: str) -> tuple[int, int, bytes] | None:
        """Return the head (ep, seq, env_id) the server knows of a station, or None."""
        answer = self.ask("GET", f"/v1/stations/{quote(stn, safe='')}/head", accept=(404,))
        return None if answer.status == 404 else head_of(answer.json())

    def policy(self) -> str:
        """Return the log's policy text; pin it only where trust on first use is acceptable."""
        return self.ask("GET", "/log/policy").body.decode("utf-8", "strict")

    def tile(self, path: str) -> bytes:
        """Return a tile of the log; raises FileNotFoundError when it does not exist."""
        answer = self.ask("GET", f"/log/{path}", accept=(404,), max_bytes=MAX_FILE_BYTES)
        if answer.status == 404:
            raise FileNotFoundError(path)
        return answer.body


def _within(response: httpx2.Response, max_bytes: int) -> Iterator[bytes]:
    """Pass on a body as it was sent, up to a size and a time; raise ServerUnreachable beyond either."""
    deadline, taken = time.monotonic() + ANSWER_WITHIN_S, 0
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ServerUnreachable("the answer is compressed, which was not asked for")
    for part in response.iter_raw():
        taken += len(part)
        if taken > max_bytes:
            raise ServerUnreachable(f"the answer is longer than {max_bytes} bytes")
        if time.monotonic() > deadline:
            raise ServerUnreachable("the answer takes too long")
        yield part


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def base_of(url: str) -> str:
    """Return the address of a server: policies and people also name its log, which lies below /log."""
    return url.rstrip("/").removesuffix("/log")


def head_of(body: Any) -> tuple[int, int, bytes] | None:
    """Read {"ep","seq","env_id"} (or null) of an answer."""
    if not body:
        return None
    try:
        if body["ep"] is None:
            return None
        return int(body["ep"]), int(body["seq"]), bytes.fromhex(body["env_id"])
    except (KeyError, TypeError, ValueError) as error:
        raise ServerUnreachable("the server's head has another shape") from error


def retry_after_s(header: str | None) -> float | None:
    """Read Retry-After in its seconds form (RFC 9110 10.2.3); dates and nonsense count as unsaid."""
    return float(header) if header and header.isascii() and header.isdigit() and len(header) < 6 else None


def problem_of(body: bytes) -> Mapping[str, Any]:
    """Read a problem body; anything else becomes an empty problem with the text as its detail."""
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        problem = None
    return problem if isinstance(problem, dict) else {"detail": body[:200].decode("utf-8", "replace")}
