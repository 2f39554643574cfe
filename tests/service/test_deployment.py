"""Dockerfile and docker-compose.yml say what the code takes: settings, commands, folders, users, ports, volumes.

No container runs here. The commands do, with the very environment the file gives them, on a real PostgreSQL.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer.main
import yaml

from stackwitness.bench.processes import free_port
from stackwitness.cli import app
from stackwitness.db.embedded import Cluster
from stackwitness.settings import Settings
from tests.support.processes import wait_until

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
OURS = {name: part for name, part in COMPOSE["services"].items() if name != "database"}
ASKED = re.compile(r"\$\{(\w+):\?[^}]*\}")
IMAGE_HOME = "/var/lib/stackwitness/home"
GIVEN = {
    "POSTGRES_PASSWORD": "secret",
    "STACKWITNESS_LOG_ORIGIN": "stackwitness.example/log/2026",
    "SIGNER_PASSPHRASE_FILE": "/etc/stackwitness/signer.passphrase",
}


def environment_of(name: str) -> dict[str, str]:
    """Return what a service's processes find in their environment: the image's, then the file's."""
    image = dict(word.split("=", 1) for word in re.findall(r"\bSTACKWITNESS_\w+=\S+", DOCKERFILE))
    told = OURS[name]["environment"].items()
    return {**image, **{key: ASKED.sub(lambda asked: GIVEN[asked[1]], value) for key, value in told}}


def mounts(name: str) -> dict[str, str]:
    return {place: volume for volume, place in (line.split(":") for line in OURS[name].get("volumes", ()))}


@pytest.mark.parametrize("name", OURS)
def test_each_setting_exists_and_stands_in_production(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = environment_of(name)
    assert all(isinstance(value, str) for value in given.values())
    ours = {key.removeprefix("STACKWITNESS_").lower() for key in given if key.startswith("STACKWITNESS_")}
    assert ours <= set(Settings.model_fields), ours - set(Settings.model_fields)
    for key in os.environ:
        if key.startswith("STACKWITNESS_"):
            monkeypatch.delenv(key)
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    settings = Settings()
    assert (settings.mode, str(settings.home)) == ("production", IMAGE_HOME)
    assert settings.log_origin == GIVEN["STACKWITNESS_LOG_ORIGIN"]
    if name != "signer":
        assert f"@database:5432/{COMPOSE['services']['database']['environment']['POSTGRES_DB']}" in str(
            settings.database_url
        )
    for published in OURS[name].get("ports", ()):
        assert published.split(":")[1] == str(settings.port)
        assert settings.host == "0.0.0.0"


def test_each_command_is_one_of_the_programs_and_takes_no_word_that_it_does_not_know() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    image = re.search(r'^CMD \["(\w+)"\]', DOCKERFILE, re.MULTILINE)
    assert image is not None
    assert 'ENTRYPOINT ["stackwitness"]' in DOCKERFILE
    for words in (part["command"] for part in OURS.values()):
        command = commands[words[0]]
        command.make_context(words[0], list(words[1:]), resilient_parsing=False).close()
    assert image[1] in commands
    # What `up` starts runs here too, each in a container of its own.
    assert {part["command"][0] for part in OURS.values()} == {"migrate", "signer", "log", "serve", "worker"}


def test_the_signer_alone_has_key_and_passphrase_and_no_network() -> None:
    signer = OURS["signer"]
    settings = Settings(
        mode="test", **{k.removeprefix("STACKWITNESS_").lower(): v for k, v in environment_of("signer").items()
                        if k.startswith("STACKWITNESS_") and k != "STACKWITNESS_MODE"}
    )  # fmt: skip
    assert (signer["network_mode"], settings.database_url) == ("none", None)
    assert mounts("signer")[str(settings.signer_dir)] == "signer"
    assert [str(settings.signer_passphrase_file)] == [f"/run/secrets/{name}" for name in signer["secrets"]]
    for name in OURS.keys() - {"signer"}:
        assert "signer" not in mounts(name).values()
        assert "secrets" not in OURS[name]
        assert not any("PASSPHRASE" in key for key in environment_of(name))


def test_volumes_secrets_and_what_is_waited_for_are_declared_and_used() -> None:
    used = {volume for name in OURS for volume in mounts(name).values()}
    database = COMPOSE["services"]["database"]
    used |= {line.split(":")[0] for line in database["volumes"]}
    assert used == set(COMPOSE["volumes"])
    assert {name for part in OURS.values() for name in part.get("secrets", ())} == set(COMPOSE["secrets"])
    for name in (
        "signer",
        "log",
        "serve",
        "worker",
    ):  # all of them keep something, or read what another keeps
        assert mounts(name)[IMAGE_HOME] == "home"
    for part in OURS.values():
        for other, wanted in part.get("depends_on", {}).items():
            assert other in COMPOSE["services"]
            assert wanted["condition"] != "service_healthy" or "healthcheck" in COMPOSE["services"][other]
            assert wanted["condition"] != "service_completed_successfully" or OURS[other]["restart"] == "no"
    # The server of a first start answers on its socket before it is there for others.
    assert "-h 127.0.0.1" in database["healthcheck"]["test"][1]


def test_the_image_holds_what_the_package_is_made_of_and_the_folders_of_the_settings() -> None:
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for word in line.split()
    }
    assert all((ROOT / word).exists() for word in copied)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], project["project"]["readme"]}
    assert {path.split("/")[0] for path in needed} <= copied
    assert set(project["project"]["license-files"]) <= copied
    assert ".[server]" in DOCKERFILE
    assert "server" in project["project"]["optional-dependencies"]
    home = Settings(mode="test", home=Path(IMAGE_HOME))
    for folder in (home.log_dir, home.signer_dir, home.key_dir, home.signer_socket.parent):
        assert str(folder) in DOCKERFILE
    # The socket's folder hands its group on: those of the service's group may connect, see signer/server.py.
    assert f"chmod 2770 {home.signer_socket.parent}" in DOCKERFILE
    users = set(re.findall(r"useradd [^&]*?(\w+)\s*(?=&&|$)", DOCKERFILE, re.MULTILINE))
    assert {part["user"] for part in OURS.values() if "user" in part} | {"stackwitness"} == users


