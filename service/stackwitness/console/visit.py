"""One visit of one page: who looks, in which language, and how a template becomes a response."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from emdi.legible import spell_out
from stackwitness import clock
from stackwitness.console import figures, words
from stackwitness.console.assets import load_assets
from stackwitness.console.locale import COOKIE, LOCALES, Tongue, choose_locale, offset_label, tongue
from stackwitness.console.views import DECISIONS, VERDICTS
from stackwitness.db.roles import NOBODY

if TYPE_CHECKING:
    from stackwitness.accounts.domain import Account
    from stackwitness.log.custody import What
    from stackwitness.wiring import Wiring

SESSION_COOKIE = "sw_session"
# 'self' only: no CDN, no inline script or style; uPlot styles through the object model, which CSP allows.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept-Language, Cookie",
}


@dataclass(frozen=True)
class Visit:
    """The request, the language, and the account if someone is signed in."""

    request: Request
    tongue: Tongue
    account: Account | None

    @property
    def wiring(self) -> Wiring:
        """Return the service's parts."""
        wiring: Wiring = self.request.app.state.wiring
        return wiring

    @property
    def sees(self) -> str:
        """Return whose stations the visitor sees, for unit_of_work."""
        return NOBODY if self.account is None else self.account.sees

    @property
    def csrf(self) -> str:
        """Return the token a form must carry, made from the session cookie, which no other site can read."""
        session = self.request.cookies.get(SESSION_COOKIE, "")
        return hashlib.sha256(b"stackwitness csrf\0" + session.encode()).hexdigest()

    def accepts(self, token: str) -> bool:
        """Tell whether a form's token belongs to this session."""
        return hmac.compare_digest(self.csrf.encode(), token.encode())

    def note_view(self, stns: Sequence[str], what: What, object_id: str) -> None:
        """Have the log know that this account sees this evidence of these stations."""
        assert self.account is not None
        self.wiring.custody.note(
            "evidence.viewed",
            stns=stns,
            what=what,
            object_id=object_id,
            account_id=self.account.account_id,
            agency=self.sees,
        )

    def render(self, template: str, status_code: int = 200, **facts: Any) -> HTMLResponse:
        """Fill a template and return it with the page headers."""
        path = self.request.url.path
        query = self.request.url.query
        body = (
            environment(self.tongue.code)
            .get_template(template)
            .render(
                t=self.tongue,
                account=self.account,
                csrf=self.csrf if self.account else "",
                here=f"{path}?{query}" if query else path,
                section=path.split("/")[1],
                now_ms=clock.now_ms(),
                insecure=self._is_insecure(),
                **facts,
            )
        )
        return HTMLResponse(body, status_code, headers={**HEADERS, "Content-Language": self.tongue.code})

    def _is_insecure(self) -> bool:
        wiring = getattr(self.request.app.state, "wiring", None)
        return wiring is not None and wiring.settings.mode == "development"


def visit_of(request: Request, account: Account | None = None) -> Visit:
    """Return the visit in the language of the cookie or of Accept-Language."""
    code = choose_locale(request.cookies.get(COOKIE), request.headers.get("accept-language"))
    return Visit(request, tongue(code), account)


def redirect(path: str, query: Mapping[str, str] | None = None) -> RedirectResponse:
    """Send the browser to a page of ours by GET."""
    target = f"{path}?{urlencode(query)}" if query else path
    return RedirectResponse(target, 303, headers={"Cache-Control": "no-store"})


def safe_path(path: str) -> str:
    """Return a path inside this site, or "/": an open redirect would lend our name to a phisher."""
    # Backslashes and control characters are read as slashes by some browsers.
    plain = path.isprintable() and "\\" not in path
    return path if plain and path.startswith("/") and not path.startswith("//") else "/"


def set_language(response: Response, code: str, secure: bool) -> None:
    """Remember the chosen language for a year."""
    if code in LOCALES:
        response.set_cookie(COOKIE, code, max_age=31_536_000, samesite="lax", secure=secure, httponly=True)


def _legible(value: object) -> object:
    """Spell out what would make a page read otherwise than it was signed."""
    if not isinstance(value, str) or value.isascii():
        return value
    shown = spell_out(value, keep="\n\t\r")
    return Markup(shown) if isinstance(value, Markup) else shown


@cache
def environment(code: str) -> Environment:
    """Return the template environment of a language: escaping always on, undefined names are errors."""
    env = Environment(
        loader=PackageLoader("stackwitness.console"),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=_legible,
    )
    messages = tongue(code).messages
    env.install_gettext_translations(messages, newstyle=True)  # type: ignore[attr-defined]
    env.globals.update(
        asset=load_assets().href,
        words=words,
        word_hidden=figures.word_hidden,
        offset_label=offset_label,
        VERDICTS=VERDICTS,
        DECISIONS=DECISIONS,
    )
    return env
