"""The two chains: envelopes of a station (ep, seq, prev) and events of a subject (sseq, sprev)."""

from typing import NamedTuple

from emdi.envelope import ZERO_HASH, Envelope
from emdi.errors import ChainError
from emdi.event import Event


class StationHead(NamedTuple):
    """The last accepted envelope of a station."""

    ep: int
    seq: int
    env_id: bytes


EMPTY: StationHead | None = None


def check_next(head: StationHead | None, envelope: Envelope) -> None:
    """Check that the envelope is the next of its station; `head` is None for a station without envelopes.

    Raises ChainError: chain.known (it is the head itself), chain.replayed (at or before the head: known or an
    equivocation, the caller looks it up), chain.gap, chain.prev, chain.epoch, chain.skip.
    """
    if head is None:
        _check_first(envelope)
        return
    if envelope.env_id == head.env_id:
        raise ChainError("chain.known", "this is the head itself")
    if (envelope.ep, envelope.seq) <= (head.ep, head.seq):
        raise ChainError("chain.replayed", f"at or before the head ({head.ep}, {head.seq})")
    if envelope.ep != head.ep:
        if envelope.ep != head.ep + 1:
            raise ChainError("chain.epoch", f"epoch {envelope.ep} does not follow epoch {head.ep}")
        _check_first(envelope)
        return
    if envelope.skip is not None and envelope.skip.first != head.seq + 1:
        raise ChainError("chain.skip", f"the admitted loss does not start at {head.seq + 1}")
    if envelope.skip is None and envelope.seq != head.seq + 1:
        raise ChainError("chain.gap", f"expected seq {head.seq + 1}, got {envelope.seq}")
    if envelope.prev != head.env_id:
        raise ChainError("chain.prev", "prev is not the env_id of the head")


def check_subject(prev: tuple[int, bytes] | None, event: Event) -> None:
    """Check that the event follows `prev` = (sseq, event_id) of its subject, None for none.

    Raises ChainError: chain.gap, chain.prev.
    """
    sseq, sprev = (0, ZERO_HASH) if prev is None else (prev[0] + 1, prev[1])
    if event.sseq != sseq:
        raise ChainError("chain.gap", f"expected sseq {sseq} of {event.subj}, got {event.sseq}")
    if event.sprev != sprev:
        raise ChainError("chain.prev", f"sprev of {event.subj} {event.sseq} is not the event before it")


def _check_first(envelope: Envelope) -> None:
    if envelope.seq != 0:
        raise ChainError("chain.gap", f"an epoch starts at seq 0, not {envelope.seq}")
    if envelope.prev != ZERO_HASH:
        raise ChainError("chain.prev", "prev of seq 0 is 32 zero bytes")