@pytest.fixture
def rehearsal() -> Iterator[tuple[Path, str]]:
    """Give an empty home that others may enter, and a database that keeps what it commits: production takes no other."""
    folder = Path(tempfile.mkdtemp(prefix="stackwitness-deployed-"))
    folder.chmod(0o755)
    running = Cluster(folder / "database")
    (folder / "database").mkdir(mode=0o755)
    try:
        running.start()
        yield folder, running.url()
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_its_commands_start_in_production_with_its_environment(rehearsal: tuple[Path, str]) -> None:
    (home, url), port = rehearsal, free_port()
    passphrase = home / "passphrase"
    passphrase.write_text("a passphrase of a rehearsal\n")
    passphrase.chmod(0o644)
    rest = {name: value for name, value in os.environ.items() if not name.startswith("STACKWITNESS_")}
    processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(name: str) -> "subprocess.Popen[bytes]":
        told = {**environment_of(name), "STACKWITNESS_HOME": str(home / "home")}
        elsewhere = {"STACKWITNESS_DATABASE_URL": url, "STACKWITNESS_SIGNER_PASSPHRASE_FILE": str(passphrase)}
        elsewhere |= {"STACKWITNESS_HOST": "127.0.0.1", "STACKWITNESS_PORT": str(port)}
        told |= {key: value for key, value in elsewhere.items() if key in told}
        with (home / f"{name}.out").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "stackwitness.cli", *OURS[name]["command"]],
                env={**rest, **told}, stdout=output, stderr=output,
            )  # fmt: skip

    def status(path: str) -> int:
        try:
            return httpx2.get(f"http://127.0.0.1:{port}{path}").status_code
        except httpx2.TransportError:
            return 0

    def said(name: str) -> str:
        return (home / f"{name}.out").read_text()

    try:
        assert start("migrate").wait(90) == 0, said("migrate")
        for name in ("signer", "log", "serve", "worker"):
            processes[name] = start(name)
        wait_until(lambda: status("/log/checkpoint") == 200, within_s=60, what="a checkpoint")
        assert status("/readyz") == 200
        note = httpx2.get(f"http://127.0.0.1:{port}/log/checkpoint").text
        assert note.startswith(GIVEN["STACKWITNESS_LOG_ORIGIN"])
        assert {name: process.poll() for name, process in processes.items()} == dict.fromkeys(processes), {
            name: said(name) for name in processes
        }
    except AssertionError:
        for name in processes:
            print(name, said(name))
        raise
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(60)
