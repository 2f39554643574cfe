"""Witnesses on this machine, to rehearse with: independent they are only where other organisations run them."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emdi.note import KIND_COSIGNATURE, NoteSigner, VerifierKey
from stackwitness.log.disk import Disk
from stackwitness.log.errors import SignerUnavailable
from stackwitness.log.signer.client import SignerClient
from stackwitness.settings import Settings
from stackwitness.supervisor.ports import free_port, is_free
from stackwitness_client.witness.keys import create_key, load_keys
from stackwitness_client.witness.memory import WitnessMemory
from stackwitness_client.witness_cli import STATE

HOST = "127.0.0.1"


@dataclass(frozen=True)
class LocalWitness:
    """One witness: its name in the policy, folder, key and port."""

    name: str
    home: Path
    signer: NoteSigner
    port: int

    @property
    def command(self) -> list[str]:
        """Return the command that runs it."""
        module = [sys.executable, "-m", "stackwitness_client.witness_cli", "run"]
        return [*module, "--home", str(self.home), "--host", HOST, "--port", str(self.port)]


def read_vkey(settings: Settings) -> str | None:
    """Return the log's public key; None while the signer does not answer."""
    try:
        return SignerClient(settings.signer_socket).vkey()
    except SignerUnavailable:
        return None


def count_witnesses(settings: Settings) -> int:
    """Return how many witnesses of an earlier run this home has: its policy still asks for them."""
    return len(list((settings.home / "witnesses").glob("*/port")))


def prepare_witnesses(settings: Settings, vkey: str, count: int) -> list[LocalWitness]:
    """Return `count` witnesses that know this log; their keys are made once and kept."""
    return list(_prepare(settings.home.absolute() / "witnesses", VerifierKey.parse(vkey), count))


def write_policy(settings: Settings, vkey: str, witnesses: list[LocalWitness]) -> Path:
    """Write the policy that asks for a majority of these witnesses, and return its path."""
    lines = [f"log {vkey}"]
    lines += [f"witness {item.name} {item.signer.vkey} http://{HOST}:{item.port}" for item in witnesses]
    lines += [f"group rehearsal {len(witnesses) // 2 + 1} {' '.join(item.name for item in witnesses)}"]
    lines += ["quorum rehearsal", ""]
    folder = Disk(settings.home.absolute() / "witnesses")
    folder.write("policy.txt", "\n".join(lines).encode())
    return folder.root / "policy.txt"


def _prepare(folder: Path, log_key: VerifierKey, count: int) -> Iterator[LocalWitness]:
    for number in range(1, count + 1):
        name = f"w{number}"
        home = folder / name
        if not any(home.glob("*.key")):
            create_key(home, f"{name}.rehearsal.local", KIND_COSIGNATURE)
        WitnessMemory(home / STATE).add_log(log_key)
        yield LocalWitness(name, home, load_keys(home)[0], _keep_port(home / "port"))


def _keep_port(path: Path) -> int:
    """Return the port of last time, so that the policy stays as it is; a new one when somebody else has it."""
    if path.exists() and is_free(HOST, port := int(path.read_text())):
        return port
    port = free_port(HOST)
    path.write_text(f"{port}\n")
    return port
