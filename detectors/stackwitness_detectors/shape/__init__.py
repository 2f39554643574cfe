"""Shape: how values are distributed - their last digits and grid, and their density at a limit or a ceiling."""

from stackwitness_detectors.shape.ceiling import Ceiling, ceilings
from stackwitness_detectors.shape.comb import Comb
from stackwitness_detectors.shape.density import LimitDensity
from stackwitness_detectors.shape.grid import Grid
from stackwitness_detectors.shape.heaps import Heaps
from stackwitness_detectors.shape.means import EqualMeans
from stackwitness_detectors.shape.units import DigitReader

__all__ = ["Ceiling", "Comb", "DigitReader", "EqualMeans", "Grid", "Heaps", "LimitDensity", "ceilings"]
