"""Replay real data sets through the station SDK over HTTP, honestly or forged before signing."""

from stackwitness.replay.command import EXIT_CODES, run
from stackwitness.replay.options import Forgery, ReplayOptions, parse_forgery, parse_time

__all__ = ["EXIT_CODES", "Forgery", "ReplayOptions", "parse_forgery", "parse_time", "run"]
