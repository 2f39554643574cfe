"""Read the plot data that a finding carries: the picture shows what was judged, not what is stored now."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_POINTS = 5_000

Kind = Literal["hold", "copy", "residual", "digits", "density", "missing", "features"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Series(_Part):
    """One reported channel; null = no value."""

    channel: str
    unit: str = ""
    role: str = "pollutant"
    t: list[int] = Field(max_length=MAX_POINTS)
    v: list[float | None] = Field(max_length=MAX_POINTS)

    @model_validator(mode="after")
    def check_lengths(self) -> Series:
        """Refuse a series whose times and values do not pair up."""
        if len(self.t) != len(self.v):
            raise ValueError("t and v differ in length")
        return self


class Band(_Part):
    """What the model expects: low, middle, high."""

    t: list[int] = Field(max_length=MAX_POINTS)
    lo: list[float | None]
    mid: list[float | None]
    hi: list[float | None]


class Match(_Part):
    """The segment a copy resembles, with its own times; it comes back `lag_ms` later.

    `of_en`, `of_zh` say whose it is and how it was scaled; "" = the channel's own earlier one, as it was.
    `now_t` and `now_v` are the flagged readings there, each of them, where the series is thinner.
    """

    t: list[int] = Field(max_length=MAX_POINTS)
    v: list[float | None]
    lag_ms: int | None = None
    of_en: str = ""
    of_zh: str = ""
    now_t: list[int] = Field(default=[], max_length=MAX_POINTS)
    now_v: list[float | None] = Field(default=[], max_length=MAX_POINTS)


class Histogram(_Part):
    """Observed counts against a reference, with the statistic marked on the value axis."""

    edges: list[float] = Field(max_length=1001)
    counts: list[float] = Field(max_length=1000)
    reference: list[float] = Field(default=[], max_length=1000)
    mark: float | None = None
    label_en: str = ""
    label_zh: str = ""


class PlotSpec(_Part):
    """Everything the picture of one finding needs."""

    kind: Kind
    title_en: str = ""
    title_zh: str = ""
    series: list[Series] = Field(default=[], max_length=24)
    band: Band | None = None
    limit: float | None = None
    interval: tuple[int, int]
    match: Match | None = None
    histogram: Histogram | None = None
    marks: list[int] = Field(default=[], max_length=MAX_POINTS)  # the very readings that are odd


def parse_plot(text: str) -> PlotSpec:
    """Read plot JSON; raises pydantic.ValidationError (a ValueError) when it is not one."""
    return PlotSpec.model_validate_json(text)
