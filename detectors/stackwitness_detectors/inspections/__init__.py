"""Whether a station reports otherwise while somebody watches."""

from stackwitness_detectors.inspections.visits import Visits

__all__ = ["Visits"]
