"""Restore a lost or edited database from the published entry bundles."""

from stackwitness.log.rebuild.flow import Rebuilt, rebuild
from stackwitness.log.rebuild.source import VerifiedLog, open_source

__all__ = ["Rebuilt", "VerifiedLog", "open_source", "rebuild"]
