"""Bundles with witnesses and time stamps, as a court's expert checks them."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from emdi import merkle
from emdi.checkpoint import Checkpoint
from emdi.encoding import b64_encode
from emdi.note import NoteSigner, parse_note, sign_note
from stackwitness_client.verify import Report, verify_bundle
from stackwitness_client.verify.timestamps import have_library
from stackwitness_client.verify_cli import main
from tests.emdi.making import ORIGIN, Log, honest_log, members_of, remanifest, seed, write_zip, zip_of
from tests.support.tsa import LocalTsa

stamped = [
    pytest.mark.skipif(not have_library(), reason="rfc3161-client is not installed: time stamps not checked"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here: no authority to ask"),
]
WITNESSES = [NoteSigner(f"w{n}.example", seed(f"w{n}"), 4 if n < 3 else 6) for n in (1, 2, 3)]
EARLY = 6


@dataclass
class WitnessedLog(Log):
    """A log whose checkpoints these witnesses cosign."""

    witnesses: list[NoteSigner] = field(default_factory=lambda: WITNESSES)

    def checkpoint(self) -> bytes:
        note = super().checkpoint()
        text = parse_note(note).text
        return note + b"".join(item.cosign(text, 1_790_000_100).encode() for item in self.witnesses)


def quorum_policy(log: Log, needed: int) -> str:
    lines = [f"witness w{n} {item.vkey}" for n, item in enumerate(WITNESSES)]
    return "\n".join([f"log {log.log_key.vkey}", *lines, f"group g {needed} w0 w1 w2", "quorum g", ""])


@pytest.mark.parametrize(
    ("present", "needed", "exit_code"), [(3, 2, 0), (3, 3, 0), (2, 2, 0), (1, 2, 4), (0, 1, 4)]
)
def test_the_quorum_of_the_verifiers_own_policy_decides(present: int, needed: int, exit_code: int) -> None:
    honest = honest_log()
    log = WitnessedLog(**vars(honest), witnesses=WITNESSES[:present])
    report = verify_bundle(zip_of(members_of(log)), quorum_policy(log, needed))  # type: ignore[arg-type]
    assert report.exit_code == exit_code
    assert {finding.code for finding in report.findings} <= {"policy.quorum"}


def test_a_forged_cosignature_is_tampering() -> None:
    log = WitnessedLog(**vars(honest_log()))
    members = members_of(log)
    line = members["checkpoint"].split(b"\n")[-2]
    members["checkpoint"] = members["checkpoint"].replace(line[-30:], line[-60:-30])
    remanifest(members)
    assert verify_bundle(zip_of(members), quorum_policy(log, 2)).exit_code == 1  # type: ignore[arg-type]


@dataclass(frozen=True)
class Offices:
    """Two authorities, one with an intermediate."""

    one: LocalTsa
    two: LocalTsa

    @property
    def roots(self) -> bytes:
        return self.one.root_pem + self.two.root_pem


@pytest.fixture(scope="module")
def offices(tmp_path_factory: pytest.TempPathFactory) -> Offices:
    folder = tmp_path_factory.mktemp("tsa")
    return Offices(LocalTsa(folder / "one", "one"), LocalTsa(folder / "two", "two", with_intermediate=True))


def anchors_of(log: Log, offices: Offices, size: int = EARLY) -> dict[str, bytes]:
    """Return the members for one anchor at `size`, stamped by both authorities."""
    leaves = log.leaves()
    note = sign_note(Checkpoint(ORIGIN, size, merkle.root_of(leaves[:size])).text(), log.log_key)
    proof = merkle.consistency_path(leaves, size)
    return {
        f"anchors/{size}.note": note,
        f"anchors/{size}.proof": "".join(f"{b64_encode(item)}\n" for item in proof).encode(),
        f"anchors/{size}.0.tsr": offices.one.stamp(note),
        f"anchors/{size}.1.tsr": offices.two.stamp(note),
        "anchors/tsa-chain.pem": offices.two.chain_pem,
    }


def check(members: dict[str, bytes], log: Log, roots: bytes | None) -> Report:
    return verify_bundle(zip_of(members), log.policy, tsa_roots=roots)  # type: ignore[arg-type]


@pytest.mark.usefixtures("offices")
class TestStamps:
    """Each with a whole bundle; the seal is made after the anchors, as the service does it."""

    pytestmark = stamped

    def bundle(
        self, offices: Offices, spoil: Callable[[dict[str, bytes]], object] = len
    ) -> tuple[Log, dict[str, bytes]]:
        log = honest_log()

        def more(log: Log) -> dict[str, bytes]:
            members = anchors_of(log, offices)
            spoil(members)
            return members

        return log, members_of(log, more)

    def test_good(self, offices: Offices) -> None:
        log, members = self.bundle(offices)
        report = check(members, log, offices.roots)
        assert (report.exit_code, report.step(12).state) == (0, "ok")
        assert "6 entries were there by" in report.step(12).done
        assert "CN=one leaf" in report.step(12).done
        assert "CN=two leaf" in report.step(12).done

    def test_without_roots_it_is_said_and_no_fault(self, offices: Offices) -> None:
        log, members = self.bundle(offices)
        report = check(members, log, None)
        assert (report.exit_code, report.step(12).state) == (0, "not checked")
        assert "--tsa-root" in report.text()

    def test_without_the_library_it_is_said_and_no_fault(
        self, offices: Offices, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("stackwitness_client.verify.anchors.have_library", lambda: False)
        log, members = self.bundle(offices)
        report = check(members, log, offices.roots)
        assert (report.exit_code, report.step(12).state) == (0, "not checked")
        assert "rfc3161-client is not installed" in report.text()

    def test_one_trusted_authority_is_enough(self, offices: Offices) -> None:
        log, members = self.bundle(offices)
        report = check(members, log, offices.two.root_pem)
        assert report.exit_code == 0
        assert any("6.0.tsr holds under none" in note for note in report.notes)

    def test_no_trusted_authority_is_a_matter_of_policy(self, offices: Offices, tmp_path: Path) -> None:
        log, members = self.bundle(offices)
        stranger = LocalTsa(tmp_path / "s", "stranger")
        report = check(members, log, stranger.root_pem)
        assert report.exit_code == 4
        assert {finding.code for finding in report.findings} == {"anchor.untrusted"}

    def test_an_anchor_of_another_tree(self, offices: Offices) -> None:
        def forge(members: dict[str, bytes]) -> None:
            note = sign_note(Checkpoint(ORIGIN, EARLY, bytes(32)).text(), honest_log().log_key)
            members[f"anchors/{EARLY}.note"] = note

        log, members = self.bundle(offices, forge)
        report = check(members, log, None)  # found without any authority
        assert report.exit_code == 1
        assert {finding.code for finding in report.findings} == {"proof.consistency"}

    def test_a_stamp_of_other_bytes(self, offices: Offices) -> None:
        log, members = self.bundle(
            offices, lambda m: m.update({f"anchors/{EARLY}.0.tsr": offices.one.stamp(b"other")})
        )
        report = check(members, log, offices.roots)
        assert report.exit_code == 1
        assert {finding.code for finding in report.findings} == {"anchor.imprint"}

    @pytest.mark.parametrize(
        ("spoil", "exit_code"),
        [
            (lambda m: m.update({"anchors/6.0.tsr": b"junk"}), 3),
            (lambda m: m.update({"anchors/6.proof": b"AAAA\n"}), 1),
            (lambda m: m.update({"anchors/6.proof": b"!\n"}), 3),
            (lambda m: m.pop("anchors/6.proof"), 2),
            (lambda m: m.pop("anchors/6.note"), 2),
            (lambda m: [m.pop(f"anchors/6.{k}.tsr") for k in (0, 1)], 2),
            (lambda m: m.update({"anchors/9.note": m["anchors/6.note"], "anchors/9.proof": b""}), 1),
            (lambda m: m.update({"anchors/tsa-chain.pem": b"junk"}), 4),
        ],
    )
    def test_spoilt_members(
        self, offices: Offices, spoil: Callable[[dict[str, bytes]], object], exit_code: int
    ) -> None:
        log, members = self.bundle(offices, spoil)
        assert check(members, log, offices.roots).exit_code == exit_code

    def test_an_entry_received_after_its_own_time_stamp(
        self, offices: Offices, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("stackwitness_client.verify.anchors.CLOCKS_MS", -(10**12))
        log, members = self.bundle(offices)
        findings = check(members, log, offices.roots).findings
        assert {(finding.code, finding.idx) for finding in findings} == {
            ("anchor.later", idx) for idx in range(EARLY)
        }

    def test_the_program_takes_roots(
        self, offices: Offices, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        log, members = self.bundle(offices)
        path, policy, roots = write_zip(tmp_path / "b.zip", members), tmp_path / "p", tmp_path / "r.pem"
        policy.write_text(log.policy)
        roots.write_bytes(offices.roots)
        assert main([str(path), "--policy", str(policy), "--tsa-root", str(roots)]) == 0
        assert "were there by" in capsys.readouterr().out
