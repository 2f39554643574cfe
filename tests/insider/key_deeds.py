"""What an insider does with a key of the service that was changed because it was stolen."""

import sqlalchemy as sa

from emdi.event import seal_event
from stackwitness import clock
from stackwitness.log.events import append_event, read_subject
from stackwitness.log.service_keys import FIRST_KID, load_key
from stackwitness.log.service_rotation import rotate_service_key
from tests.insider.scene import Scene
from tests.service.log_station import START_MS


def sign_with_the_ended_key(scene: Scene) -> None:
    """The service's key was stolen, changed in time, and signs on: a decision nobody made, put in past the program."""
    old = load_key(scene.settings.key_dir, FIRST_KID)
    rotate_service_key(scene.engine, scene.log.service_key, act="operator-1")
    with scene.engine.begin() as conn:
        head = read_subject(conn, "station:S1")
        assert head is not None
        event = seal_event(
            old, typ="review.decision", subj="station:S1", sseq=head.sseq + 1, sprev=head.event_id, act="inspector-1",
            ts_ms=START_MS, data={
                "review_id": f"S1-{head.sseq + 1}", "flag_id": scene.flags[1], "decision": "dismissed",
                "reason_sha256": "0" * 64,
            },
        )  # fmt: skip
        conn.execute(
            sa.text("INSERT INTO event VALUES (:id, :typ, :subj, :sseq, :sprev, :jws, :recv_ms)"),
            {
                "id": event.event_id, "typ": event.typ, "subj": event.subj, "sseq": event.sseq,
                "sprev": event.sprev, "jws": event.jws, "recv_ms": clock.now_ms(),
            },
        )  # fmt: skip
        conn.execute(
            sa.text("UPDATE subject_head SET sseq = :sseq, event_id = :id WHERE subj = :subj"),
            {"id": event.event_id, "subj": event.subj, "sseq": event.sseq},
        )
    loop = scene.log.start()
    loop.sequence()
    loop.publish()


def log_a_policy_that_is_none(scene: Scene) -> None:
    """The service's key signs a change of policy that nobody can read, so that no later bundle could be made."""
    data = {"policy": "log nonsense\nquorum nobody\n", "sha256": "0" * 64}
    with scene.engine.begin() as conn:
        append_event(
            conn, scene.log.service_key, typ="policy.change", subj="log", act="service:log", data=data
        )
    loop = scene.log.start()
    loop.sequence()
    loop.publish()
