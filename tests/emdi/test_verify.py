"""Every way of spoiling a bundle is found, weighed and named."""

import io
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emdi import bundle
from emdi.checkpoint import Checkpoint
from emdi.encoding import b64u_encode
from emdi.note import NoteSigner, sign_note
from stackwitness_client.verify import Report, Verdict, verify_bundle
from stackwitness_client.verify_cli import main
from tests.emdi.making import (
    ORIGIN,
    STN,
    Log,
    honest_log,
    members_of,
    remanifest,
    seed,
    write_zip,
    zip_of,
)

Members = dict[str, bytes]
LOG = honest_log()
HONEST = members_of(LOG)


def check(members: Members, policy: str | None = LOG.policy, known: bytes | None = None) -> Report:
    return verify_bundle(zip_of(members), policy, known)  # type: ignore[arg-type]


def entries(members: Members) -> list[tuple[int, bytes]]:
    return list(bundle.iter_entries(io.BytesIO(members["entries.bin"])))


def drop_entry(members: Members, idx: int) -> None:
    """Take an entry, its proof and its table rows out, as a forger would."""
    members["entries.bin"] = b"".join(
        bundle.pack_entries(item for item in entries(members) if item[0] != idx)
    )
    for name, separator in (
        ("proofs.txt", b" "),
        ("readings.csv", b","),
        ("flags.csv", b","),
        ("reviews.csv", b","),
    ):
        lead = str(idx).encode() + separator
        lines = members[name].splitlines(keepends=True)
        members[name] = b"".join(line for line in lines if not line.startswith(lead))


def change_entry(members: Members, idx: int, change: Callable[[bytes], bytes]) -> None:
    spoilt = [(at, change(entry) if at == idx else entry) for at, entry in entries(members)]
    members["entries.bin"] = b"".join(bundle.pack_entries(spoilt))


def replace_text(members: Members, name: str, old: bytes, new: bytes) -> None:
    assert old in members[name]
    members[name] = members[name].replace(old, new, 1)


def test_honest_bundle_verifies() -> None:
    report = check(dict(HONEST))
    assert report.exit_code == 0, report.text()
    assert report.findings == []
    assert report.counts == {
        "envelopes": 8,
        "readings": 32,
        "flags": 1,
        "reviews": 1,
        "events": 11,
        "quarantined": 0,
        "custody": 0,
    }
    assert "does not prove" in report.text()


def test_same_content_gives_the_same_zip() -> None:
    assert zip_of(HONEST).getvalue() == zip_of(dict(reversed(HONEST.items()))).getvalue()


ENVELOPE_IDX, FLAG_IDX, REVIEW_IDX, KEY_IDX = 8, 10, 11, 6


def drop_reading_row(members: Members) -> None:
    lines = members["readings.csv"].splitlines(keepends=True)
    del lines[6]
    members["readings.csv"] = b"".join(lines)


def drop_flag_row(members: Members) -> None:
    members["flags.csv"] = bundle.FLAGS_HEADER.encode()


def edit_value(members: Members) -> None:
    replace_text(members, "readings.csv", b",41.25,", b",1.25,")


def edit_envelope(members: Members) -> None:
    change_entry(members, ENVELOPE_IDX, lambda entry: entry[:-10] + b"AAAAAAAAAA")


def swap_rows(members: Members) -> None:
    lines = members["readings.csv"].splitlines(keepends=True)
    lines[2], lines[3] = lines[3], lines[2]
    members["readings.csv"] = b"".join(lines)


def add_flag_row(members: Members) -> None:
    row = members["flags.csv"].splitlines(keepends=True)[1]
    members["flags.csv"] += row.replace(b"mill-1-3", b"mill-1-9")


