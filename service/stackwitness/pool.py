"""Do many pieces of pure work: here, in processes of this machine, or on a Dask cluster; the results are the same."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import stackwitness_detectors
from stackwitness_detectors import DetectorError

if TYPE_CHECKING:
    from distributed import Client

Piece = tuple[str, Callable[..., dict[str, Any]], tuple[Any, ...]]
LOCAL = "local"
PATIENCE = "10s"


class Pool(Protocol):
    """Do pieces and yield (name, result) of each as it is finished, in any order."""

    def do(self, pieces: Sequence[Piece]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Do the pieces; what a piece raises is raised here."""
        ...


@contextmanager
def open_pool(jobs: int = 1, scheduler: str = "", shared: Path | None = None) -> Iterator[Pool]:
    """Open what does the work until the block ends.

    Without a scheduler: this process, or `jobs` others. `local`: a Dask cluster of `jobs` workers on this machine,
    on loopback. Anything else: the address of a Dask scheduler (`tcp://host:port`), whose workers must have the same
    code and see `shared`. Raises DetectorError pool.dask, pool.address, pool.code, pool.folder.
    """
    if not scheduler:
        yield _Here() if jobs <= 1 else _Processes(jobs)
        return
    with _open_client(jobs, scheduler) as client:
        if scheduler != LOCAL:
            _check_workers(client, shared)
        yield _Cluster(client)


class _Here:
    def do(self, pieces: Sequence[Piece]) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, work, arguments in pieces:
            yield name, work(*arguments)


class _Processes:
    def __init__(self, jobs: int) -> None:
        self._jobs = jobs

    def do(self, pieces: Sequence[Piece]) -> Iterator[tuple[str, dict[str, Any]]]:
        with ProcessPoolExecutor(self._jobs, get_context("spawn"), _leave_with_parent) as pool:
            names: dict[Future[dict[str, Any]], str] = {
                pool.submit(work, *arguments): name for name, work, arguments in pieces
            }
            try:
                for future in as_completed(names):
                    yield names[future], future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


class _Cluster:
    def __init__(self, client: Client) -> None:
        self._client = client

    def do(self, pieces: Sequence[Piece]) -> Iterator[tuple[str, dict[str, Any]]]:
        from distributed import as_completed as finished

        futures = {
            self._client.submit(work, *arguments, key=f"{name}:{number}", pure=False): name
            for number, (name, work, arguments) in enumerate(pieces)
        }
        try:
            for future in finished(list(futures)):
                yield futures.pop(future), future.result()
        finally:
            self._client.cancel(list(futures))


@contextmanager
def _open_client(jobs: int, scheduler: str) -> Iterator[Client]:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise DetectorError("pool.dask", "--scheduler needs Dask: install stackwitness[bench]") from None
    if scheduler != LOCAL:
        try:
            client = Client(scheduler, timeout=PATIENCE)
        except (OSError, ValueError, TimeoutError) as error:
            raise DetectorError(
                "pool.address", f"no Dask scheduler answers at {scheduler}: {error}"
            ) from error
        with client:
            yield client
        return
    with (
        LocalCluster(
            n_workers=jobs, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _check_workers(client: Client, shared: Path | None) -> None:
    """Refuse workers that would judge by other code, or that do not see the folder of the run."""
    own = code_hash()
    found = client.run(_look, str(shared.resolve()) if shared else "")
    if not found:
        raise DetectorError("pool.address", "the Dask scheduler has no workers")
    for address, (code, sees) in sorted(found.items()):
        if code != own:
            raise DetectorError("pool.code", f"worker {address} has other detectors than this machine")
        if not sees:
            raise DetectorError("pool.folder", f"worker {address} does not see {shared}")


def _look(shared: str) -> tuple[str, bool]:
    return code_hash(), not shared or Path(shared).is_dir()


def code_hash(but: Collection[str] = ()) -> str:
    """Hash the sources of the detectors that this process imports, but not those files (SHA-256, lowercase hex)."""
    root, digest = Path(stackwitness_detectors.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name not in but:
            digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _leave_with_parent() -> None:
    """End this process when the one that started it was killed: nobody waits for its work any more."""

    def watch() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
