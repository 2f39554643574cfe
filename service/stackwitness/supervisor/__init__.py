"""Run every process of the service on one machine: `stackwitness up`."""

from stackwitness.supervisor.up import StartFailed, run_up

__all__ = ["StartFailed", "run_up"]
