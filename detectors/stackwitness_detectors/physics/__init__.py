"""What the laws of combustion say of gases measured side by side."""

from stackwitness_detectors.physics.oxygen import OxygenLine

__all__ = ["OxygenLine"]
