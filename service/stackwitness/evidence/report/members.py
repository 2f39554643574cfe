"""Write report.json and report.pdf beside the other members of a bundle that lie in a folder."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from emdi.errors import EmdiError
from emdi.report import make_report
from stackwitness.evidence.report import print_report

JSON, PDF = "report.json", "report.pdf"


class FolderMembers:
    """The members of a bundle that is not zipped yet (emdi.report.Members)."""

    def __init__(self, members: Iterable[tuple[str, Path]]) -> None:
        self._paths = dict(members)

    @property
    def sizes(self) -> Mapping[str, int]:
        """The names, with sizes in bytes."""
        return {name: path.stat().st_size for name, path in self._paths.items()}

    def read(self, name: str) -> bytes:
        """Return a whole member."""
        return self._paths[name].read_bytes()

    def lines(self, name: str) -> Iterator[str]:
        """Yield the lines of a text member without their newline."""
        with open(self._paths[name], encoding="utf-8", newline="\n") as file:
            for line in file:
                yield line.removesuffix("\n")

    def stream(self, name: str) -> IO[bytes]:
        """Open a member."""
        return open(self._paths[name], "rb")


def write_report(folder: Path, members: Iterable[tuple[str, Path]]) -> None:
    """Write report.json, then the PDF that shows it; neither where a table was edited into what is no table.

    The verifier names such a row; a report over it would be the forger's.
    """
    if (folder / PDF).exists():
        return
    try:
        report = make_report(FolderMembers(members))
    except EmdiError:
        return
    (folder / JSON).write_bytes(report)
    draft = folder / f"{PDF}.part"
    draft.write_bytes(print_report(report))
    draft.replace(folder / PDF)
