"""What the laws of combustion, of mixing and of vapour say of channels measured side by side."""

from stackwitness_detectors.physics.common_mode import CommonMode
from stackwitness_detectors.physics.flow_to_load import FlowToLoad
from stackwitness_detectors.physics.oxygen import OxygenLine
from stackwitness_detectors.physics.saturation import Saturation

__all__ = ["CommonMode", "FlowToLoad", "OxygenLine", "Saturation"]
