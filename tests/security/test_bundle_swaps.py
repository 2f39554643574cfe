"""Members, texts and tables of a bundle put where they do not belong: each is caught, by the step that is named.

A forger makes MANIFEST fit again; a dishonest exporter, who holds the service's key, seals what he made.
"""

import io
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from emdi import bundle
from emdi.bundle import Disclosure
from emdi.encoding import b64u_encode
from emdi.report import make_report, report_keyword
from stackwitness_client import parquet
from stackwitness_client.verify import Report, verify_bundle
from tests.emdi.making import (
    SALT,
    START_MS,
    STN,
    Log,
    honest_log,
    members_of,
    remanifest,
    texts_of,
    zip_of,
)

Members = dict[str, bytes]
WHY = "The permit of this year."


def officers_log() -> Log:
    """Return the honest log, with a limit that an officer changed and a key that one revoked."""
    log = honest_log()
    limit = {"stn": STN, "channel": "nox-0", "old": 50, "new": 35, "from_ms": START_MS}
    log.explain("limit.change", limit, WHY, "operator-1")
    log.explain("key.revoke", {"kid": "mill-1-b"}, "The logger is scrapped.", "operator-2")
    return log


def sealed(more: Members) -> Report:
    """Verify a bundle in which a dishonest exporter sealed these members."""
    log = officers_log()
    return verify_bundle(zip_of(members_of(log, lambda _: more)), log.policy)  # type: ignore[arg-type]


def forged(members: Members) -> Report:
    """Verify members whose MANIFEST was made to fit again."""
    remanifest(members)
    return verify_bundle(zip_of(members), LOG.policy)  # type: ignore[arg-type]


def failed(report: Report) -> set[int]:
    return {step.number for step in report.steps if step.state == "failed"}


LOG = officers_log()
HONEST = members_of(LOG)


def test_any_two_members_that_change_places_are_caught() -> None:
    pairs = [pair for pair in itertools.combinations(sorted(HONEST), 2) if HONEST[pair[0]] != HONEST[pair[1]]]
    assert len(pairs) > 150
    for one, two in pairs:
        swapped = {**HONEST, one: HONEST[two], two: HONEST[one]}
        if "MANIFEST" not in (one, two):
            remanifest(swapped)
        report = verify_bundle(zip_of(swapped), LOG.policy)  # type: ignore[arg-type]
        assert report.exit_code != 0, (one, two)
        assert failed(report), (one, two)


# ---------------------------------------------------------------------------------------------- disclosures

TEXTS = texts_of(LOG)
DECISION, NAME, LIMIT, REVOKE = TEXTS[0], TEXTS[1], TEXTS[-2], TEXTS[-1]


def lines(*texts: Disclosure) -> Members:
    return {"disclosures.jsonl": "".join(map(bundle.format_disclosure, texts)).encode()}


def moved(text: Disclosure) -> bytes:
    """Return a line whose salt ends where the text began: the same bytes are hashed."""
    members = json.loads(bundle.format_disclosure(text))
    longer = text.salt + text.text[:1].encode()
    members |= {"salt": b64u_encode(longer), "text": text.text[1:]}
    return json.dumps(members, separators=(",", ":")).encode() + b"\n"