STRANGE_NOTE = sign_note("x\n", NoteSigner("x", seed("x")))
FAULTS: list[tuple[str, Callable[[Members], None], int, dict[str, object]]] = [
    ("reading edited", edit_value, 1, {"file": "readings.csv", "row": 3, "idx": 7}),
    ("reading row dropped", drop_reading_row, 1, {"file": "readings.csv", "idx": 8, "code": "table.lacks"}),
    ("reading rows swapped", swap_rows, 1, {"file": "readings.csv", "code": "table.order"}),
    ("flag row dropped", drop_flag_row, 1, {"file": "flags.csv", "flag_id": "mill-1-3", "idx": FLAG_IDX}),
    ("flag row invented", add_flag_row, 1, {"file": "flags.csv", "flag_id": "mill-1-9"}),
    ("flag text changed", lambda m: replace_text(m, "flags.csv", b",very unlikely,", b",unusual,"), 1,
     {"file": "flags.csv", "flag_id": "mill-1-3", "row": 2}),
    ("decision changed", lambda m: replace_text(m, "reviews.csv", b"needs_visit", b"dismissed"), 1,
     {"file": "reviews.csv", "row": 2, "idx": REVIEW_IDX}),
    ("reason changed", lambda m: replace_text(m, "disclosures.jsonl", b"Send someone", b"Send no one!"), 1,
     {"file": "disclosures.jsonl", "row": 1, "idx": REVIEW_IDX}),
    ("envelope edited", edit_envelope, 1, {"idx": ENVELOPE_IDX, "stn": STN, "ep": 0, "seq": 1}),
    ("envelope removed", lambda m: drop_entry(m, ENVELOPE_IDX), 2,
     {"stn": STN, "ep": 0, "seq": 2, "code": "chain.gap"}),
    ("first envelope removed", lambda m: drop_entry(m, 7), 2, {"code": "seal.first"}),
    ("last envelope removed", lambda m: drop_entry(m, 17), 2, {"code": "seal.last"}),
    ("flag event removed", lambda m: drop_entry(m, FLAG_IDX), 2, {"code": "chain.gap", "idx": REVIEW_IDX}),
    ("decision removed", lambda m: drop_entry(m, REVIEW_IDX), 2, {"code": "chain.gap"}),
    ("key event removed", lambda m: drop_entry(m, KEY_IDX), 2, {"code": "chain.gap", "idx": FLAG_IDX}),
    ("genesis removed", lambda m: drop_entry(m, 0), 2, {"code": "genesis.missing"}),
    ("log size in scope", lambda m: replace_text(m, "scope.json", b'"size":19', b'"size":20'), 1,
     {"code": "scope.size"}),
    ("note of another key", lambda m: m.update({"bundle.note": STRANGE_NOTE}), 1,
     {"file": "bundle.note"}),
    ("README edited", lambda m: m.update({"README.txt": b"trust me\n"}), 1, {"code": "seal.manifest"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "code", "named"), [fault[1:] for fault in FAULTS], ids=[f[0] for f in FAULTS]
)
def test_fault_is_named_even_with_a_fitting_manifest(
    spoil: Callable[[Members], None], code: int, named: dict[str, object]
) -> None:
    members = dict(HONEST)
    spoil(members)
    remanifest(members)
    report = check(members)
    assert report.exit_code == code, report.text()
    found = [finding.to_json() for finding in report.findings]
    assert any(named.items() <= finding.items() for finding in found), report.text()


@pytest.mark.parametrize("name", sorted(HONEST))
def test_a_missing_member_is_incomplete(name: str) -> None:
    members = {key: data for key, data in HONEST.items() if key != name}
    report = check(members)
    assert report.exit_code in (1, 2)
    codes = ("bundle.missing", "head.missing")
    assert any(finding.file == name and finding.code in codes for finding in report.findings)


@pytest.mark.parametrize("name", sorted(set(HONEST) - bundle.UNLISTED))
def test_manifest_catches_any_edit(name: str) -> None:
    report = check({**HONEST, name: HONEST[name] + b"\n"})
    assert report.exit_code == 1
    assert any(finding.file == name and finding.code == "manifest.differs" for finding in report.findings)


def test_revoked_and_unregistered_keys_sign_nothing() -> None:
    log = honest_log()
    log.station, good = type(log.station).from_seed(seed("station"), "mill-1-a"), log.station
    idx = log.envelope()
    log.station = good
    report = check(members_of(log), log.policy)
    assert (report.exit_code, {finding.code for finding in report.findings}) == (1, {"key.revoked"})
    assert report.findings[0].idx == idx
    stranger = honest_log()
    stranger.station = type(good).generate("Ed25519", "mill-1-z")
    stranger.envelope()
    assert {finding.code for finding in check(members_of(stranger), stranger.policy).findings} == {
        "key.unknown"
    }


def test_a_key_registered_without_its_own_proof_counts_for_nothing() -> None:
    log = Log()
    log.genesis()
    thief = type(log.station).from_seed(seed("thief"), log.station.kid)
    original, log.station = log.station, thief
    idx = log.register_key(thief)
    data = dict(log.events[-1].data)
    del log.events[-1:], log.entries[-1:]
    data["public_b64u"] = b64u_encode(original.public.raw)
    log.event("key.register", data)
    log.station = original
    log.envelope()
    report = check(members_of(log), log.policy)
    assert report.exit_code == 1
    assert any(finding.code == "key.proof" and finding.idx == idx for finding in report.findings)


def test_another_log_key_is_policy_not_met() -> None:
    other = NoteSigner(ORIGIN, seed("other log"))
    report = check(dict(HONEST), f"log {other.vkey}\nquorum none\n")
    assert report.exit_code == 4
    assert {finding.code for finding in report.findings} == {"policy.log"}


def test_missing_witness_is_policy_not_met() -> None:
    witness = NoteSigner("witness.example/w", seed("witness"), 4)
    text = f"log {LOG.log_key.vkey}\nwitness w {witness.vkey}\nquorum w\n"
    assert check(dict(HONEST), text).exit_code == 4


def test_without_a_policy_it_says_so_and_does_not_pass() -> None:
    report = check(dict(HONEST), None)
    assert report.exit_code == 4
    assert "NO POLICY OF YOUR OWN" in report.text()
    trusted = verify_bundle(zip_of(HONEST), None, trust_bundle_policy=True)  # type: ignore[arg-type]
    assert trusted.exit_code == 0
    assert "NO POLICY OF YOUR OWN" in trusted.text()


def test_known_checkpoint_of_a_fork() -> None:
    size = len(LOG.entries)
    fork = sign_note(Checkpoint(ORIGIN, size, bytes(32)).text(), LOG.log_key)
    report = check(dict(HONEST), known=fork)
    assert report.exit_code == 1
    assert {finding.code for finding in report.findings} == {"known.fork"}
    assert check(dict(HONEST), known=HONEST["checkpoint"]).exit_code == 0


def test_a_station_without_envelopes_verifies() -> None:
    log = Log()
    log.genesis()
    log.event("station.register", {"stn": STN, "name": "Mill"})
    report = check(members_of(log), log.policy)
    assert report.exit_code == 0, report.text()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_single_changed_byte_passes(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(HONEST)))
    at = data.draw(st.integers(0, len(HONEST[name]) - 1))
    bit = data.draw(st.integers(0, 7))
    spoilt = bytearray(HONEST[name])
    spoilt[at] ^= 1 << bit
    report = check({**HONEST, name: bytes(spoilt)})
    assert report.exit_code in (1, 2, 3, 4), (name, at, bit)
    assert report.findings
    if name not in ("bundle.note", "export.jws", "export.tlog-proof", "consistency.txt"):
        members = {**HONEST, name: bytes(spoilt)}
        if name != "MANIFEST":
            remanifest(members)
        assert check(members).exit_code in (1, 2, 3, 4), (name, at, bit)


