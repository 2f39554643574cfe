"""Do every deed, run every check after it, and print who found it: `python -m tests.insider`; exit 1 when one went unseen."""

import logging
import shutil
import sys
import tempfile
from pathlib import Path

import psycopg
import structlog
from rich.console import Console
from rich.progress import track
from rich.table import Table

from stackwitness.db.embedded import Cluster
from stackwitness.db.migrate import migrate
from tests.insider.checks import Found, check_all
from tests.insider.deeds import Deed
from tests.insider.scene import Scene, build_scene, copied
from tests.insider.table import DEEDS

SHOWN_CHARS = 130


def find(scene: Scene, deed: Deed, folder: Path) -> dict[str, list[Found]]:
    """Do one deed on a copy and return what each check says; those that write come last."""
    with copied(scene, folder) as copy:
        deed.do(copy)
        return check_all(copy)


def best(deed: Deed, check: str, found: list[Found]) -> Found:
    """Return the line the deed's table asks for, else the first."""
    wanted = [sign for sign in deed.signs if sign.check == check]
    for sign in wanted:
        for item in found:
            if item.code == sign.code and sign.says in item.says:
                return item
    return found[0]


def main() -> int:
    """Print the table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    folder = Path(tempfile.mkdtemp(prefix="stackwitness-insider-"))
    folder.chmod(0o755)
    (folder / "postgres").mkdir(mode=0o755)
    cluster = Cluster(folder / "postgres", throwaway=True)
    console = Console(width=200)
    try:
        cluster.start()
        with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
            conn.execute("CREATE DATABASE insider_template")
        migrate(cluster.url("insider_template"))
        scene = build_scene(cluster, "insider_template", folder / "scene")
        return report(scene, folder, console)
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def report(scene: Scene, folder: Path, console: Console) -> int:
    """Do all deeds and print; return 1 when a check that must find one did not."""
    table = Table(
        "deed", "rights", "found by", "code", "idx", "says", title="What an insider does, and what finds it"
    )
    unseen: list[str] = []
    for number, deed in enumerate(track(DEEDS, "deeds", console=console)):
        found = {name: items for name, items in find(scene, deed, folder / str(number)).items() if items}
        shutil.rmtree(folder / str(number), ignore_errors=True)
        lead = (deed.name, deed.rights)
        for name, items in found.items():
            item = best(deed, name, items)
            table.add_row(*lead, name, item.code, item.idx, item.says[:SHOWN_CHARS])
            lead = ("", "")
        unseen += [f"{deed.name}: {sign.check}" for sign in deed.signs if sign.check not in found]
        table.add_section()
    console.print(table)
    console.print(f"{len(DEEDS)} deeds; unseen where they must be seen: {', '.join(unseen) or 'none'}")
    return int(bool(unseen))


if __name__ == "__main__":
    sys.exit(main())
