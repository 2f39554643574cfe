"""Measure detectors: splits, forged trials, replays from a stored state, and metrics with intervals. All pure."""
