"""Change the log's key with an overlap: both keys sign, the log says so, every reader gets a new policy file.

Nothing is taken back: checkpoints of the past keep the signatures they were published with.
"""

import hashlib
import subprocess
from collections.abc import Mapping

import sqlalchemy as sa

from emdi.keys import Signer
from stackwitness.db.unit import unit_of_work
from stackwitness.log.errors import LogForked, SignerRefused
from stackwitness.log.events import append_event, lock_subject
from stackwitness.log.logkeys import LOG_KEY, add_log_line, read_log_keys
from stackwitness.log.policies import CHANGED, SUBJECT, read_policy
from stackwitness.log.signer.options import ServiceSettings, passed_on, signer_command
from stackwitness.log.signer.user import default_user


def add_key(
    engine: sa.Engine,
    settings: ServiceSettings,
    service_key: Signer,
    environment: Mapping[str, str],
    act: str,
) -> str:
    """Have the signer make its next key, log it once, and return the new policy text.

    From its next checkpoint on the signer signs with both. Raises SignerRefused, LogForked.
    """
    old, new = run_action(settings, "next-key", environment).split()
    with unit_of_work(engine, "sw_seq") as conn:
        lock_subject(conn, SUBJECT)
        keys = read_log_keys(conn)
        text = read_policy(conn) or keys.policy
        if new in keys.vkeys:
            return text
        if old != keys.vkeys[-1]:
            raise LogForked("the signer's key is not the one this log's leaf 0 and events lead to")
        data = {"vkey_old": old, "vkey_new": new}
        append_event(conn, service_key, typ=LOG_KEY, subj=SUBJECT, act=act, data=data)
        text = add_log_line(text, new)
        change = {"policy": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
        append_event(conn, service_key, typ=CHANGED, subj=SUBJECT, act=act, data=change)
        return text


def retire_key(settings: ServiceSettings, environment: Mapping[str, str]) -> str:
    """Have the signer give up its old key and return the vkey in use; raises SignerRefused."""
    return run_action(settings, "retire-key", environment).strip()


def run_action(settings: ServiceSettings, action: str, environment: Mapping[str, str]) -> str:
    """Run an action of the signer as its own user and return what it printed; raises SignerRefused."""
    command = signer_command(settings, action, default_user=default_user())
    done = subprocess.run(command, env=passed_on(environment), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SignerRefused("signer.action", done.stderr.strip().rpartition("\n")[2])
    return done.stdout
