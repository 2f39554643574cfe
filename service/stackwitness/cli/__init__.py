"""The command line: parse, then call the room that does the work (imported only then: starts stay light)."""

import typer
from sqlalchemy.exc import DBAPIError

from emdi.errors import EmdiError
from stackwitness.cli import bench, data, evidence, processes, reanalysis
from stackwitness.db.embedded import ClusterError
from stackwitness.errors import StackwitnessError

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
        return
    except (ClusterError, StackwitnessError, EmdiError, OSError) as error:
        text = str(error)
    except UnicodeError as error:
        text = f"an argument or a file is no UTF-8: {error}"
    except DBAPIError as error:
        text = f"the database refuses: {error.orig}".strip()
    typer.echo(f"stackwitness: {text}", err=True)
    raise SystemExit(3)
