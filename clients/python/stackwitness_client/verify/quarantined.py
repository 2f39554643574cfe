"""Step 6, second part: an envelope set aside accuses its station, so it must not be the accepted one itself."""

import hashlib
from collections.abc import Iterator

from emdi.bundle import BundleReader, iter_entries
from emdi.entry import KIND_QUARANTINED, KIND_READING, PREFIX_BYTES
from emdi.envelope import parse_envelope
from emdi.errors import EmdiError
from stackwitness_client.verify.contents import Contents
from stackwitness_client.verify.report import Report, Verdict


def check_quarantined(reader: BundleReader, contents: Contents, report: Report) -> None:
    """Name each envelope that stands twice, accepted and set aside: whoever keeps the log could frame a station so.

    Of the others say what was seen here: two envelopes the station signed for one place, or one of them alone.
    """
    if not report.counts["quarantined"]:
        return
    try:
        aside = {env_id: idx for idx, env_id, _ in _envelopes(reader, KIND_QUARANTINED)}
        accepted: dict[tuple[str, int, int], int] = {}
        same: set[int] = set()
        for idx, env_id, jws in _envelopes(reader, KIND_READING):
            envelope = parse_envelope(jws)
            place = (envelope.stn, envelope.ep, envelope.seq)
            if env_id in aside:
                message = f"the envelope of idx {idx} is set aside as if its station contradicted itself: the station did not"
                report.step(6).add(Verdict.TAMPERED, "quarantine.same", message, idx=aside[env_id])
                same.add(aside[env_id])
            elif place in contents.aside:
                accepted.setdefault(place, idx)
    except EmdiError:  # said where the entries are read
        return
    for place, idxs in contents.aside.items():
        for idx in idxs:
            if idx not in same:
                report.note(_describe(idx, place, accepted.get(place)))


def _describe(idx: int, place: tuple[str, int, int], accepted: int | None) -> str:
    stn, ep, seq = place
    if accepted is None:
        return (
            f"idx {idx}: an envelope that station {stn} signed for epoch {ep}, seq {seq} was set aside; the one"
            " accepted for that place is not in this bundle"
        )
    return (
        f"idx {idx}: station {stn} signed two envelopes for epoch {ep}, seq {seq}: this one, which was set aside,"
        f" and that of idx {accepted}, which was accepted"
    )


def _envelopes(reader: BundleReader, kind: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (log index, id, JWS) of every envelope of this kind; the id is the hash of what was signed."""
    with reader.stream("entries.bin") as stream:
        for idx, data in iter_entries(stream):
            if data[4:5] == bytes([kind]):
                jws = data[PREFIX_BYTES:]
                yield idx, hashlib.sha256(jws.rpartition(b".")[0]).digest(), jws
