"""The command line: parse, then call the room that does the work (imported only then: starts stay light)."""

import typer

from emdi.errors import EmdiError
from stackwitness.cli import bench, data, evidence, processes
from stackwitness.db.embedded import ClusterError
from stackwitness.errors import StackwitnessError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
for room in (processes, evidence, data):
    app.add_typer(room.app)
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run the command line; what is expected to go wrong is one line and exit code 3, not a traceback.

    1 and 2 are left to what fsck finds: tampered, incomplete.
    """
    try:
        app()
    except (ClusterError, StackwitnessError, EmdiError) as error:
        typer.echo(f"stackwitness: {error}", err=True)
        raise SystemExit(3) from None
