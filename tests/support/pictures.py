"""Hold a finding's plot to what an inspector needs: it can be drawn, shows what is accused, and an ordinary time beside it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from stackwitness.console.charts.evidence import draw_evidence
from stackwitness.console.charts.spec import parse_plot
from stackwitness.console.locale import tongue
from stackwitness.flags.flow import plot_text
from stackwitness_detectors import Finding


def check_picture(finding: Finding) -> None:
    """Assert that the console draws the finding's evidence in both languages, and that it tells something."""
    spec = parse_plot(plot_text(finding.plot))
    for code in ("en", "zh"):
        t = tongue(code)
        pictures = draw_evidence(spec, finding.channels, t, 480, t.pick(spec.title_en, spec.title_zh))
        assert pictures, finding.detector
        for picture in pictures:
            ET.fromstring(str(picture))
        assert t.pick(spec.title_en, spec.title_zh), finding.detector
    accused = [series for series in spec.series if series.channel in finding.channels]
    assert accused, (finding.detector, finding.channels)
    first_ms, last_ms = spec.interval
    assert any(first_ms <= at_ms <= last_ms for series in accused for at_ms in series.t), finding.detector
    past = any(at_ms < first_ms for series in accused for at_ms in series.t)
    beside = past or spec.band is not None or spec.match is not None or spec.histogram is not None
    assert beside, f"{finding.detector}: nothing ordinary stands beside what is flagged"