def test_a_grave_fault_after_many_light_ones_still_decides() -> None:
    report = Report()
    for _ in range(300):
        report.step(8).add(Verdict.INCOMPLETE, "table.absent", "gone")
    report.step(8).add(Verdict.TAMPERED, "table.differs", "changed")
    assert (report.exit_code, report.step(8).found, len(report.findings)) == (1, 301, 200)
    assert "and 101 more" in report.text()


def peak_bytes(envelopes: int) -> int:
    log = Log()
    log.genesis()
    log.let_officers_in()
    log.register_key(log.station)
    for _ in range(envelopes):
        log.envelope(count=300)
    data = zip_of(members_of(log))
    tracemalloc.start()
    assert verify_bundle(data, log.policy).exit_code == 0  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_bundle() -> None:
    peak_bytes(2)
    small, large = peak_bytes(6), peak_bytes(48)
    assert large < small + 1_000_000


def test_program_prints_the_account_and_exits_with_the_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, policy, out = write_zip(tmp_path / "b.zip", HONEST), tmp_path / "policy.txt", tmp_path / "out.json"
    policy.write_text(LOG.policy)
    assert main([str(path), "--policy", str(policy), "--json", str(out)]) == 0
    assert "envelopes: 8, readings: 32" in capsys.readouterr().out
    assert json.loads(out.read_text())["exit_code"] == 0
    assert main([str(path)]) == 4
    assert main([str(tmp_path / "absent.zip"), "--policy", str(policy)]) == 3
    (tmp_path / "no.zip").write_bytes(b"not a zip")
    assert main([str(tmp_path / "no.zip"), "--policy", str(policy)]) == 3


def test_verifier_loads_nothing_but_the_standard_library_and_cryptography() -> None:
    script = (
        # What the machine's own Python loads at its start (Debian's sitecustomize) is not the verifier's.
        "import sys; started_with = set(sys.modules)\n"
        "import stackwitness_client.verify_cli\n"
        "known = started_with | set(sys.stdlib_module_names) | {'emdi', 'stackwitness_client', 'cryptography', '__main__'}\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} - known))"
    )
    lines = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert [name for name in eval(lines) if not name.startswith("_")] == []
