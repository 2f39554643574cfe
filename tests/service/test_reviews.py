"""Reviews: only inspectors decide, with a reason; every decision stays; the log hides the words."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stackwitness.reviews.domain import reason_sha256
from stackwitness_client.simulator import Plant
from tests.service.test_flags import finding, raise_flag
from tests.support.plants import pushed_plant
from tests.support.service import Service

REASON = "The analyser was held by its blow-back valve, see the maintenance book"


@pytest.fixture
def flag_id(service: Service, tmp_path: Path) -> str:
    with pushed_plant(service, tmp_path, "p-1", Plant(1, "glass")):
        flag = raise_flag(service, finding())
    assert flag is not None
    return flag.flag_id


def decide(service: Service, flag_id: str, role: Any = "inspector", **form: Any) -> Any:
    given = {"decision": "explained", "reason": REASON, **form}
    return service.client.post(f"/v1/flags/{flag_id}/reviews", json=given, headers=service.headers(role))


def test_a_decision_closes_the_flag_and_stands_in_the_log(service: Service, flag_id: str) -> None:
    answer = decide(service, flag_id)
    assert answer.status_code == 201
    review = answer.json()
    event = service.client.get(f"/v1/events/{review['event_id']}", headers=service.headers("auditor")).json()
    assert (event["typ"], event["act"]) == ("review.decision", "inspector")
    assert event["data"].keys() == {"review_id", "flag_id", "decision", "reason_sha256"}
    assert review["review_id"] == f"p-1-{event['sseq']}"
    [row] = service.rows("SELECT salt, reason FROM review")
    assert event["data"]["reason_sha256"] == reason_sha256(bytes(row.salt), row.reason)
    assert REASON not in str(event)
    shown = service.client.get(f"/v1/flags/{flag_id}", headers=service.headers("auditor")).json()
    assert (shown["state"], shown["decision"]) == ("decided", "explained")
    decided = service.client.get("/v1/flags?state=decided", headers=service.headers("auditor")).json()
    assert [flag["flag_id"] for flag in decided["flags"]] == [flag_id]
    assert (
        service.client.get("/v1/flags?state=open", headers=service.headers("auditor")).json()["flags"] == []
    )
    service.settle()


def test_the_latest_decision_counts_and_none_is_lost(service: Service, flag_id: str) -> None:
    for decision in ("needs_visit", "confirmed_odd", "dismissed"):
        assert decide(service, flag_id, decision=decision).status_code == 201
    shown = service.client.get(f"/v1/flags/{flag_id}", headers=service.headers("auditor")).json()
    assert shown["decision"] == "dismissed"
    listed = service.client.get(f"/v1/flags/{flag_id}/reviews", headers=service.headers("auditor")).json()
    assert [r["decision"] for r in listed["reviews"]] == ["needs_visit", "confirmed_odd", "dismissed"]


def test_the_same_words_hash_differently_each_time(service: Service, flag_id: str) -> None:
    for _ in range(2):
        decide(service, flag_id)
    hashes = {
        service.client.get(
            f"/v1/events/{bytes(row.event_id).hex()}", headers=service.headers("auditor")
        ).json()["data"]["reason_sha256"]
        for row in service.rows("SELECT event_id FROM review")
    }
    assert len(hashes) == 2


@pytest.mark.parametrize("role", ["operator", "regulator", "auditor"])
def test_only_inspectors_decide(service: Service, flag_id: str, role: str) -> None:
    answer = decide(service, flag_id, role)
    assert (answer.status_code, answer.json()["code"]) == (403, "account.role")
    assert service.rows("SELECT * FROM review") == []


@pytest.mark.parametrize(
    "form",
    [
        {"reason": "too short"},
        {"reason": " " * 30},
        {"reason": "a NUL \x00 in a text of many words"},
        {"reason": "x" * 5000},
        {"decision": "fraud"},
    ],
)
def test_a_decision_needs_its_form(service: Service, flag_id: str, form: dict[str, str]) -> None:
    assert decide(service, flag_id, **form).status_code == 422
    assert service.rows("SELECT * FROM review") == []


def test_an_unknown_flag_is_not_decided(service: Service) -> None:
    assert decide(service, "p-1-77").json()["code"] == "flag.unknown"


@pytest.fixture
def matter(service: Service, tmp_path: Path) -> list[str]:
    """Give three flags of one forgery, the strongest last, and a fourth of another channel."""
    with pushed_plant(service, tmp_path, "p-1", Plant(1, "glass")):
        given = [
            finding(f"t:{number}", 3 + number, kind=kind, verdict=verdict, channels=channels)
            for number, (kind, verdict, channels) in enumerate(
                (
                    ("comb", "unusual", ("so2",)),
                    ("too_smooth", "unusual", ("so2",)),
                    ("hold", "cannot be", ("so2", "nox")),
                    ("pulse", "unusual", ("pm",)),
                )
            )
        ]
        flags = [raise_flag(service, one) for one in given]
    return [flag.flag_id for flag in flags if flag is not None]


def decide_together(service: Service, flag_id: str, role: Any = "inspector", **form: Any) -> Any:
    given = {"decision": "explained", "reason": REASON, **form}
    path = f"/v1/flags/{flag_id}/matter/reviews"
    return service.client.post(path, json=given, headers=service.headers(role))


def test_flags_name_their_matter(service: Service, matter: list[str]) -> None:
    auditor = service.headers("auditor")
    listed = service.client.get("/v1/flags", headers=auditor).json()["flags"]
    named = {flag["flag_id"]: flag["matter"] for flag in listed}
    assert named == {**dict.fromkeys(matter[:3], matter[0]), matter[3]: matter[3]}
    assert service.client.get(f"/v1/flags/{matter[2]}", headers=auditor).json()["matter"] == matter[0]
    # A page that shows only one of them names it the same.
    (newest,) = service.client.get("/v1/flags?limit=1&state=open", headers=auditor).json()["flags"]
    assert newest["matter"] == named[newest["flag_id"]]
    # A later flag that touches both makes them one, under the older name.
    bridge = raise_flag(service, finding("t:9", 4, kind="copy", channels=("so2", "pm")))
    assert bridge is not None
    listed = service.client.get("/v1/flags", headers=auditor).json()["flags"]
    assert {flag["flag_id"]: flag["matter"] for flag in listed} == dict.fromkeys(
        [*matter, bridge.flag_id], matter[0]
    )


def test_one_decision_on_a_matter_is_an_event_for_each_open_flag(service: Service, matter: list[str]) -> None:
    assert decide(service, matter[1], decision="dismissed").status_code == 201
    answer = decide_together(service, matter[2], also=matter[:3])
    assert answer.status_code == 201
    made = answer.json()["reviews"]
    assert [review["flag_id"] for review in made] == [matter[2], matter[0]]
    assert len({review["event_id"] for review in made}) == 2
    decisions = {row.flag_id: row.decision for row in service.rows("SELECT flag_id, decision FROM review")}
    assert decisions == {matter[0]: "explained", matter[1]: "dismissed", matter[2]: "explained"}
    service.settle()


def test_of_several_who_decide_a_matter_at_once_one_does(service: Service, matter: list[str]) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: decide_together(service, matter[2], also=matter[:3]), range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"review.decided"}
    assert sorted(row.flag_id for row in service.rows("SELECT flag_id FROM review")) == sorted(matter[:3])
    # Alone a flag may be decided again, as ever.
    assert decide(service, matter[2], decision="dismissed").status_code == 201
    service.settle()


def test_a_matter_is_decided_wholly_or_not_at_all(service: Service, matter: list[str]) -> None:
    for form, code in (
        ({"also": [matter[0], matter[3]]}, "review.matter"),
        ({"also": [matter[0], "p-1-999"]}, "review.matter"),
        ({"also": matter[:2], "reason": " " * 20}, "review.reason"),
    ):
        answer = decide_together(service, matter[2], **form)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert decide_together(service, matter[2], "auditor", also=matter[:2]).status_code == 403
    assert service.rows("SELECT 1 FROM review") == []
