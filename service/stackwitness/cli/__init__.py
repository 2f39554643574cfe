"""The command line: parse, then call the room that does the work (imported only then: starts stay light)."""

import typer

from stackwitness.cli import bench, data, evidence, processes, reanalysis

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
for room in (processes, evidence, data, reanalysis):
    app.add_typer(room.app)
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run the command line; what is expected to go wrong is one line and exit code 3, not a traceback.

    1 and 2 are left to what fsck finds: tampered, incomplete. So a file that is not there, an argument that is no
    UTF-8 and a database that refuses its own roles must not end in a traceback, whose exit code is 1.
    """
    try:
        app()
    except Exception as error:
        said = _expected(error)
        if said is None:
            raise
        typer.echo(f"stackwitness: {said}", err=True)
        raise SystemExit(3) from None


def _expected(error: Exception) -> str | None:
    """Return what to say of an error that is no fault of ours, None of another; looks only where something was raised."""
    if isinstance(error, UnicodeError):
        return f"an argument or a file is no UTF-8: {error}"
    if isinstance(error, OSError):
        return str(error)
    from sqlalchemy.exc import DBAPIError

    from emdi.errors import EmdiError
    from stackwitness.db.embedded import ClusterError
    from stackwitness.errors import StackwitnessError

    if isinstance(error, ClusterError | StackwitnessError | EmdiError):
        return str(error)
    return f"the database refuses: {error.orig}".strip() if isinstance(error, DBAPIError) else None
