"""Detectors that need several stations: who copies whom, and who moved against the others."""

from stackwitness_detectors.fleet.judge import FleetResult, comparable_stations, run_fleet

__all__ = ["FleetResult", "comparable_stations", "run_fleet"]
