"""Flow to load, saturation, common mode: found when forged, silent on the honest, notes where channels are missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stackwitness_detectors import Context
from stackwitness_detectors.conditional import Residuals
from stackwitness_detectors.config import Config
from stackwitness_detectors.engine import Engine, Family
from stackwitness_detectors.forge import forge
from stackwitness_detectors.memory import Memory
from stackwitness_detectors.physics import CommonMode, FlowToLoad, Saturation
from stackwitness_detectors.physics.saturation import saturated
from tests.detectors import gasworks, pairs
from tests.detectors.alone import alone
from tests.detectors.plants import CONTEXT as PLAIN
from tests.detectors.plants import DAY_MS, START_MS, part, with_values

WET = pairs.pairs(60, seed=31)
WORKS = gasworks.works(110, seed=23)
FROM_MS, TO_MS = START_MS + 85 * DAY_MS, START_MS + 99 * DAY_MS


def vapour(memory: Memory, config: Config) -> list[Family]:
    return [Saturation(memory, config)]


def mixing(memory: Memory, config: Config) -> list[Family]:
    residuals = Residuals(memory, config)
    return [residuals, CommonMode(memory, config, residuals)]


def flows(memory: Memory, config: Config) -> list[Family]:
    return [FlowToLoad(memory, config)]


def test_saturation_is_that_of_the_tables() -> None:
    held = saturated(np.array([20.0, 50.0, 60.0, 80.0, 120.0, -5.0]), np.full(6, 1013.25))
    assert held[:4] == pytest.approx([2.31, 12.2, 19.7, 46.7], rel=0.02)
    assert np.isnan(held[4:]).all()


def test_a_moisture_set_by_hand_above_saturation_cannot_be() -> None:
    water = WET.values["water"].copy()
    water[45 * 24 : 50 * 24] = np.round(water[45 * 24 : 50 * 24] * 1.7, 1)
    findings = alone(vapour, with_values(WET, water=water), pairs.CONTEXT)
    assert findings
    assert findings[0].verdict == "cannot be"
    assert float(findings[0].numbers["moisture"]) > float(findings[0].numbers["saturation"])
    assert findings[0].from_ms == START_MS + 45 * DAY_MS
    assert alone(vapour, WET, pairs.CONTEXT) == []


def test_saturation_needs_one_stack_temperature() -> None:
    without = Context("dry", tuple(c for c in pairs.CONTEXT.channels if c.role != "temperature"))
    memory = Memory(without, Config())
    assert "no stack temperature" in Saturation(memory, Config()).notes()[0].reason
    assert Saturation(Memory(PLAIN, Config()), Config()).notes() == []


@pytest.mark.parametrize(("kind", "strength"), [("dilution", 0.1), ("dilution_forged_o2", 0.1)])
def test_a_common_fall_is_found_and_oxygen_tells_how(kind: str, strength: float) -> None:
    bent = forge(kind, WORKS, gasworks.CONTEXT, "nox", FROM_MS, TO_MS, strength, 4)
    findings = alone(mixing, bent, gasworks.CONTEXT)
    assert findings
    assert findings[0].kinds[0] == kind
    assert set(findings[0].channels) == {"nox", "so2", "co2"}
    assert float(findings[0].numbers["fall_percent"]) == pytest.approx(100 * strength, abs=4)


def test_one_gas_that_falls_is_no_common_fall() -> None:
    bent = forge("scale", WORKS, gasworks.CONTEXT, "nox", FROM_MS, TO_MS, 0.3, 4)
    assert alone(mixing, bent, gasworks.CONTEXT) == []


def test_the_honest_works_are_left_alone() -> None:
    assert [f.text_en for f in alone(mixing, WORKS, gasworks.CONTEXT)] == []
    assert [f.text_en for f in alone(flows, WORKS, gasworks.CONTEXT)] == []


def test_flow_off_its_load_fails_the_rule() -> None:
    flow = WORKS.values["flow"].copy()
    flow[85 * 24 :] = np.round(flow[85 * 24 :] * 0.8, -2)
    findings = alone(flows, with_values(WORKS, flow=flow), gasworks.CONTEXT)
    assert findings
    last = findings[-1]
    assert "failed" in last.text_en
    assert last.channels == ("flow",)
    assert float(findings[0].numbers["ef_percent"]) > 10
    assert last.plot["band"]["mid"]


def test_without_load_there_is_no_ratio() -> None:
    context = replace(gasworks.CONTEXT, channels=gasworks.CONTEXT.channels[1:])
    assert FlowToLoad(Memory(context, Config()), Config()).tested == []
    assert alone(flows, part(WORKS, 0, 1000), context) == []


def test_streamed_in_pieces_they_say_the_same() -> None:
    bent = forge("dilution", WORKS, gasworks.CONTEXT, "nox", FROM_MS, TO_MS, 0.2, 4)

    def all_of(memory: Memory) -> list[Family]:
        return [*mixing(memory, Config()), *flows(memory, Config())]

    told: dict[int, tuple[list[object], bytes]] = {}
    for width in (len(bent.at_ms), 911):
        state: bytes | None = None
        heard: list[object] = []
        for first in range(0, len(bent.at_ms), width):
            memory = Memory(gasworks.CONTEXT, Config())
            engine = Engine(gasworks.CONTEXT, Config(), all_of(memory), memory)
            if state is not None:
                engine.load(state)
            with np.errstate(all="ignore"):
                engine.feed(part(bent, first, min(first + width, len(bent.at_ms))))
            state, heard = engine.dump(), heard + engine.findings
        assert state is not None
        told[width] = (heard, state)
    whole, pieces = told.values()
    assert whole == pieces
