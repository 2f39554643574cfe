"""What the API says about flags."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from stackwitness.flags.domain import Extension, Flag, Lapse
from stackwitness.log.custody import Look


class LapseView(BaseModel):
    """Readings that came late no longer bear the flag out: the signed event that says so, and that of the run."""

    at: datetime
    event_id: str
    run_event_id: str | None

    @classmethod
    def of(cls, lapse: Lapse) -> LapseView:
        """Show a lapse."""
        run_id = None if lapse.run_id is None else lapse.run_id.hex()
        return cls(at=lapse.at, event_id=lapse.event_id.hex(), run_event_id=run_id)


class FlagView(BaseModel):
    """A flag as it stands now; `verdict` as `flag.raised` signed it, `verdict_now` what its evidence has come to.

    `matter` is the id of the first flag of the matter it belongs to: flags of one matter have the same. `lapsed` is
    null while it stands; a lapsed flag stays listed, and is decided on as any other.
    """

    flag_id: str
    matter: str
    stn: str
    detector: str
    detector_version: str
    kind: str
    verdict: str
    verdict_now: str
    from_at: datetime
    to_at: datetime
    channels: list[str]
    e_value: float
    text_en: str
    text_zh: str
    raised_at: datetime
    event_id: str
    state: str
    decision: str | None
    decided_at: datetime | None
    lapsed: LapseView | None

    @classmethod
    def of(cls, flag: Flag, matter: str) -> FlagView:
        """Show a flag."""
        return cls(
            flag_id=flag.flag_id,
            matter=matter,
            stn=flag.stn,
            detector=flag.detector,
            detector_version=flag.detector_version,
            kind=flag.kind,
            verdict=flag.verdict_signed,
            verdict_now=flag.verdict,
            from_at=flag.from_at,
            to_at=flag.to_at,
            channels=list(flag.channels),
            e_value=flag.e_value,
            text_en=flag.text_en,
            text_zh=flag.text_zh,
            raised_at=flag.raised_at,
            event_id=flag.event_id.hex(),
            state="open" if flag.decision is None else "decided",
            decision=flag.decision,
            decided_at=flag.decided_at,
            lapsed=None if flag.lapse is None else LapseView.of(flag.lapse),
        )


class ExtensionView(BaseModel):
    """One extension of a flag."""

    event_id: str
    to_at: datetime
    e_value: float

    @classmethod
    def of(cls, extension: Extension) -> ExtensionView:
        """Show an extension."""
        return cls(event_id=extension.event_id.hex(), to_at=extension.to_at, e_value=extension.e_value)


class FlagDetail(FlagView):
    """A flag with the signed claims of its event and how it grew."""

    claims: dict[str, Any]
    extensions: list[ExtensionView]


class FlagPage(BaseModel):
    """A page of flags, newest first; `next` goes into `after` for the following page."""

    flags: list[FlagView]
    next: str | None


class EventView(BaseModel):
    """An event of the log as it was signed."""

    event_id: str
    typ: str
    subj: str
    sseq: int
    sprev: str
    act: str
    ts_ms: int
    ref: list[str | int]
    data: dict[str, Any]
    jws: str


class CustodyView(BaseModel):
    """One look at a piece of evidence: `act` evidence.viewed or evidence.downloaded."""

    act: str
    account_id: str
    at: datetime
    event_id: str


class CustodyList(BaseModel):
    """Who looked at a piece of evidence, oldest first."""

    custody: list[CustodyView]

    @classmethod
    def of(cls, looks: Iterable[Look]) -> CustodyList:
        """Make it from the custody log."""
        return cls(
            custody=[
                CustodyView(act=one.act, account_id=one.account_id, at=one.at, event_id=one.event_id.hex())
                for one in looks
            ]
        )
