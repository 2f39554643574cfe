"""Step 5: every entry is signed by a key that the log itself registered before it."""

from array import array

from emdi.envelope import Envelope
from emdi.errors import EnvelopeError
from emdi.event import Event
from emdi.jws import verify_signature
from emdi.keyring import KeyRing
from stackwitness_client.verify.report import Report, weigh_signature


class SignatureCheck:
    """Check signatures with the keys learnt so far, and count those that hold."""

    def __init__(self, keyring: KeyRing, report: Report) -> None:
        self._keyring = keyring
        self._report = report
        self.held = 0
        # A compromise is learnt behind what it makes suspect: 8 bytes an envelope are kept until then.
        self._signed: dict[str, array[int]] = {}
        self._events: dict[str, array[int]] = {}

    def check_envelope(self, idx: int, envelope: Envelope) -> bool:
        """Check a station's signature and tell whether it holds."""
        try:
            verify_signature(envelope, self._keyring.station_key(envelope.stn, envelope.kid, idx))
            self.held += 1
            self._signed.setdefault(envelope.kid, array("Q")).append(idx)
        except EnvelopeError as error:
            place = (envelope.stn, envelope.ep, envelope.seq)
            verdict = weigh_signature(error)
            self._report.step(5).add(verdict, error.code, error.message, idx=idx, envelope=place)
            return False
        return True

    def check_event(self, idx: int, event: Event) -> bool:
        """Check the service's signature and tell whether it holds."""
        try:
            verify_signature(event, self._keyring.service_key(event.kid, idx))
        except EnvelopeError as error:
            message = f"event {event.subj} {event.sseq} ({event.typ}): {error.message}"
            self._report.step(5).add(weigh_signature(error), error.code, message, idx=idx)
            return False
        self.held += 1
        self._events.setdefault(event.kid, array("Q")).append(idx)
        return True

    def note_suspects(self) -> None:
        """Say which keys are known to be in other hands, and from where on; and how the service's key changed."""
        self._note_service()
        for span in self._keyring.spans():
            if span.suspect_from_idx is not None:
                first = span.suspect_from_idx
                count = sum(idx >= first for idx in self._signed.get(span.kid, ()))
                why = "was compromised"
                if span.compromised_kid != span.kid:
                    why = f"follows by rotation key {span.compromised_kid}, which was compromised"
                ended = f" ({span.ended_by})" if span.ended_by else ""
                self._report.note(
                    f"key {span.kid} of station {span.stn} {why}: what it signed at idx {first} and later"
                    f" is suspect, {count} envelopes here{ended}"
                )

    def _note_service(self) -> None:
        for span in self._keyring.service.spans():
            if span.until_idx is not None:
                self._report.note(
                    f"the service's key {span.kid} signs up to idx {span.until_idx}, where {span.followed_by} follows it"
                )
            if span.suspect_from_idx is not None:
                first = span.suspect_from_idx
                count = sum(idx >= first for idx in self._events.get(span.kid, ()))
                self._report.note(
                    f"the service's key {span.kid} was compromised: what it signed at idx {first} and later is suspect,"
                    f" {count} events here"
                )
