"""Check a log and its database from end to end."""

from stackwitness.log.fsck.check import fsck
from stackwitness.log.fsck.report import Finding, Report

__all__ = ["Finding", "Report", "fsck"]
