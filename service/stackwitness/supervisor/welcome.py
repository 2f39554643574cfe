"""What a developer gets at the start: accounts, sign-in links, two officers' tokens. Never in production."""

from collections.abc import Iterator
from dataclasses import dataclass

from stackwitness.accounts import flow
from stackwitness.db.engine import make_engine
from stackwitness.db.unit import unit_of_work
from stackwitness.log.queries import find_successor
from stackwitness.log.service_keys import open_service_key
from stackwitness.private_file import write_private
from stackwitness.settings import Settings

# Two people stand behind a key: in development both are the developer.
OFFICERS = ("operator", "approver")


@dataclass(frozen=True)
class Welcome:
    """Hold the sign-in tokens by role."""

    links: dict[str, str]

    def lines(self, api_url: str) -> Iterator[str]:
        """Yield the banner and the links."""
        rule = "!" * 78
        yield rule
        yield "INSECURE development mode: whoever has these links is signed in. Never expose this."
        for role, token in self.links.items():
            yield f"  {role}: {api_url}/sign-in?token={token}"
        yield rule


def prepare_welcome(settings: Settings, database_url: str) -> Welcome | None:
    """Make development accounts, links, HOME/operator.token and HOME/approver.token; None where not allowed, or frozen."""
    if not settings.prints_dev_links:
        return None
    engine = make_engine(database_url, pool_size=1)
    signer = open_service_key(settings.key_dir)
    try:
        with unit_of_work(engine, "sw_review") as conn:
            if find_successor(conn) is not None:
                return None  # a token is an event: those that are out go on to count
            flow.ensure_development_accounts(conn, signer, settings.mode)
            links = {
                role: flow.issue_link(conn, signer, role) for role in ("inspector", "regulator", *OFFICERS)
            }
            tokens = {name: flow.issue_token(conn, signer, name, act=flow.DEVELOPMENT) for name in OFFICERS}
    finally:
        engine.dispose()
    for name, token in tokens.items():
        write_private(settings.home / f"{name}.token", token + "\n")
    return Welcome(links)
