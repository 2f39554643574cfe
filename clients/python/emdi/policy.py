"""Trust policies (c2sp.org/tlog-policy): which log keys and how many witnesses a verifier asks for."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from emdi.encoding import parse_uint
from emdi.errors import EncodingError, NoteError, PolicyError
from emdi.note import COSIGNING_KINDS, KIND_ED25519, VerifiedNote, VerifierKey, parse_note, verify_note

MAX_POLICY_BYTES = 1 << 17  # 32 witnesses with ML-DSA-44 keys and addresses
NO_QUORUM = "none"
_NAME = re.compile(r"[!-~]{1,64}")


@dataclass(frozen=True, slots=True)
class PolicyLog:
    """A log the policy trusts; its key name is the origin of its checkpoints."""

    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class PolicyWitness:
    """A witness, by its name inside the policy."""

    name: str
    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class PolicyGroup:
    """`threshold` of the members (witnesses or earlier groups) make the group agree; k, "any" or "all"."""

    name: str
    threshold: str
    members: tuple[str, ...]

    @property
    def needed(self) -> int:
        """Return how many members must agree."""
        return {"any": 1, "all": len(self.members)}.get(self.threshold) or int(self.threshold)


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed policy; `quorum` names a witness or group, or is "none"."""

    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...] = ()
    groups: tuple[PolicyGroup, ...] = ()
    quorum: str = NO_QUORUM

    def check(self, checkpoint_note: bytes) -> VerifiedNote:
        """Check that a trusted log signed the checkpoint and that the quorum of witnesses cosigned it.

        Raises NoteError (note.*) for a bad note, PolicyError: policy.origin, policy.log, policy.quorum.
        """
        origin = parse_note(checkpoint_note).text.split("\n", 1)[0]
        log_keys = [log.key for log in self.logs if log.key.name == origin]
        if not log_keys:
            raise PolicyError("policy.origin", f"no log named {origin!r} in the policy")
        try:
            note = verify_note(checkpoint_note, [*log_keys, *(witness.key for witness in self.witnesses)])
        except NoteError as error:
            if error.code != "note.unverified":
                raise
            raise PolicyError(
                "policy.log", f"the checkpoint is not signed by the policy's key of {origin}"
            ) from None
        if not any(key in log_keys for key in note.keys):
            raise PolicyError("policy.log", f"the checkpoint is not signed by the policy's key of {origin}")
        agreeing = {witness.name for witness in self.witnesses if witness.key in note.keys}
        for group in self.groups:
            if sum(member in agreeing for member in group.members) >= group.needed:
                agreeing.add(group.name)
        if self.quorum != NO_QUORUM and self.quorum not in agreeing:
            raise PolicyError("policy.quorum", f"the witnesses do not reach quorum {self.quorum!r}")
        return note


def parse_policy(text: str) -> Policy:
    """Parse a policy; blank lines and lines starting with # are skipped. Raises PolicyError (policy.*)."""
    if len(text) > MAX_POLICY_BYTES:
        raise PolicyError("policy.size", "policy too long")
    draft = _Draft()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.replace("\t", " ").isprintable():
            raise PolicyError("policy.control", f"line {number}: control character")
        words = re.split(r"[ \t]+", line.strip(" \t"))
        if words == [""] or words[0].startswith("#"):
            continue
        take = draft.readers().get(words[0])
        if take is None:
            raise PolicyError("policy.keyword", f"line {number}: unknown keyword {words[0]!r}")
        try:
            take(words[1:])
        except (PolicyError, NoteError, EncodingError) as error:
            raise PolicyError(error.code, f"line {number}: {error.message}") from None
    return draft.finish()


def read_change(data: Mapping[str, Any], origin: str) -> str:
    """Return the policy text of a `policy.change` of log `origin`; raise PolicyError("policy.change") for one that
    changes nothing: its text is no policy, names no key of this log, or is not the one its `sha256` is of.
    """
    text = data.get("policy")
    try:
        if type(text) is not str:
            raise PolicyError("policy.change", "no text")
        logs = parse_policy(text).logs
        digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    except (PolicyError, NoteError, UnicodeEncodeError) as error:
        raise PolicyError("policy.change", f"no policy can be read from it: {error}") from None
    if not any(log.key.name == origin for log in logs):
        raise PolicyError("policy.change", f"its policy names no key of {origin}")
    if data.get("sha256") != digest:
        raise PolicyError("policy.change", "sha256 is not that of its policy")
    return text


