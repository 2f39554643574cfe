"""Step 6, second part: an envelope set aside accuses its station, so it must not be the accepted one itself."""

import hashlib
from collections.abc import Iterator

from emdi.bundle import BundleReader, iter_entries
from emdi.entry import KIND_QUARANTINED, KIND_READING, PREFIX_BYTES
from emdi.errors import EmdiError
from stackwitness_client.verify.report import Report, Verdict


def check_quarantined(reader: BundleReader, report: Report) -> None:
    """Name each envelope that stands twice, accepted and set aside: whoever keeps the log could frame a station so."""
    if not report.counts["quarantined"]:
        return
    try:
        aside = dict(_ids(reader, KIND_QUARANTINED))
        for env_id, idx in _ids(reader, KIND_READING):
            if env_id in aside:
                message = f"the envelope of idx {idx} is set aside as if its station contradicted itself: the station did not"
                report.step(6).add(Verdict.TAMPERED, "quarantine.same", message, idx=aside[env_id])
    except EmdiError:  # said where the entries are read
        return


def _ids(reader: BundleReader, kind: int) -> Iterator[tuple[bytes, int]]:
    """Yield (id, log index) of every envelope of this kind; the id is the hash of what was signed."""
    with reader.stream("entries.bin") as stream:
        for idx, data in iter_entries(stream):
            if data[4:5] == bytes([kind]):
                yield hashlib.sha256(data[PREFIX_BYTES:].rpartition(b".")[0]).digest(), idx
