"""Error pages for people: plain words and a way on, never a stack trace."""

from __future__ import annotations

from fastapi import Request, Response

from stackwitness.console.locale import mark as _
from stackwitness.console.visit import redirect, visit_of

# status -> title and advice; a status that is not here gets the words of 500 or 400.
WORDS: dict[int, tuple[str, str]] = {
    400: (_("This request cannot be read"), _("Go back and try again.")),
    403: (
        _("You may not do this"),
        _("Your role does not allow it, or the page was open for too long. Reload it and try again."),
    ),
    404: (_("There is no such page"), _("Check the address, or start from the overview.")),
    405: (_("This page does not take that"), _("Go back and try again.")),
    409: (_("Somebody was there before you"), _("Open the page again: it has changed since you saw it.")),
    413: (_("This is too large"), _("Send less at once.")),
    422: (_("Something in the form does not fit"), _("Go back and correct it.")),
    500: (_("Something went wrong on our side"), _("It was written to our log. Nothing you signed is lost.")),
    503: (
        _("The service cannot answer just now"),
        _("Nothing is lost: stations keep what they measure and send it later. Try again in a moment."),
    ),
}
MACHINE_PATHS = (
    "/v1/",
    "/log/",
    "/metrics",
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/assets/",
    "/static-offline-docs/",
)


def wants_page(request: Request) -> bool:
    """Tell whether a person with a browser asks for a page, rather than a program for data."""
    path, accepted = request.url.path, request.headers.get("accept", "*/*")
    # The front door is a page for whoever takes anything: a first `curl -L` should not meet a 401.
    takes_page = "text/html" in accepted or (path == "/" and "*/*" in accepted)
    return takes_page and not path.startswith(MACHINE_PATHS)


def answer_page(request: Request, status: int, code: str, headers: dict[str, str] | None = None) -> Response:
    """Return the error page of a status; 401 leads to the sign-in instead."""
    if status == 401:
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return redirect("/sign-in", {"next": target} if request.method == "GET" and target != "/" else None)
    title, advice = WORDS.get(status, WORDS[500 if status >= 500 else 400])
    visit = visit_of(request)
    kept = {key: value for key, value in (headers or {}).items() if key.lower() == "retry-after"}
    page = visit.render(
        "error.html",
        status,
        title=visit.tongue.say(title),
        advice=visit.tongue.say(advice),
        status=status,
        code=code,
    )
    page.headers.update(kept)
    return page
