"""The commands in a bundle's README.txt are run as they stand there, without our packages."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from emdi.keys import LocalKey
from stackwitness.evidence.bundle.readme import README
from tests.emdi.making import Log, members_of, seed, write_zip

OPENSSL = shutil.which("openssl") is not None and shutil.which("unzip") is not None


def block(name: str) -> str:
    match = re.search(rf"    # begin: {name}\n(.*?)    # end: {name}\n", README, re.DOTALL)
    assert match is not None
    return textwrap.dedent(match[1])


def bundle_in(folder: Path, alg: str) -> None:
    log = Log()
    log.genesis()
    log.station = LocalKey.from_seed(seed("station"), "mill-1-a") if alg == "Ed25519" else es256()
    log.let_officers_in()
    log.register_key(log.station)
    for _ in range(3):
        log.envelope()
    write_zip(folder / "bundle.zip", members_of(log, lambda _: {"README.txt": README.encode()}))


def es256() -> LocalKey:
    return LocalKey.generate("ES256", "mill-1-b")


@pytest.mark.skipif(not OPENSSL, reason="needs the programs openssl and unzip")
@pytest.mark.parametrize("alg", ["Ed25519", "ES256"])
def test_openssl_alone_verifies_an_envelope(tmp_path: Path, alg: str) -> None:
    bundle_in(tmp_path, alg)
    script = block("openssl")
    done = subprocess.run(
        ["sh", "-e", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Signature Verified Successfully" in done.stdout + done.stderr, done.stderr
    # The same commands refuse the same signature over another text.
    signed = (tmp_path / "signed.txt").read_bytes()
    (tmp_path / "bundle").rename(tmp_path / "gone")
    changed = script.replace("> signed.txt", "| tr 'a' 'b' > signed.txt")
    done = subprocess.run(["sh", "-c", changed], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (tmp_path / "signed.txt").read_bytes() != signed
    assert "Signature Verified Successfully" not in done.stdout + done.stderr


def test_the_standard_library_alone_verifies_manifest_and_proofs(tmp_path: Path) -> None:
    bundle_in(tmp_path, "Ed25519")
    command = [sys.executable, "-I", "-S", "-c", block("python")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "10 entries are in the log of size 10\n"
    data = (tmp_path / "bundle.zip").read_bytes()
    at = data.index(b"EMD\x01\x01") + 40
    (tmp_path / "bundle.zip").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_the_verifier_needs_two_packages_of_ours_and_cryptography(tmp_path: Path) -> None:
    """Python without its site-packages, and a path that holds only what the bare wheel brings."""
    import cffi
    import cryptography

    import emdi
    import stackwitness_client

    bundle_in(tmp_path, "Ed25519")
    packages = tmp_path / "packages"
    packages.mkdir()
    for module in (emdi, stackwitness_client, cryptography, cffi):
        folder = Path(str(module.__file__)).parent
        (packages / folder.name).symlink_to(folder)
    for backend in Path(str(cffi.__file__)).parent.parent.glob("_cffi_backend*"):
        (packages / backend.name).symlink_to(backend)
    policy = Log().policy
    (tmp_path / "policy.txt").write_text(policy)
    script = (
        f"import sys; sys.path.insert(0, {str(packages)!r})\n"
        "from stackwitness_client.verify_cli import main\n"
        "sys.exit(main(['bundle.zip', '--policy', 'policy.txt']))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OK: everything in this bundle" in done.stdout
