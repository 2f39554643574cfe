"""The signer's own promises: its key is never readable, it runs as nobody else, it never loads a database."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from emdi.checkpoint import open_checkpoint
from emdi.entry import KIND_GENESIS, encode_entry
from emdi.errors import PolicyError
from emdi.merkle import leaf_hash, root_of
from emdi.note import parse_note
from emdi.policy import parse_policy
from emdi.tiles import encode_bundle, entries_path
from stackwitness.log.disk import Disk
from stackwitness.log.errors import LogKeyInvalid, SignerRefused
from stackwitness.log.fsck import fsck
from stackwitness.log.rotation import add_key, retire_key
from stackwitness.log.signer import LogSigner, SignerClient
from stackwitness.log.signer.keys import KEY, KeyFiles, KeyStore, open_key_store
from stackwitness.log.signer.options import SignerOptions, parse_options, passed_on, signer_command
from stackwitness.log.signer.place import short_address
from stackwitness.log.signer.user import default_user, find_obstacle, give
from stackwitness.settings import Settings
from tests.service.log_support import SmallLog, make_log
from tests.support.processes import wait_until

SOFTHSM = [Path(p) for p in ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/pkcs11/libsofthsm2.so")]
ORIGIN = "stackwitness.test/log"
PIN = "87654321"
ENTRIES = [encode_entry(KIND_GENESIS, 1_767_225_600_000, b"{}")]  # of 2026-01-01


def options(home: Path, **changes: object) -> SignerOptions:
    """Return the options of a signer in production, as its command line gives them."""
    plain = parse_options(["--home", str(home), "--origin", ORIGIN])
    return replace(plain, **changes)  # type: ignore[arg-type]


def small_tree(log: Disk, size: int) -> tuple[int, bytes]:
    """Write a log of that many leaves; return size and root."""
    entries = ENTRIES + [encode_entry(1, n, b"x") for n in range(1, size)]
    log.write(entries_path(0, size), encode_bundle(entries))
    return size, root_of([leaf_hash(entry) for entry in entries])


def opened(home: Path, keys: KeyStore) -> LogSigner:
    return LogSigner.open(Disk(home / "signer"), Disk(home / "log"), ORIGIN, keys=keys)


@pytest.fixture(scope="session")
def token_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a SoftHSM token; one for all tests, as the library reads its settings once a process."""
    if shutil.which("softhsm2-util") is None or not any(path.exists() for path in SOFTHSM):
        pytest.skip("SoftHSM is not installed")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    lines = [
        f"directories.tokendir = {folder / 'tokens'}",
        "objectstore.backend = file",
        "log.level = ERROR",
        "",
    ]
    (folder / "conf").write_text("\n".join(lines))
    os.environ["SOFTHSM2_CONF"] = str(folder / "conf")
    pins = ["--so-pin", PIN, "--pin", PIN]
    made = ["softhsm2-util", "--init-token", "--free", "--label", "stackwitness", *pins]
    subprocess.run(made, check=True, capture_output=True)
    (folder / "pin").write_text(PIN + "\n")
    return folder


@pytest.fixture
def token(tmp_path: Path, token_folder: Path) -> KeyStore:
    """Give a key store in a real PKCS#11 token."""
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
    module = next(path for path in SOFTHSM if path.exists())
    changes = {"signer_pkcs11_module": module, "signer_pkcs11_pin_file": token_folder / "pin"}
    return open_key_store(options(tmp_path, **changes), Disk(tmp_path / "signer"))


