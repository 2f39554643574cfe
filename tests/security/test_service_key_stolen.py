"""A forger inside the service: the log is well-formed and signed, and what was logged is a lie."""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest

from emdi.encoding import b64u_encode, dump_json
from emdi.entry import KIND_EVENT, KIND_GENESIS, KIND_QUARANTINED, KIND_READING
from emdi.envelope import ZERO_HASH, seal_envelope
from emdi.event import seal_event, seal_key_proof, seal_succession
from emdi.jws import sign_jws
from emdi.keys import LocalKey
from stackwitness_client.verify import Report, verify_bundle
from tests.emdi.making import START_MS, STN, Log, honest_log, members_of, seed, zip_of


def check(log: Log) -> Report:
    return verify_bundle(zip_of(members_of(log)), log.policy)  # type: ignore[arg-type]


def second_genesis(log: Log) -> None:
    log.entries.append(log.entries[0])


def station_signs_an_event(log: Log) -> None:
    service, log.service = log.service, LocalKey.from_seed(seed("station"), log.service.kid)
    log.flag()
    log.service = service


def service_signs_an_envelope(log: Log) -> None:
    station, log.station = log.station, log.service
    log.envelope()
    log.station = station


def stolen_kid_reads_for_the_station(log: Log) -> None:
    """The right key id over another key."""
    station, log.station = log.station, LocalKey.from_seed(seed("thief"), log.station.kid)
    log.envelope()
    log.station = station


def register_a_kid_again(log: Log) -> None:
    log.register_key(LocalKey.from_seed(seed("thief"), "mill-1-a"))


def unrevoke_by_registering_again(log: Log) -> None:
    old = LocalKey.from_seed(seed("station"), "mill-1-a")
    log.register_key(old)
    station, log.station = log.station, old
    log.envelope()
    log.station = station


def key_of_another_station(log: Log) -> None:
    key = LocalKey.from_seed(seed("other"), "other-1")
    data = {"stn": "mill-2", "kid": key.kid, "alg": "Ed25519"}
    data |= {"public_b64u": b64u_encode(key.public.raw), "proof": seal_key_proof(key, "mill-2")}
    log.event("key.register", data)
    log.station = key
    log.envelope()


def key_data(key: LocalKey) -> dict[str, object]:
    data = {"stn": STN, "kid": key.kid, "alg": key.public.alg, "public_b64u": b64u_encode(key.public.raw)}
    return {**data, "proof": seal_key_proof(key, STN)}


def key_without_officers(log: Log) -> None:
    """The service's key alone makes no key of a station."""
    log.station = LocalKey.from_seed(seed("other"), "other-1")
    log.event("key.register", key_data(log.station), "operator-1")
    log.envelope()


def key_approved_by_who_asked(log: Log) -> None:
    key = LocalKey.from_seed(seed("other"), "other-1")
    log.event("key.request", key_data(key), "operator-1")
    approved = {"approvals": ["operator-1", "operator-2"], "request": log.events[-1].event_id.hex()}
    log.event("key.register", {**key_data(key), **approved}, "operator-1")


def rotation_without_the_old_key(log: Log) -> None:
    key, old = LocalKey.from_seed(seed("other"), "other-1"), log.station
    false = seal_succession(LocalKey.from_seed(seed("thief"), old.kid), STN, key.kid, key.public)
    log.event("key.rotate", {**key_data(key), "old_kid": old.kid, "old_proof": false}, "operator-1")


def envelope_behind_a_compromise(log: Log) -> None:
    compromise = {"kid": log.station.kid, "why": "stolen", "suspect_from_idx": 5}
    log.event("key.compromise", compromise, "operator-1")
    log.envelope()


def proof_for_another_station(log: Log) -> None:
    key = LocalKey.from_seed(seed("other"), "other-1")
    data = {"stn": STN, "kid": key.kid, "alg": "Ed25519"}
    data |= {"public_b64u": b64u_encode(key.public.raw), "proof": seal_key_proof(key, "mill-2")}
    log.event("key.register", data)


def envelope_logged_twice(log: Log) -> None:
    log.append(KIND_READING, log.envelopes[-1].jws)


def epoch_goes_back(log: Log) -> None:
    first = log.envelopes[0]
    log.append(KIND_READING, first.jws)


def epoch_left_out(log: Log) -> None:
    log.envelope(ep=7)


