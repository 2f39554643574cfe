"""Watch a log from outside: own disk, own policy, no database."""

from stackwitness_client.monitor.loop import Monitor, Turn

__all__ = ["Monitor", "Turn"]
