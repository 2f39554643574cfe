"""Hold the flags the server lists against the flags the log raised: none hidden, none reworded."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from stackwitness_client.http import ServerLink
from stackwitness_client.monitor.finding import Finding
from stackwitness_client.monitor.pages import read_rows
from stackwitness_client.monitor.projection import MERGE_DELAY_MS
from stackwitness_client.monitor.state import State

TIMES = ("from_at", "to_at")
TEXTS = (
    "flag_id", "stn", "detector", "detector_version", "kind", "verdict", "event_id", "text_en", "text_zh",
)  # fmt: skip
PAGE_FLAGS = 1000
# More flags than the log raises (and some that are on their way) are a server that goes on for ever.
MOST_AHEAD = 100_000
MAX_TEXT_CHARS = 20_000
LATER = ("to_at", "text_en", "text_zh", "decision", "lapsed")


class FlagCheck:
    """Compare the whole list of /v1/flags with flag.raised, flag.extended, flag.lapsed and review.decision."""

    def __init__(self, link: ServerLink, state: State) -> None:
        self._link = link
        self._state = state
        self.compared = 0

    def run(self, now_ms: int) -> Iterator[Finding]:
        """Yield flags never shown, shown otherwise, or shown without an entry; raise ServerError."""
        turn = int(self._state.get("flag_turn", 0)) + 1
        with self._state.transaction():
            self._state.put("flag_turn", turn)
        listed: list[str] = []
        for shown in self._shown():
            yield from self._compare(shown, now_ms)
            listed.append(shown["flag_id"])
            if len(listed) == PAGE_FLAGS:
                self._mark(listed, turn)
        self._mark(listed, turn)
        # Numbers of turns tell the rows not met this time, without a set of all flags in memory.
        rows = self._state.db.execute(
            "SELECT flag_id, raised_idx, shown FROM flag WHERE listed <> ?", (turn,)
        )
        for flag_id, idx, text in rows.fetchall():
            stn = json.loads(text)["stn"]
            says = f"station {stn}: flag {flag_id}, raised in entry {idx}, is not among the flags the server lists"
            yield Finding(
                "missing-flag", f"missing-flag:{flag_id}", says, (idx,), {"flag_id": flag_id, "stn": stn}
            )

    def _mark(self, listed: list[str], turn: int) -> None:
        """Note that these flags were listed in this turn."""
        with self._state.transaction():
            self._state.db.executemany(
                "UPDATE flag SET listed = ? WHERE flag_id = ?", [(turn, flag_id) for flag_id in listed]
            )
        listed.clear()

    def _compare(self, shown: dict[str, Any], now_ms: int) -> Iterator[Finding]:
        self.compared += 1
        flag_id = shown["flag_id"]
        row = self._state.db.execute(
            "SELECT shown, raised_idx, newest_idx, decision_idx FROM flag WHERE flag_id = ?", (flag_id,)
        ).fetchone()
        if row is None:
            if self._state.suspect(f"flag:{flag_id}:", now_ms, MERGE_DELAY_MS):
                says = f"station {shown['stn']}: the server lists flag {flag_id}, which no entry of the log raises"
                yield Finding("unsigned", f"unsigned:flag:{flag_id}", says, (), _unsigned(shown))
            return
        signed = json.loads(row[0])
        roles = {
            "raised": row[1],
            "newest": row[2],
            "decision": row[3],
            "lapse": signed.pop("lapse_idx", None),
        }
        wrong = {name: value for name, value in signed.items() if shown[name] != value}
        if not wrong:
            self._state.clear_suspects(f"flag:{flag_id}:")
        for name, value in wrong.items():
            # An extension or decision may be shown before its entry is published, for as long as that may take.
            excused = f"flag:{flag_id}:{name}:{shown[name]!r}"
            # Nothing that is yet to come takes a decision away; readings that came late may make a flag shorter.
            may_come = name in LATER and (name != "decision" or shown[name] is not None)
            if may_come and not self._state.suspect(excused, now_ms, MERGE_DELAY_MS):
                continue
            places = {role: idx for role, idx in roles.items() if idx is not None}
            says = f"flag {flag_id}: the log says {name} = {value!r}, the server shows {shown[name]!r}"
            seen = {"flag_id": flag_id, "stn": signed["stn"], "field": name, "shown": shown[name]}
            seen["roles"] = list(places)
            yield Finding("flag", excused, says, tuple(places.values()), seen)

    def _shown(self) -> Iterator[dict[str, Any]]:
        query: dict[str, Any] = {"limit": PAGE_FLAGS}
        (raised,) = self._state.db.execute("SELECT count(*) FROM flag").fetchone()
        most_pages = (raised + MOST_AHEAD) // PAGE_FLAGS + 1
        yield from read_rows(self._link, "/v1/flags", query, "flags", _flag_of, most_pages=most_pages)


def _flag_of(flag: Any) -> dict[str, Any]:
    """Take one flag of /v1/flags strictly: whatever it holds goes into alarms. Raises KeyError, TypeError, ..."""
    shown = {name: flag[name] for name in (*TEXTS, *TIMES, "channels", "decision")}
    if any(type(shown[name]) is not str or len(shown[name]) > MAX_TEXT_CHARS for name in TEXTS):
        raise TypeError("a member of a flag is no text, or too long")
    if type(shown["channels"]) is not list or len(repr(shown["channels"])) > MAX_TEXT_CHARS:
        raise TypeError("channels is a list of names")
    if shown["decision"] is not None and type(shown["decision"]) is not str:
        raise TypeError("a decision is a text")
    lapsed = flag["lapsed"]
    shown["lapsed"] = None if lapsed is None else lapsed["event_id"]
    if shown["lapsed"] is not None and type(shown["lapsed"]) is not str:
        raise TypeError("a lapse names its event")
    for name in TIMES:
        shown[name] = _ms(shown[name])
    return {**shown, "raised_ms": _ms(flag["raised_at"])}


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _unsigned(shown: dict[str, Any]) -> dict[str, Any]:
    """Put a flag into the members of an "unsigned" proof."""
    flag = {"value": f"flag {shown['flag_id']}", "status": str(shown["verdict"])}
    return {"stn": shown["stn"], "channel": "flags", "at_ms": shown["raised_ms"], "shown": flag}
