"""What is true in a plant at one moment, before any instrument looks at it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class State:
    """Hold what truly happens in the plant at one moment (before any instrument).

    running: 0 stopped .. 1 on line (between: starting up or shutting down); values: by channel name, in
    its unit.
    """

    at_ms: int
    running: float
    values: dict[str, float]