@pytest.fixture(params=["encrypted", "token"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> KeyStore:
    """Give both kinds of key that production may have."""
    if request.param == "token":
        store: KeyStore = request.getfixturevalue("token")
        return store
    return KeyFiles(Disk(tmp_path / "signer"), b"correct horse battery staple", plaintext_allowed=False)


def test_a_protected_key_signs_and_lies_nowhere_open(tmp_path: Path, keys: KeyStore) -> None:
    signer = opened(tmp_path, keys)
    size, root = small_tree(Disk(tmp_path / "log"), 1)
    note = signer.sign(size, root)
    open_checkpoint(note, parse_policy(f"log {signer.vkey}\nquorum none\n"))
    assert opened(tmp_path, keys).sign(size, root) == note  # Ed25519: the same bytes from the same key
    for path in (tmp_path / "signer").iterdir():
        assert b"PRIVATE" not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0


def test_rotation_overlaps_then_ends(tmp_path: Path, keys: KeyStore) -> None:
    signer, log = opened(tmp_path, keys), Disk(tmp_path / "log")
    old = signer.vkey
    size, root = small_tree(log, 1)
    assert len(parse_note(signer.sign(size, root)).signatures) == 1
    new = keys.add_next(ORIGIN).vkey
    assert keys.add_next(ORIGIN).vkey == new
    with pytest.raises(SignerRefused, match="no_overlap"):
        opened(tmp_path, keys).retire_key()
    both = signer.sign(size, root)  # the running signer, asked for the size it signed already
    log.write("checkpoint", both)
    for vkey in (old, new):
        open_checkpoint(both, parse_policy(f"log {vkey}\nquorum none\n"))
    assert signer.vkey == old
    assert opened(tmp_path, keys).retire_key() == new
    size, root = small_tree(log, 2)
    later = signer.sign(size, root)
    open_checkpoint(later, parse_policy(f"log {new}\nquorum none\n"))
    with pytest.raises(PolicyError):
        open_checkpoint(later, parse_policy(f"log {old}\nquorum none\n"))
    assert opened(tmp_path, keys).vkey == new
    with pytest.raises(SignerRefused, match="no_next"):
        opened(tmp_path, keys).retire_key()


def test_rotation_of_a_running_log(settings: Settings, small_log: SmallLog) -> None:
    """Leaf 0 names the old key for ever, the event the new one; the log goes on, fsck follows, old policies hold."""
    loop, policy = small_log.start(), small_log.policy
    small_log.note_many(3)
    loop.sequence()
    loop.publish()
    text = add_key(small_log.engine, settings, small_log.service_key, os.environ, "operator")
    assert add_key(small_log.engine, settings, small_log.service_key, os.environ, "operator") == text
    loop.sequence()
    loop.publish()
    open_checkpoint(small_log.reader.checkpoint(), policy)
    new = retire_key(settings, os.environ)
    assert new in text
    small_log.note_many(2)
    loop = small_log.start()
    loop.sequence()
    loop.publish()
    open_checkpoint(small_log.reader.checkpoint(), parse_policy(text))
    report = fsck(small_log.engine, settings.log_dir, None, signer_dir=settings.signer_dir)
    assert report.findings == []


@pytest.fixture
def small_log(settings: Settings, engine: object) -> SmallLog:
    return make_log(settings, engine)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("passphrase", "code"),
    [(b"another passphrase", "log.key"), (None, "signer.passphrase")],
)
def test_an_encrypted_key_needs_its_passphrase(tmp_path: Path, passphrase: bytes | None, code: str) -> None:
    home = Disk(tmp_path / "signer")
    opened(tmp_path, KeyFiles(home, b"correct horse battery staple"))
    with pytest.raises((SignerRefused, LogKeyInvalid)) as caught:
        opened(tmp_path, KeyFiles(home, passphrase))
    assert caught.value.code == code


@pytest.mark.parametrize("line", [1, 2, 3])
def test_a_changed_key_file_does_not_open(tmp_path: Path, line: int) -> None:
    home, passphrase = Disk(tmp_path / "signer"), b"correct horse battery staple"
    opened(tmp_path, KeyFiles(home, passphrase))
    other = tmp_path / "other"
    opened(other, KeyFiles(Disk(other / "signer"), passphrase))
    lines = home.read(KEY).decode().split("\n")
    lines[line] = Disk(other / "signer").read(KEY).decode().split("\n")[line]
    home.write(KEY, "\n".join(lines).encode())
    with pytest.raises(LogKeyInvalid):
        opened(tmp_path, KeyFiles(home, passphrase))


def test_production_refuses_a_plaintext_key(tmp_path: Path) -> None:
    settings = Settings(mode="production", home=tmp_path, log_origin=ORIGIN)
    home = Disk(tmp_path / "signer")
    with pytest.raises(SignerRefused, match="plaintext_key"):
        opened(tmp_path, open_key_store(settings, home))
    assert not (home.root / KEY).exists()
    opened(tmp_path, open_key_store(settings.model_copy(update={"signer_allow_plaintext_key": True}), home))
    with pytest.raises(SignerRefused, match="plaintext_key"):
        opened(tmp_path, open_key_store(settings, home))


def test_a_passphrase_encrypts_a_key_that_lay_open(tmp_path: Path) -> None:
    home = Disk(tmp_path / "signer")
    vkey = opened(tmp_path, KeyFiles(home)).vkey
    passphrase = b"correct horse battery staple"
    assert opened(tmp_path, KeyFiles(home, passphrase, plaintext_allowed=False)).vkey == vkey
    assert b"PRIVATE" not in home.read(KEY)
    with pytest.raises(SignerRefused, match="passphrase"):
        opened(tmp_path, KeyFiles(home))


def test_short_and_missing_secrets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("hunter2\n")
    for name in ("short", "absent"):
        with pytest.raises(LogKeyInvalid):
            open_key_store(options(tmp_path, signer_passphrase_file=tmp_path / name), Disk(tmp_path))


@pytest.mark.parametrize("with_log", [False, True])
def test_a_lost_key_is_not_replaced(tmp_path: Path, with_log: bool) -> None:
    keys, log = KeyFiles(Disk(tmp_path / "signer")), Disk(tmp_path / "log")
    signer = opened(tmp_path, keys)
    note = signer.sign(*small_tree(log, 1))
    if with_log:
        log.write("checkpoint", note)
        (tmp_path / "signer" / "state").unlink()
    (tmp_path / "signer" / KEY).unlink()
    with pytest.raises(SignerRefused, match="no_key"):
        opened(tmp_path, keys)
    assert not keys.exists()


def test_a_state_that_may_be_in_the_cache_alone_is_written_again(tmp_path: Path) -> None:
    """A write that failed after its rename can be read and yet be lost to a power cut."""
    keys = KeyFiles(Disk(tmp_path / "signer"))
    opened(tmp_path, keys).sign(*small_tree(Disk(tmp_path / "log"), 1))
    state = tmp_path / "signer" / "state"
    before, again = state.stat().st_ino, opened(tmp_path, keys)
    again.sign(*small_tree(Disk(tmp_path / "log"), 1))
    assert state.stat().st_ino != before
    before = state.stat().st_ino
    again.sign(*small_tree(Disk(tmp_path / "log"), 1))
    assert state.stat().st_ino == before


@contextmanager
def running(settings: Settings, **environment: str) -> Iterator[psutil.Process]:
    """Run the signer as `up` does, as a process of its own."""
    process = subprocess.Popen(
        signer_command(settings, default_user=default_user()),
        env=passed_on({**os.environ, **environment}),
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(
            lambda: settings.signer_socket.exists() or process.poll() is not None,
            within_s=20,
            what="the signer's socket",
        )
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture
def alone(tmp_path: Path) -> Settings:
    """Give settings without any database."""
    (tmp_path / "home").mkdir(mode=0o755)
    return Settings(mode="test", home=tmp_path / "home", log_origin=ORIGIN)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as another user")
@pytest.mark.skipif(default_user() is None, reason="no user daemon here")
def test_root_starts_it_as_a_user_of_its_own(alone: Settings) -> None:
    account = pwd.getpwnam(default_user() or "")
    with running(alone) as process:
        assert set(process.uids()) == {account.pw_uid}
        assert set(process.gids()) == {account.pw_gid}
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "\nGroups:\t \n" in status  # none of root's groups is left
        assert SignerClient(alone.signer_socket).vkey().startswith(ORIGIN)
        for path in (
            alone.signer_dir,
            alone.signer_dir / KEY,
            alone.signer_dir / "state",
            alone.signer_socket,
        ):
            assert path.stat().st_uid == account.pw_uid
            assert path.stat().st_mode & 0o077 == 0
    wrong = alone.model_copy(update={"signer_user": "no-such-user"})
    refused = subprocess.run(signer_command(wrong), capture_output=True, text=True, timeout=60, check=False)
    assert (refused.returncode, "signer.user" in refused.stderr) == (3, True)


def test_it_dies_with_the_supervisor_though_it_changed_its_user(alone: Settings) -> None:
    code = (
        "import signal, subprocess, sys, time\n"
        "from stackwitness.tether import tether\n"
        "child = subprocess.Popen(sys.argv[1:], preexec_fn=tether(signal.SIGKILL))\n"
        "print(child.pid, flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, *signer_command(alone, default_user=default_user())]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    wait_until(alone.signer_socket.exists, within_s=20, what="the signer's socket")
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    wait_until(lambda: not child.is_running(), within_s=10, what="the signer gone")


def test_it_never_loads_a_database_and_stays_small(alone: Settings) -> None:
    code = "import sys, stackwitness.log.signer.__main__; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    roots = {name.split(".")[0] for name in loaded.split()}
    assert roots & {"sqlalchemy", "psycopg", "pydantic", "sqlmodel", "fastapi", "typer", "structlog"} == set()
    with running(alone, STACKWITNESS_DATABASE_URL="postgresql://nobody@127.0.0.1:9/none") as process:
        assert process.memory_info().rss < 60 * 2**20
        environment = Path(f"/proc/{process.pid}/environ")
        if os.access(environment, os.R_OK):
            assert b"DATABASE" not in environment.read_bytes()


def test_second_process_is_refused(alone: Settings) -> None:
    with running(alone):
        second = subprocess.run(
            signer_command(alone, default_user=default_user()),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (second.returncode, "signer.second" in second.stderr) == (3, True)


def test_a_stuck_client_holds_nobody_up_for_long(alone: Settings) -> None:
    """Neither one that sends nothing nor one that sends a byte now and then."""
    with running(alone), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as slow:
        with short_address(alone.signer_socket) as address:
            slow.connect(address)
        sent = threading.Event()

        def drip() -> None:
            with suppress(OSError):
                while not sent.wait(0.2):
                    slow.sendall(b"k")

        dripping = threading.Thread(target=drip)
        dripping.start()
        assert SignerClient(alone.signer_socket).vkey()  # within the client's own patience
        sent.set()
        dripping.join()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.skipif(default_user() is None, reason="no user daemon here")
def test_nothing_of_others_is_given_to_the_signers_user(tmp_path: Path) -> None:
    """Whoever is that user could have put a link to root's files into its folder."""
    daemon = pwd.getpwnam(default_user() or "")
    secret, folder = tmp_path / "secret", tmp_path / "signer"
    secret.write_text("x")
    folder.mkdir()
    os.link(secret, folder / "log.key")
    (folder / "state").symlink_to(secret)
    (folder / "lock").touch()
    give(folder, daemon)
    assert secret.stat().st_uid == 0
    assert (folder / "lock").stat().st_uid == folder.stat().st_uid == daemon.pw_uid
    other = next(item for item in pwd.getpwall() if item.pw_uid not in (0, daemon.pw_uid))
    with pytest.raises(SignerRefused, match="belongs to the user"):
        give(folder, other)


def test_the_databases_user_is_refused(tmp_path: Path) -> None:
    assert "database" in (find_obstacle("nobody", tmp_path) or "")