# name -> (what stands in disclosures.jsonl, the exit code, the finding)
LIES: dict[str, tuple[Members, int, str]] = {
    "the text of another act of the same kind": (
        lines(LIMIT._replace(text=REVOKE.text), REVOKE._replace(text=LIMIT.text)), 1, "disclosure.text"),
    "salt and text of another act": (
        lines(LIMIT._replace(event_id=REVOKE.event_id), REVOKE._replace(event_id=LIMIT.event_id)), 1, "disclosure.text"),
    "a reason as a name": (lines(DECISION._replace(event_id=NAME.event_id)), 1, "disclosure.text"),
    "the right text under another salt": (lines(LIMIT._replace(salt=bytes(32))), 1, "disclosure.text"),
    "another text under the right salt": (lines(LIMIT._replace(text=WHY + " ")), 1, "disclosure.text"),
    "a text nobody has": (lines(LIMIT._replace(salt=bytes(32), text="")), 1, "disclosure.text"),
    "a text of an act that binds none": (
        lines(Disclosure(LOG.events[0].event_id, SALT, "x")), 2, "disclosure.event"),
    "a text of another agency's act": (lines(Disclosure(bytes(range(32)), SALT, "x")), 2, "disclosure.event"),
    "salt and text divided elsewhere": ({"disclosures.jsonl": moved(LIMIT)}, 3, "bundle.digest"),
    "an event id in capitals": (
        {"disclosures.jsonl": lines(LIMIT)["disclosures.jsonl"].replace(
            LIMIT.event_id.hex().encode(), LIMIT.event_id.hex().upper().encode())}, 3, "bundle.digest"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_text_where_it_does_not_belong_is_caught_though_sealed(name: str) -> None:
    members, code, finding = LIES[name]
    report = sealed(members)
    assert (report.exit_code, failed(report)) == (code, {10}), report.text()
    assert {one.code for one in report.findings} == {finding}


def test_leaving_texts_out_is_withholding_and_no_fault() -> None:
    for kept in range(len(TEXTS) + 1):
        report = sealed(lines(*TEXTS[:kept]))
        assert report.exit_code == 0, report.text()
        assert report.step(10).done == f"{kept} texts are those bound, {len(TEXTS) - kept} withheld"
    report = sealed(lines(*TEXTS[:-2]))
    assert "withheld from this bundle: 2 explanations;" in report.text()


def test_a_text_shown_later_is_held_against_the_event_alone() -> None:
    """Whoever was shown a redacted bundle needs the event, the salt and the words, and nothing from us."""
    event = next(one for one in LOG.events if one.event_id == LIMIT.event_id)
    assert event.data["why_sha256"] == LIMIT.digest.hex()
    assert "why" not in event.data
    assert WHY.encode() not in members_of(officers_log(), lambda _: lines())["entries.bin"]


# -------------------------------------------------------------------------------------------------- reports


def with_report(log: Log) -> Members:
    """Return the members of a bundle with the summary that its other members give, and a printed page."""
    with bundle.BundleReader(zip_of(members_of(log))) as reader:
        summary = make_report(reader)
    return {"report.json": summary, "report.pdf": b"%PDF-1.7 " + report_keyword(summary).encode()}


def test_the_report_of_another_bundle_is_caught() -> None:
    other_log = honest_log()
    other_log.envelope()
    mine, other = with_report(officers_log()), with_report(other_log)
    assert mine["report.json"] != other["report.json"]
    assert sealed(mine).exit_code == 0, sealed(mine).text()
    for name, finding in (("report.json", "report.differs"), ("report.pdf", "report.printed")):
        report = sealed({**mine, name: other[name]})
        assert (report.exit_code, failed(report)) == (1, {14}), report.text()
        assert [one.code for one in report.findings] == [finding]
    # Not sealed, a page of another bundle is not the one that the log's event names.
    log = officers_log()
    members = members_of(log, lambda _: mine)
    for name in mine:
        report = forged({**members, name: other[name][:-1] + b" "})
        assert report.exit_code == 1
        assert 7 in failed(report), report.text()
        report = verify_bundle(zip_of({**members, name: other[name]}), log.policy)  # type: ignore[arg-type]
        assert 2 in failed(report)


# -------------------------------------------------------------------------------------------------- Parquet


def table(csv: bytes, **settings: Any) -> bytes:
    """Return a table as a forger writes it: with settings of his own."""
    pq = pytest.importorskip("pyarrow.parquet")
    schema, groups = parquet.read_groups(io.BytesIO(csv))
    schema = settings.pop("schema", lambda it: it)(schema)
    sink = io.BytesIO()
    twice, said = settings.pop("twice", False), settings.pop("said", None)
    with pq.ParquetWriter(sink, schema, store_schema=False, compression="zstd", **settings) as writer:
        for group in groups:
            for _ in range(1 + twice):
                writer.write_table(group.cast(schema))
        if said:
            writer.add_key_value_metadata(said)
    return sink.getvalue()


def typed(name: str, kind: str) -> Callable[[Any], Any]:
    def change(schema: Any) -> Any:
        import pyarrow as pa

        index = schema.get_field_index(name)
        return schema.set(index, pa.field(name, getattr(pa, kind)()))

    return change


READINGS = HONEST["readings.csv"]
TABLES: dict[str, Callable[[], bytes]] = {
    "a value": lambda: table(READINGS.replace(b",41.25,", b",1.25,", 1)),
    "a status": lambda: table(READINGS.replace(b",D\n", b",N\n", 1)),
    "a row group more": lambda: table(READINGS, twice=True),
    "words in its footer": lambda: table(READINGS, said={"note": "all values checked"}),
    "numbers as words": lambda: table(READINGS, schema=typed("idx", "string")),
    "values of half the precision": lambda: table(READINGS, schema=typed("value", "float32")),
    "rows in another order": lambda: table(
        READINGS.split(b"\n", 1)[0] + b"\n" + b"\n".join(reversed(READINGS.split(b"\n")[1:-1])) + b"\n"),
    "the flags' rows": lambda: table(HONEST["flags.csv"]),
}  # fmt: skip


@pytest.mark.parametrize("version", ["same", "other"])
@pytest.mark.parametrize("name", TABLES)
def test_an_edited_table_is_caught_though_sealed(
    name: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    data = TABLES[name]()
    if version == "other":  # the values are compared, not the bytes
        monkeypatch.setattr(parquet, "library_version", lambda: "0.0.0")
    report = sealed({"readings.parquet": data})
    assert (report.exit_code, failed(report)) == (1, {11}), report.text()
    assert {one.file for one in report.findings} == {"readings.parquet"}
