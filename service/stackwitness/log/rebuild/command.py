"""Run the rebuild for a person or a script."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import sqlalchemy as sa
from rich.console import Console
from rich.progress import Progress, TaskID

from emdi.errors import EmdiError
from emdi.keys import Signer
from emdi.policy import Policy, parse_policy
from emdi.tables import Disclosure, parse_disclosure
from stackwitness.db.unit import unit_of_work
from stackwitness.errors import LogUnavailable, StackwitnessError
from stackwitness.log.disk import Disk
from stackwitness.log.errors import LogCorrupt
from stackwitness.log.rebuild.flow import NOT_IN_THE_LOG, Rebuilt, rebuild
from stackwitness.log.rebuild.published import restore_files
from stackwitness.log.rebuild.source import open_source
from stackwitness.log.rebuild.stamps import restore_anchors
from stackwitness.log.signer import SignerClient
from stackwitness.settings import Settings
from stackwitness_client.verify.report import printable


def run_rebuild(
    engine: sa.Engine,
    settings: Settings,
    service_key: Signer,
    place: str,
    policy_file: Path | None,
    *,
    disclosures: Path | None = None,
    as_json: bool = False,
) -> int:
    """Verify the log at `place`, rebuild the database from it, print what was changed.

    `disclosures` is a bundle's disclosures.jsonl, or several put together: it gives back the free texts.
    Returns 0 when nothing differed, 1 when rows were put right, 2 when something is lost for good, 3 when the
    source does not verify (nothing is changed then).
    """
    console = Console(stderr=True)
    try:
        with Progress(console=console, disable=not sys.stderr.isatty(), transient=True) as bar:
            texts = [] if disclosures is None else read_disclosures(disclosures)
            done = _rebuild(engine, settings, service_key, place, policy_file, texts, bar)
    except (EmdiError, StackwitnessError) as error:
        detail = getattr(error, "detail", None)
        console.print(f"stackwitness rebuild: {error}{f': {detail}' if detail else ''}", style="red")
        return 3
    _print(done, as_json=as_json)
    return 2 if done.lost else 1 if done.rows else 0


def _rebuild(
    engine: sa.Engine,
    settings: Settings,
    service_key: Signer,
    place: str,
    policy_file: Path | None,
    texts: list[Disclosure],
    bar: Progress,
) -> Rebuilt:
    tasks: dict[str, TaskID] = {}

    def progress(what: str, count: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=count, total=total)

    signed = signed_note(settings)
    with keeping(settings.home / "rebuild") as cache, ExitStack() as stack:
        source = open_source(place, find_policy(settings, policy_file), signed, stack, cache=cache)
        with engine.connect() as conn:
            sizes = [row[0] for row in conn.exec_driver_sql("SELECT size FROM log_head")]
        source.verify(sizes, progress)
        source.restore(Disk(settings.log_dir))
        done = rebuild(engine, service_key, source, progress, texts)
        with unit_of_work(engine) as conn:
            conn.execute(sa.text("SELECT set_config('stackwitness.agency', '*', true)"))
            disk = Disk(settings.log_dir)
            done.files = restore_files(conn, source, disk)
            done.files += restore_anchors(conn, source, disk, done.lost, settings.tsa_root_file)
    return done


@contextmanager
def keeping(cache: Path) -> Iterator[Path]:
    """Keep what was fetched only while the source does not answer or the process is killed: what does not verify would spoil the next try too."""
    try:
        yield cache
    except LogUnavailable as error:
        if error.code != "log.source":
            shutil.rmtree(cache, ignore_errors=True)
        raise
    except (EmdiError, StackwitnessError):
        shutil.rmtree(cache, ignore_errors=True)
        raise
    shutil.rmtree(cache, ignore_errors=True)


def read_disclosures(path: Path) -> list[Disclosure]:
    """Read lines of disclosures.jsonl; raises BundleError("bundle.disclosure")."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        return [parse_disclosure(line.rstrip("\n")) for line in lines]


def signed_note(settings: Settings) -> bytes:
    """Return the signer's last note, from the running signer or its folder; empty when neither can be read."""
    try:
        return SignerClient(settings.signer_socket).head()
    except StackwitnessError:
        pass
    try:
        return (settings.signer_dir / "state").read_bytes().partition(b"\n\n")[2]
    except OSError:
        return b""


def find_policy(settings: Settings, policy_file: Path | None) -> Policy:
    """Return the caller's own policy, else the one of the settings, else "this signer's key" of the running signer.

    Leaf 0 is not asked: whoever made up a log made up its leaf 0. Raises LogCorrupt when there is none of them.
    """
    path = policy_file or settings.policy_file
    if path is not None:
        return parse_policy(path.read_text(encoding="utf-8"))
    try:
        return parse_policy(f"log {SignerClient(settings.signer_socket).vkey()}\nquorum none\n")
    except StackwitnessError:
        raise LogCorrupt("no policy to hold the checkpoint against: give --policy") from None


def _print(done: Rebuilt, *, as_json: bool) -> None:
    if as_json:
        report = {
            **done.report.to_json(),
            "tables": done.tables,
            "rows": done.rows,
            "files": done.files,
            "lost": done.lost,
        }
        print(json.dumps({**report, "not_in_the_log": NOT_IN_THE_LOG}, ensure_ascii=False))
        return
    for finding in done.report.findings:
        print(printable(finding.line()))
    for line in done.lost:
        print(f"lost: {line}")
    counts = ", ".join(f"{count} in {table}" for table, count in done.tables.items()) or "none"
    print(f"{done.size} entries verified, rows changed: {counts}")
    if done.files:
        print(f"files written again beside the tiles: {done.files}")
    if done.rows:
        print("What the log does not carry:")
        for line in NOT_IN_THE_LOG:
            print(f"  {line}")