def format_policy(policy: Policy) -> str:
    """Return the policy text, one statement a line."""
    lines = [f"log {log.key.format()} {log.url}".rstrip() for log in policy.logs]
    lines += [f"witness {item.name} {item.key.format()} {item.url}".rstrip() for item in policy.witnesses]
    lines += [f"group {item.name} {item.threshold} {' '.join(item.members)}" for item in policy.groups]
    return "\n".join([*lines, f"quorum {policy.quorum}"]) + "\n"


class _Draft:
    """Collect the statements of a policy in order, refusing duplicates and forward references."""

    def __init__(self) -> None:
        self.logs: list[PolicyLog] = []
        self.witnesses: list[PolicyWitness] = []
        self.groups: list[PolicyGroup] = []
        self.quorum: str | None = None

    def readers(self) -> dict[str, Callable[[list[str]], None]]:
        return {"log": self.log, "witness": self.witness, "group": self.group, "quorum": self.set_quorum}

    def names(self) -> set[str]:
        return {item.name for item in self.witnesses} | {item.name for item in self.groups}

    def log(self, words: list[str]) -> None:
        if len(words) not in (1, 2):
            raise PolicyError("policy.log", "log <vkey> [url]")
        key = VerifierKey.parse(words[0])
        if key.kind != KIND_ED25519:
            raise PolicyError("policy.log", "a log signs with an Ed25519 key (kind 1)")
        if any(item.key == key for item in self.logs):
            raise PolicyError("policy.duplicate", "log named twice")
        self.logs.append(PolicyLog(key, *words[1:]))

    def witness(self, words: list[str]) -> None:
        if len(words) not in (2, 3):
            raise PolicyError("policy.witness", "witness <name> <vkey> [url]")
        self.new_name(words[0])
        key = VerifierKey.parse(words[1])
        if key.kind not in COSIGNING_KINDS:
            raise PolicyError(
                "policy.witness", "a witness cosigns with a key of kind 4 (Ed25519) or 6 (ML-DSA-44)"
            )
        if any(item.key.public == key.public for item in self.witnesses):
            raise PolicyError("policy.duplicate", "witness key named twice")
        self.witnesses.append(PolicyWitness(words[0], key, *words[2:]))

    def group(self, words: list[str]) -> None:
        if len(words) < 3:
            raise PolicyError("policy.group", "group <name> <k|any|all> <member>...")
        name, threshold, members = words[0], words[1], tuple(words[2:])
        self.new_name(name)
        if not set(members) <= self.names():
            raise PolicyError("policy.reference", "a member is not defined above")
        if len(set(members)) != len(members):
            raise PolicyError("policy.duplicate", "member named twice")
        if threshold not in ("any", "all") and not 1 <= parse_uint(threshold, "policy.group") <= len(members):
            raise PolicyError("policy.group", "threshold out of range")
        self.groups.append(PolicyGroup(name, threshold, members))

    def set_quorum(self, words: list[str]) -> None:
        if len(words) != 1 or self.quorum is not None:
            raise PolicyError("policy.quorum", "exactly one quorum statement")
        if words[0] != NO_QUORUM and words[0] not in self.names():
            raise PolicyError("policy.reference", "the quorum is not defined above")
        self.quorum = words[0]

    def new_name(self, name: str) -> None:
        if _NAME.fullmatch(name) is None or name == NO_QUORUM:
            raise PolicyError("policy.name", f"{name!r} is not a name")
        if name in self.names():
            raise PolicyError("policy.duplicate", f"{name!r} named twice")

    def finish(self) -> Policy:
        if not self.logs:
            raise PolicyError("policy.log", "a policy names at least one log")
        if self.quorum is None:
            raise PolicyError("policy.quorum", "exactly one quorum statement")
        return Policy(tuple(self.logs), tuple(self.witnesses), tuple(self.groups), self.quorum)