def other_chain_for_one_place(log: Log) -> None:
    last = log.envelopes[-1]
    claims = {"stn": STN, "ep": last.ep, "seq": last.seq, "prev": last.prev, "cp": None}
    twin = seal_envelope(log.station, iat_ms=START_MS, records=last.records[:1], **claims)  # type: ignore[arg-type]
    log.append(KIND_READING, twin.jws)


def envelope_of_another_station(log: Log) -> None:
    last = log.envelopes[-1]
    claims = {"stn": "mill-2", "ep": 0, "seq": 0, "prev": ZERO_HASH, "cp": None}
    other = seal_envelope(log.station, iat_ms=START_MS, records=last.records[:1], **claims)  # type: ignore[arg-type]
    log.append(KIND_READING, other.jws)


def set_the_last_envelope_aside(log: Log) -> None:
    """Logged as quarantined instead of accepted: the next one no longer follows."""
    log.envelope()
    log.entries[-1] = log.entries[-1][:4] + bytes([KIND_QUARANTINED]) + log.entries[-1][5:]
    last = log.envelopes[-1]
    log.rows["readings"] = [row for row in log.rows["readings"] if f",{last.ep},{last.seq}," not in row]
    log.envelope()


def accuse_the_station_falsely(log: Log) -> None:
    """An equivocation that the station never signed."""
    last = log.envelopes[-1]
    thief = LocalKey.from_seed(seed("thief"), last.kid)
    claims = {"stn": STN, "ep": last.ep, "seq": last.seq, "prev": last.prev, "cp": None}
    fake = seal_envelope(thief, iat_ms=START_MS, records=last.records[:1], **claims)  # type: ignore[arg-type]
    log.append(KIND_QUARANTINED, fake.jws)


def flag_under_another_name(log: Log) -> None:
    data = {**log.events[4].data, "flag_id": "mill-1-99"}
    log.event("flag.raised", data)


def reuse_a_number_of_the_subject(log: Log) -> None:
    last = log.events[-1]
    claims = {"subj": last.subj, "sseq": last.sseq, "sprev": last.sprev, "act": "system", "ts_ms": START_MS}
    event = seal_event(log.service, typ="station.note", data={}, **claims)  # type: ignore[arg-type]
    log.append(KIND_EVENT, event.jws)


