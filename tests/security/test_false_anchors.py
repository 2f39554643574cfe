"""Time stamps that are none: an event, a file or a mirror that speaks of one stops no export, rebuild or log."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from stackwitness.log.events import append_event
from stackwitness.log.fsck import fsck
from stackwitness.settings import Settings
from stackwitness_client.verify import verify_bundle
from tests.service.evidence_support import Shop, make_shop
from tests.service.test_frozen_bundle import build, end

NOTE, TSR = b"no note", b"no stamp"
NAMED: dict[str, Any] = {
    "k": 0,
    "tsa": "http://tsa.example",
    "note_sha256": hashlib.sha256(NOTE).hexdigest(),
    "tsr_sha256": hashlib.sha256(TSR).hexdigest(),
    "gen_time_ms": 1,
}
FALSE: dict[str, dict[str, Any]] = {
    "no anchor": {"policy": "x"},
    "malformed": {**NAMED, "size": "5"},
    "of a tree to come": {**NAMED, "size": 1 << 40},
    "of an empty tree": {**NAMED, "size": 0},
    "of no note": {**NAMED, "size": 5},
}


@pytest.fixture
def shop(settings: Settings, engine: sa.Engine) -> Shop:
    return make_shop(settings, engine)


def say(shop: Shop, data: dict[str, Any]) -> None:
    """Log the event with the service's own key, and lay down the files that it names."""
    with shop.engine.begin() as conn:
        append_event(conn, shop.service_key, typ="anchor.tsa", subj="log", act="service:log", data=data)
    for name, content in (("note", NOTE), ("0.tsr", TSR)):
        shop.log.disk.write(f"anchors/{data.get('size')}.{name}", content)


@pytest.mark.parametrize("what", FALSE)
def test_an_event_of_a_stamp_that_is_none_spoils_no_bundle(shop: Shop, what: str, tmp_path: Path) -> None:
    say(shop, FALSE[what])
    end(shop)
    report = verify_bundle(build(shop, stn="S1"), shop.policy_text)
    assert report.exit_code == 0, report.text()
    found = fsck(shop.engine, shop.settings.log_dir, shop.log.policy).findings
    assert [finding for finding in found if finding.code.startswith("anchor.")], found
