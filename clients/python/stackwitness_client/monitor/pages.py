"""Read a list that the server gives in pages, and no further than it can honestly go."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from stackwitness_client.errors import ServerUnreachable
from stackwitness_client.http import ServerLink

Row = TypeVar("Row")


def read_rows(
    link: ServerLink,
    path: str,
    query: Mapping[str, Any],
    member: str,
    parse: Callable[[Any], Row],
    *,
    most_pages: int,
    unknown: tuple[int, ...] = (),
) -> Iterator[Row]:
    """Yield every parsed row; none where the server answers with a status of `unknown`.

    Raises ServerUnreachable for an answer of another shape and for a list longer than `most_pages`, ServerError.
    """
    asked = dict(query)
    for _ in range(most_pages):
        answer = link.ask("GET", path, query=asked, accept=unknown)
        if answer.status in unknown:
            return
        page = answer.json()
        try:
            for row in page[member]:
                yield parse(row)
            if page["next"] is None:
                return
            asked["after"] = str(page["next"])
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise ServerUnreachable(f"the answer of {path} has another shape: {error}") from error
    raise ServerUnreachable(f"the list of {path} goes on beyond {most_pages} pages")
