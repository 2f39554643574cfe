"""What cannot be judged, in an inspector's words."""

from __future__ import annotations

from stackwitness.console.facts import at_of
from stackwitness.console.locale import tongue
from stackwitness.console.unjudged import Reason, word_reasons
from stackwitness.detection.domain import Judgement, Unjudged

NOTES = (
    Unjudged("level", "nox", "below", "", {"percent": 7.7, "days": 28.0, "since_ms": 1_767_571_200_000}),
    Unjudged("still_12h", "nox", "history", "", {"need": 10, "have": 7}),
    Unjudged("still_24h", "nox", "history", "", {"need": 10, "have": 7}),
    Unjudged("pulse_3d", "nox", "history", "", {"need": 28, "have": 7}),
    Unjudged("limit_density", "nox", "no_limit", "", {}),
    Unjudged("engine", "so2", "silent", "", {"have": 48}),
    Unjudged("brand_new", "so2", "brand_new", "", {}),
    Unjudged("visits", "", "no_visits", "", {}),
)


def test_reasons_are_gathered_and_say_how_long_it_still_takes() -> None:
    judgement = Judgement(at_of(1_772_409_600_000), NOTES)
    t = tongue("en")
    assert word_reasons(t, judgement.unjudged("nox")) == (
        Reason(
            "too little past to compare with (up to 21 more days with readings)",
            ("Almost held value", "Falls at set hours"),
        ),
        Reason("no limit is registered", ("Crowding below the limit",)),
    )
    # What no test can look at has no kinds; an unknown code is shown as it is.
    assert word_reasons(t, judgement.unjudged("so2")) == (
        Reason("no measured reading for 2 days", ()),
        Reason("brand new", ("brand new",)),
    )
    [visits] = word_reasons(tongue("zh"), judgement.unjudged(""))
    assert visits.why == "没有检查或审核日期记录"
    seen = judgement.seen("nox")
    assert seen is not None
    assert (seen.percent, seen.days, seen.since.isoformat()) == (7.7, 28.0, "2026-01-05T00:00:00+00:00")
    assert judgement.seen("so2") is None