def claims_of_other_types(log: Log) -> None:
    """True where 1 stands: equal for Python, another envelope for everyone else."""
    last = log.envelopes[-1]
    claims = {"v": True, "stn": STN, "ep": last.ep, "seq": last.seq + 1, "prev": b64u_encode(last.env_id)}
    claims |= {"iat": START_MS, "cp": None, "p": [{"bn": f"urn:emdi:{STN}:", "bt": START_MS // 1000}]}
    log.append(KIND_READING, sign_jws(log.station, "emdi-rd+jws", dump_json(claims)))


def unhashable_names(log: Log) -> None:
    log.event("key.register", {"stn": [STN], "kid": ["k"], "alg": ["Ed25519"], "public_b64u": 5, "proof": {}})
    log.event("key.revoke", {"kid": {"k": 1}})
    log.event("flag.raised", {"flag_id": ["x"], "channels": 5, "from_ms": 10**15, "to_ms": True})
    log.event("review.decision", {"review_id": {}, "flag_id": None, "decision": [], "reason_sha256": 1})


def genesis_of_another_log(log: Log) -> None:
    log.entries[0] = log.entries[0].replace(b"log.example/2026", b"log.example/2027")


def genesis_of_another_kind(log: Log) -> None:
    body = dump_json({"v": 1, "service_kid": ["x"], "service_public_b64u": 5, "export_vkey": {}})
    log.entries[0] = log.entries[0][:13] + body
    assert log.entries[0][4] == KIND_GENESIS


# what the forger does, exit code, code of a finding
LIES: list[tuple[Callable[[Log], None], int, str]] = [
    (second_genesis, 3, "genesis.place"),
    (station_signs_an_event, 1, "envelope.signature"),
    (service_signs_an_envelope, 1, "key.unknown"),
    (stolen_kid_reads_for_the_station, 1, "envelope.alg"),
    (register_a_kid_again, 1, "key.duplicate"),
    (unrevoke_by_registering_again, 1, "key.revoked"),
    (key_of_another_station, 1, "key.station"),
    (key_without_officers, 1, "key.officers"),
    (key_approved_by_who_asked, 1, "key.officers"),
    (rotation_without_the_old_key, 1, "key.old_proof"),
    (envelope_behind_a_compromise, 1, "key.revoked"),
    (proof_for_another_station, 1, "key.proof"),
    (envelope_logged_twice, 1, "chain.known"),
    (epoch_goes_back, 1, "chain.replayed"),
    (epoch_left_out, 2, "chain.epoch"),
    (other_chain_for_one_place, 1, "chain.replayed"),
    (envelope_of_another_station, 1, "chain.station"),
    (set_the_last_envelope_aside, 2, "chain.gap"),
    (accuse_the_station_falsely, 1, "envelope.alg"),
    (flag_under_another_name, 1, "chain.id"),
    (reuse_a_number_of_the_subject, 1, "chain.replayed"),
    (claims_of_other_types, 3, "envelope.v"),
    (unhashable_names, 1, "key.event"),
    (genesis_of_another_log, 2, "genesis.form"),
    (genesis_of_another_kind, 2, "genesis.form"),
]


@pytest.mark.parametrize(("lie", "code", "named"), LIES, ids=[lie[0].__name__ for lie in LIES])
def test_a_lie_that_was_logged_is_named(lie: Callable[[Log], None], code: int, named: str) -> None:
    log = honest_log()
    lie(log)
    report = check(log)
    assert named in {finding.code for finding in report.findings}, report.text()
    assert report.exit_code == code, report.text()


def test_an_equivocation_the_station_signed_is_told() -> None:
    log = honest_log()
    last = log.envelopes[-1]
    claims = {"stn": STN, "ep": last.ep, "seq": last.seq, "prev": last.prev, "cp": None}
    twin = seal_envelope(log.station, iat_ms=START_MS, records=last.records[:1], **claims)  # type: ignore[arg-type]
    log.append(KIND_QUARANTINED, twin.jws)
    report = check(log)
    assert (report.exit_code, report.counts["quarantined"]) == (0, 1), report.text()
    idx, accepted = len(log.entries) - 2, len(log.entries) - 3  # the head came behind
    assert (
        f"idx {idx}: station {STN} signed two envelopes for epoch 1, seq 1: this one, which was set aside, and that of"
        f" idx {accepted}, which was accepted"
    ) in report.text()


def test_of_an_envelope_set_aside_alone_no_more_is_said_than_was_seen() -> None:
    log = honest_log()
    last = log.envelopes[-1]
    claims = {"stn": STN, "ep": 7, "seq": 3, "prev": last.prev, "cp": None}
    alone = seal_envelope(log.station, iat_ms=START_MS, records=last.records[:1], **claims)  # type: ignore[arg-type]
    idx = log.append(KIND_QUARANTINED, alone.jws)
    report = check(log)
    assert report.exit_code == 0, report.text()
    assert "signed two envelopes" not in report.text()
    assert (
        f"idx {idx}: an envelope that station {STN} signed for epoch 7, seq 3 was set aside; the one accepted for that"
        " place is not in this bundle"
    ) in report.text()


def test_a_signature_that_does_not_hold_accuses_nobody() -> None:
    log = honest_log()
    last = log.envelopes[-1]
    claims = {"stn": STN, "ep": last.ep, "seq": last.seq, "prev": last.prev, "cp": None}
    twin = seal_envelope(log.station, iat_ms=START_MS, records=last.records[:1], **claims)  # type: ignore[arg-type]
    log.append(KIND_QUARANTINED, twin.jws[:-10] + b"AAAAAAAAAA")
    report = check(log)
    assert report.exit_code == 1
    assert "set aside" not in report.text()


def test_two_exports_cannot_be_mixed() -> None:
    log = honest_log()
    first = members_of(log)
    later = replace(log, entries=list(log.entries), envelopes=list(log.envelopes))
    later.envelope()
    second = members_of(later)
    differing = sorted(name for name in first if first[name] != second[name])
    assert len(differing) >= 8
    for name in differing:
        mixed = zip_of({**first, name: second[name]})
        assert verify_bundle(io.BytesIO(mixed.getvalue()), log.policy).exit_code != 0, name  # type: ignore[arg-type]


def test_what_a_compromised_key_signed_is_told_and_still_verifies() -> None:
    log = honest_log()
    log.event(
        "key.compromise", {"kid": log.station.kid, "why": "stolen", "suspect_from_idx": 15}, "operator-1"
    )
    report = check(log)
    assert report.exit_code == 0, report.text()
    assert "signed at idx 15 and later is suspect, 3 envelopes here" in report.text()
