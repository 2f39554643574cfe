"""Answer every error as an RFC 9457 problem: ours, the format's, the framework's, and the unforeseen."""

import json
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from emdi.errors import EmdiError
from stackwitness.console.failures import answer_page, wants_page
from stackwitness.errors import StackwitnessError, problem_members

MEDIA_TYPE = "application/problem+json"

log = structlog.get_logger("stackwitness.problem")


def problem_response(members: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """Return the problem as a response of its own status."""
    body = json.dumps(members, ensure_ascii=False).encode("utf-8", "backslashreplace")
    return Response(body, members["status"], headers, MEDIA_TYPE)


def answer(request: Request, members: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """Answer a person's browser with a page, a program with the problem itself."""
    if wants_page(request):
        return answer_page(request, members["status"], members["code"], headers)
    return problem_response(members, headers)


def answer_ours(request: Request, error: Exception) -> Response:
    """Answer an error of our own tree."""
    assert isinstance(error, StackwitnessError)
    return answer(request, error.problem(), error.headers)


def answer_format(request: Request, error: Exception) -> Response:
    """Answer what the open format refuses, under the format's own code."""
    assert isinstance(error, EmdiError)
    return answer(request, problem_members(422, error.code, "The format does not allow this", error.message))


def answer_http(request: Request, error: Exception) -> Response:
    """Answer what routing refuses: 404, 405 and their like."""
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    code = "http." + phrase.lower().replace(" ", "_").replace("-", "_")
    members = problem_members(error.status_code, code, phrase, str(error.detail))
    return answer(request, members, dict(error.headers or {}))


def answer_validation(request: Request, error: Exception) -> Response:
    """Answer a request whose members are missing or wrong; a body that is no JSON at all is a 400."""
    assert isinstance(error, RequestValidationError)
    problems = [
        {"at": "/".join(str(step) for step in item["loc"]), "why": item["msg"], "type": item["type"]}
        for item in error.errors()
    ]
    if any(item["type"] == "json_invalid" for item in problems):
        return answer(request, problem_members(400, "request.json", "The body is not JSON", errors=problems))
    return answer(
        request, problem_members(422, "request.invalid", "The request does not fit", errors=problems)
    )


def answer_unstorable(request: Request, error: Exception) -> Response:
    """Answer a value that passed our checks and that no column holds: a NUL in a text, a time before year 1."""
    log.warning("request.unstorable", method=request.method, path=request.url.path, error=str(error)[:200])
    return answer(
        request, problem_members(422, "request.unstorable", "The request holds an impossible value")
    )


def answer_unforeseen(request: Request, error: Exception) -> Response:
    """Answer a bug: everything to our log, nothing to the caller."""
    log.error("unforeseen", method=request.method, path=request.url.path, exc_info=error)
    return answer(request, problem_members(500, "internal", "Something went wrong on our side"))


def install_problems(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(StackwitnessError, answer_ours)
    app.add_exception_handler(EmdiError, answer_format)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(RequestValidationError, answer_validation)
    app.add_exception_handler(DataError, answer_unstorable)
    app.add_exception_handler(Exception, answer_unforeseen)
