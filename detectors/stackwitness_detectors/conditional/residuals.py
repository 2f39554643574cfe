"""Keep one conditional model a target channel, refitted weekly on a lagged reference; write residuals beside hours.

The reference is days 14 to 56 before, whole, and every fifth hour of the year before that: the recent weeks set the
level, the year the range of loads and seasons. On held-out later years of gas turbines, steam units and air stations
this halves the spread of weekly mean residuals where the season matters, against recent weeks alone; boosted trees on
the same hours were no better.

A station that reports no pollutant and no flow is judged by its process; a channel all alone there is expected by the hour
of the day.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackwitness_detectors.conditional.model import Model, fit_model
from stackwitness_detectors.config import Config
from stackwitness_detectors.contract import Finding, Note, Values, Why
from stackwitness_detectors.daily import day_hours, operating
from stackwitness_detectors.memory import EMITTED, Block, Memory, Table, place_of
from stackwitness_detectors.plots import series_of, span_ms
from stackwitness_detectors.quantiles import WILD, sorted_quantile, without_absurd

_THINNED = 5  # every fifth hour is archived: 5 and 24 have no common divisor, so every hour of the day is met
_COVERAGE = 0.8  # a covariate missing in more than a fifth of the reference is left out
_MOST_COVARIATES = 10
_ALONE = "no channel explains this one: it is compared with the hour of the day and with its own days before"
_LEAST_FOR_BAND = 48  # hours: of fewer the model knows better how far they lie
_FOLDS = 5  # of the first fit, whose held-out residuals calibrate the tests
_LEAST_R2 = 0.3  # of what is explained worse the part gets no smaller: gross forgeries show there too
_DAY_HOURS = 24.0
_BESIDE = 0.25  # so much of a pollutant's part get load, oxygen, and flow beside pollutants


class Residuals:
    """Fit and apply the models. It finds nothing itself; the tests of this package and others read its columns."""

    name = "residuals"

    def __init__(self, memory: Memory, config: Config) -> None:
        self.memory, self.config = memory, config
        self.targets = memory.indices(*EMITTED)
        self.principal = memory.principal()
        # Nobody gains by forging a process: it is judged for what is odd, and by the clock where nothing else is known.
        self.process = not self.targets
        beside = [k for k in memory.indices("diluent", "load") if k not in self.principal]
        self.modelled = self.principal + [k for k in beside if self.covariates(k).size]
        self.archive = Table(config.archive_hours, {"hour": ("<i8", -1), "mean": ("<f4", len(memory.names))})
        self.models: dict[int, Model] = {}
        self.fresh: dict[int, list[int]] = {}
        self.refused: dict[int, Why] = {}

    def hour(self, block: Block) -> list[Finding]:
        """Nothing happens within the day."""
        return []

    def day(self, day: int) -> list[Finding]:
        """Refit when due, then expect the hours of the day that has ended."""
        self.fresh = {}
        running = operating(self.memory)
        self._archive(day - self.config.reference_from_days, running)
        sane = without_absurd(self.memory.hours.view("mean"), WILD)
        # With a year behind it a model changes slowly.
        due = day % (self.config.refit_days * (2 if len(self.archive) else 1)) == 0
        for k in self.modelled:
            if k not in self.models or due:
                self._refit(k, day, running, sane[:, k])
            if k in self.models and k not in self.fresh:
                self._apply(k, day_hours(self.memory, day), running, sane[:, k])
        return []

    def covariates(self, k: int) -> NDArray[np.int64]:
        """Choose what explains a target: everything but pollutants where there is a load, else the other pollutants too.

        A load is explained by what is no pollutant, flow or other load: these are scaled together with it.
        Oxygen and carbon dioxide are explained by load and process, not by each other: both move in a dilution.
        """
        has_load = bool(self.memory.indices("load"))
        skipped = {"pollutant"} if has_load else set()
        role = self.memory.channels[k].role
        if role == "load":
            skipped |= {"flow", "load"}
        elif role == "diluent":
            skipped |= {"diluent", "pollutant", "moisture"}
        chosen = [
            j
            for j, channel in enumerate(self.memory.channels)
            if j != k and channel.role not in skipped and (has_load or channel.role != "flow")
        ]
        order = (
            "load",
            "diluent",
            "flow",
            "temperature",
            "pollutant",
            "process",
            "moisture",
            "ambient",
            "pressure",
        )
        rank = {role: i for i, role in enumerate(order)}
        chosen.sort(key=lambda j: (rank.get(self.memory.channels[j].role, 9), j))
        return np.array(chosen[:_MOST_COVARIATES], np.int64)

    def _archive(self, day: int, running: NDArray[np.bool_]) -> None:
        """Take over some hours of a day that leaves the reference."""
        hours = self.memory.hours
        rows = day_hours(self.memory, day)
        hour = hours.view("hour")[rows]
        chosen = np.flatnonzero(running[rows] & (hour % _THINNED == 0))
        off = hours.view("claimed")[rows] | hours.view("marked")[rows]
        mean = np.where(off, np.nan, hours.view("mean")[rows])
        for i in chosen.tolist():
            self.archive.append(hour[i], mean[i])

    def _older(self, k: int, covariates: NDArray[np.int64]) -> tuple[Values, Values]:
        """Give the archived hours of a target: covariates [n, F], values [n]."""
        mean = self.archive.view("mean").astype(np.float64)
        known = np.isfinite(mean[:, k])
        hour = self.archive.view("hour")[known]
        return self._explaining(mean[known], hour, covariates), mean[known, k]

    def by_clock(self, k: int) -> bool:
        """Tell whether the hour of the day is all that explains this channel."""
        return self.process and not self.covariates(k).size

    def _explaining(self, mean: Values, hour: NDArray[np.int64], covariates: NDArray[np.int64]) -> Values:
        """Give what a model looks at [n, F]: the covariates among the means [n, C], or without any the clock."""
        if covariates.size:
            return mean[:, covariates]
        angle = 2.0 * np.pi * (hour % 24) / _DAY_HOURS
        return np.column_stack([np.sin(angle), np.cos(angle)])

    def _refit(self, k: int, day: int, running: NDArray[np.bool_], y: Values) -> None:
        config, hours = self.config, self.memory.hours
        day_of = hours.view("hour") // 24
        mean = hours.view("mean")
        usable = running & np.isfinite(y) & ~hours.view("claimed")[:, k] & ~hours.view("marked")[:, k]
        use = (
            usable & (day_of < day - config.reference_lag_days) & (day_of >= day - config.reference_from_days)
        )
        if use.sum() < config.reference_min_hours:
            use = (
                usable & (day_of < day - config.young_lag_days) & (day_of >= day - config.reference_from_days)
            )
        covariates = self.covariates(k)
        if use.sum() < config.reference_min_hours:
            self.refused[k] = (
                "history",
                "fewer than ten days of ordinary operating hours in the reference",
            )
            return
        covered = np.isfinite(mean[use][:, covariates]).mean(axis=0) >= _COVERAGE
        covariates = covariates[covered]
        unexplained = not covariates.size and not self.by_clock(k)
        if unexplained or np.ptp(y[use]) == 0:
            self.refused[k] = (
                ("unexplained", "no channel explains this one")
                if unexplained
                else ("constant", "constant in the reference")
            )
            return
        first_time = k not in self.models
        x, told = self._explaining(mean[use], hours.view("hour")[use], covariates), y[use]
        if not first_time:
            older_x, older_y = self._older(k, covariates)
            x, told = np.vstack([older_x, x]), np.concatenate([older_y, told])
        model, held_out = fit_model(x, told, covariates, _FOLDS if first_time else 0)
        self.models[k] = model
        self.refused.pop(k, None)
        if first_time:
            # Everything remembered gets an expectation; in the reference the held-out residuals calibrate.
            self._apply(k, slice(0, len(hours)), running, y)
            hours.view("residual")[np.flatnonzero(use), k] = held_out
            self.fresh[k] = sorted(set(day_of[use].tolist()))

    def _apply(self, k: int, rows: slice, running: NDArray[np.bool_], y: Values) -> None:
        model, hours = self.models[k], self.memory.hours
        x = self._explaining(hours.view("mean")[rows], hours.view("hour")[rows], model.covariates)
        known = running[rows] & (np.isfinite(x).mean(axis=1) >= 0.5)
        if not len(x) or not known.any():
            return
        expected = model.predict(x)
        hours.view("expected")[rows, k] = np.where(known, model.restore(expected), np.nan)
        hours.view("residual")[rows, k] = np.where(known, model.transform(y[rows]) - expected, np.nan)

    def part(self, k: int, tested: list[int]) -> float:
        """Give how many times the even part of a budget channel `k` gets; over all tested channels the mean is one.

        Weighted as p-values may be (Genovese, Roeder and Wasserman 2006): where the model explains much a small shift can be told.
        """
        whole = sum(self._weight(j) for j in tested)
        return self._weight(k) * len(tested) / whole

    def _weight(self, k: int) -> float:
        model = self.models.get(k)
        explained = min(max(_LEAST_R2, 0.0 if model is None else model.r2), 1.0)
        first = self.memory.indices("pollutant") or self.principal
        return explained if k in first else _BESIDE * explained

    def drivers(self) -> tuple[str, str]:
        """Name what the models look at, in English and Chinese."""
        if self.memory.indices("load"):
            return "load and the other channels", "负荷等变量"
        if any(self.by_clock(k) for k in self.principal):
            return "the hour of the day", "一天中的时刻"
        return "the other channels", "其他通道"

    def residual(self, k: int, rows: slice) -> Values:
        """Give the residuals that may be judged: explained and marked hours are NaN."""
        hours = self.memory.hours
        off = hours.view("claimed")[rows, k] | hours.view("marked")[rows, k]
        return np.where(off, np.nan, hours.view("residual")[rows, k])

    def band(self, k: int, from_ms: int, to_ms: int, before_ms: int) -> dict[str, Any]:
        """Draw what the model expects, and how far 95 of 100 hours before `before_ms` were from it."""
        hours = self.memory.hours
        at_ms = hours.view("hour") * 3_600_000
        first, last = np.searchsorted(at_ms, [from_ms, to_ms + 1])
        stride = max(1, -(-(last - first) // self.config.plot_points))
        rows = np.arange(first, last, stride)
        rows = rows[np.isfinite(hours.view("expected")[rows, k])]
        mid = hours.view("expected")[rows, k]
        if k not in self.models:
            return {"t": [], "lo": [], "mid": [], "hi": []}
        model = self.models[k]
        down, up = self._usual(k, int(np.searchsorted(at_ms, before_ms)))
        lo, hi = (mid * np.exp(down), mid * np.exp(up)) if model.logarithmic else (mid + down, mid + up)
        digits = [[float(f"{v:.6g}") for v in line.tolist()] for line in (lo, mid, hi)]
        return {"t": at_ms[rows].tolist(), "lo": digits[0], "mid": digits[1], "hi": digits[2]}

    def _usual(self, k: int, end: int) -> tuple[float, float]:
        """Give between which residuals 95 of 100 hours lay: what is flagged must not widen what was expected of it."""
        known = self.residual(k, slice(0, end))
        known = np.sort(known[np.isfinite(known)])
        if known.size < _LEAST_FOR_BAND:
            wide = 2 * self.models[k].residual_spread
            return -wide, wide
        return sorted_quantile(known, 0.025), sorted_quantile(known, 0.975)

    def picture(self, k: int, from_ms: int, to_ms: int, title_en: str, title_zh: str) -> dict[str, Any]:
        """Draw the channel, its load, what the model expects and the limit, with some time around the interval."""
        first, last = span_ms(self.memory, from_ms, to_ms)
        plot: dict[str, Any] = {
            "kind": "residual",
            "title_en": title_en,
            "title_zh": title_zh,
            "series": series_of(self.memory, [k, *self.memory.indices("load")[:1]], first, last),
            "band": self.band(k, first, last, from_ms),
        }
        limit = self.memory.channels[k].limit
        return plot if limit is None else {**plot, "limit": limit}

    def notes(self) -> list[Note]:
        """Say which channels have no model."""
        names = self.memory.names
        missing = [k for k in self.principal if k not in self.models]
        young: Why = ("history", "no day has ended yet")
        told = [Note("conditional", names[k], *self.refused.get(k, young)) for k in missing]
        alone = [k for k in self.principal if k in self.models and self.by_clock(k)]
        return told + [Note("conditional", names[k], "unexplained", _ALONE) for k in alone]

    def dump(self) -> dict[str, Any]:
        """Give a tree for the state; covariates by name, since positions may change."""
        names = self.memory.names
        models = {
            names[k]: {**model.dump(), "covariates": [names[j] for j in model.covariates.tolist()]}
            for k, model in self.models.items()
        }
        refused = {names[k]: list(why) for k, why in self.refused.items()}
        return {
            "models": models,
            "archive": {"names": list(names), **self.archive.dump()},
            "refused": refused,
        }

    def load(self, tree: dict[str, Any]) -> None:
        """Read it back; a model whose covariates are gone is fitted anew."""
        here = {name: k for k, name in enumerate(self.memory.names)}
        self.archive.load(tree["archive"], place_of(self.memory.names, tree["archive"]["names"]))
        for name, (code, reason) in tree.get("refused", {}).items():
            if here.get(name) in self.modelled:
                self.refused[here[name]] = (code, reason)
        for name, fields in tree["models"].items():
            if here.get(name) in self.modelled and all(c in here for c in fields["covariates"]):
                places = np.array([here[c] for c in fields["covariates"]], np.int64)
                self.models[here[name]] = Model(**{**fields, "covariates": places})
