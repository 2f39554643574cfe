"""Step 8: the tables that events give: flags, decisions, custody."""

from typing import Any

from emdi.bundle import BundleReader, custody_csv_row, flag_text_sha256, flags_csv_row, reviews_csv_row
from emdi.event import Event
from emdi.tables import CUSTODY
from stackwitness_client.verify.contents import Contents
from stackwitness_client.verify.report import Report, Verdict
from stackwitness_client.verify.tables import CUSTODIES, FLAGS, REVIEWS, TableCheck


class EventRows:
    """Write the row of each event again and compare it with the table's."""

    def __init__(self, reader: BundleReader, contents: Contents, report: Report) -> None:
        self._stns = set(contents.stns)
        self._report = report
        self._flags = TableCheck(FLAGS, reader, report.step(8))
        self._reviews = TableCheck(REVIEWS, reader, report.step(8))
        self._custody = TableCheck(CUSTODIES, reader, report.step(8))

    def take(self, idx: int, event: Event) -> None:
        """Expect the row of one event on a station in scope."""
        kind, _, stn = event.subj.partition(":")
        if kind != "station" or stn not in self._stns:
            return
        try:
            self._expect(idx, event, f"{stn}-{event.sseq}")
        except (KeyError, TypeError, ValueError, OverflowError):
            message = f"{event.typ} {event.subj} {event.sseq} lacks what its table row needs"
            self._report.step(8).add(Verdict.MALFORMED, "table.event", message, idx=idx)

    def finish(self) -> None:
        """Report the rows left over."""
        for table in (self._flags, self._reviews, self._custody):
            table.finish()
        counts = self._report.counts
        rows = f"{counts['readings']} readings, {counts['flags']} flags, {counts['reviews']} reviews"
        self._report.step(8).finish(f"{rows}, {counts['custody']} acts of custody equal the signed ones")

    def _expect(self, idx: int, event: Event, own_id: str) -> None:
        data = event.data
        if event.typ == "flag.raised":
            self._report.counts["flags"] += 1
            self._expect_id(idx, event, "flag_id", own_id)
            self._flags.expect(idx, [_flag_row(idx, data)])
        elif event.typ == "review.decision":
            self._report.counts["reviews"] += 1
            self._expect_id(idx, event, "review_id", own_id)
            row = reviews_csv_row(idx, data["review_id"], data["flag_id"], data["decision"], event.act)
            self._reviews.expect(idx, [row])
        elif event.typ in CUSTODY:
            self._report.counts["custody"] += 1
            row = custody_csv_row(idx, event.subj, event.typ, event.ts_ms, event.act, data)
            self._custody.expect(idx, [row])

    def _expect_id(self, idx: int, event: Event, name: str, own_id: str) -> None:
        if event.data[name] != own_id:
            message = f"{event.typ} calls itself {event.data[name]!r}, its place in the chain is {own_id}"
            self._report.step(6).add(Verdict.TAMPERED, "chain.id", message, idx=idx)


def _flag_row(idx: int, data: dict[str, Any]) -> str:
    return flags_csv_row(
        idx,
        data["flag_id"],
        data["detector"],
        data["kind"],
        data["verdict"],
        data["from_ms"],
        data["to_ms"],
        data["channels"],
        flag_text_sha256(data["text_en"], data["text_zh"]),
    )
