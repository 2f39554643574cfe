"""What the load, the air and the other channels say a channel should be, and tests of what was reported."""

from stackwitness_detectors.conditional.dependence import Dependence
from stackwitness_detectors.conditional.exceedances import Exceedances
from stackwitness_detectors.conditional.level import Level
from stackwitness_detectors.conditional.residuals import Residuals

__all__ = ["Dependence", "Exceedances", "Level", "Residuals"]
