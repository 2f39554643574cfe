"""Whether rows of the database are what was signed: an insider writes rows, but signs no events."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from emdi.errors import EmdiError
from emdi.event import Event, parse_event, verify_signature
from emdi.keys import PublicKey
from emdi.service_keys import ServiceSpan
from stackwitness.accounts.domain import FoundToken, subject_of
from stackwitness.log.service_keys import find_public


def is_backed(found: FoundToken, spans: Sequence[ServiceSpan]) -> bool:
    """Tell whether events signed by the service's keys, each while it signed and nobody suspected it, granted the
    account its role and agency, and issued this very token.
    """
    account, subj = found.account, subject_of(found.account.account_id)
    granted = {"account_id": account.account_id, "role": account.role, "agency": account.agency}
    issued = {
        "account_id": account.account_id,
        "kind": found.kind,
        "token_sha256": found.token_hash.hex(),
        "expires_ms": found.expires_ms,
    }
    grant, token = (found.grant_jws, found.grant_idx), (found.token_jws, found.token_idx)
    return _says(*grant, spans, "access.grant", subj, granted) and _says(
        *token, spans, "access.token", subj, issued
    )


def _says(
    jws: bytes,
    idx: int | None,
    spans: Sequence[ServiceSpan],
    typ: str,
    subj: str,
    members: Mapping[str, object],
) -> bool:
    event = _parse(jws)
    if event is None or (event.typ, event.subj) != (typ, subj) or not members.items() <= event.data.items():
        return False
    public = find_public(spans, event.kid, idx)
    return public is not None and _holds(jws, public)


@lru_cache(maxsize=4096)
def _parse(jws: bytes) -> Event | None:
    try:
        return parse_event(jws)
    except EmdiError:
        return None


@lru_cache(maxsize=4096)
def _holds(jws: bytes, public: PublicKey) -> bool:
    """Remembered, since every request asks again."""
    event = _parse(jws)
    try:
        if event is not None:
            verify_signature(event, public)
    except EmdiError:
        return False
    return event is not None
