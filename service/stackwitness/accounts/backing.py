"""Whether rows of the database are what was signed: an insider writes rows, but signs no events."""

from collections.abc import Mapping
from functools import lru_cache

from emdi.errors import EmdiError
from emdi.event import Event, parse_event, verify_signature
from emdi.keys import PublicKey
from stackwitness.accounts.domain import FoundToken, subject_of


def is_backed(found: FoundToken, service_public: PublicKey) -> bool:
    """Tell whether signed events granted the account its role and agency, and issued this very token."""
    account, subj = found.account, subject_of(found.account.account_id)
    granted = {"account_id": account.account_id, "role": account.role, "agency": account.agency}
    issued = {
        "account_id": account.account_id,
        "kind": found.kind,
        "token_sha256": found.token_hash.hex(),
        "expires_ms": found.expires_ms,
    }
    return _says(found.grant_jws, service_public, "access.grant", subj, granted) and _says(
        found.token_jws, service_public, "access.token", subj, issued
    )


def _says(jws: bytes, public: PublicKey, typ: str, subj: str, members: Mapping[str, object]) -> bool:
    event = _open_event(jws, public)
    return (
        event is not None and (event.typ, event.subj) == (typ, subj) and members.items() <= event.data.items()
    )


@lru_cache(maxsize=4096)
def _open_event(jws: bytes, public: PublicKey) -> Event | None:
    """Return the event if its signature holds; remembered, since every request asks again."""
    try:
        event = parse_event(jws)
        verify_signature(event, public)
    except EmdiError:
        return None
    return event
