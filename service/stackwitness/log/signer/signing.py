"""The signer's one decision: does the new tree extend the one it signed last?"""

import contextlib
from datetime import date

from emdi.checkpoint import Checkpoint
from emdi.note import VerifierKey, format_note, parse_note
from stackwitness.log.disk import Disk
from stackwitness.log.errors import LogKeyInvalid, SignerRefused, SignerUnavailable
from stackwitness.log.signer.keys import KeyFiles, KeyStore, LineSigner
from stackwitness.log.signer.state import EMPTY, STATE, SignerState, adopt_checkpoint, extend, parse_state


class LogSigner:
    """Sign checkpoints of one log; its state is on disk before any signature leaves.

    `home` holds key and state; `log` holds the bundles, which are read again for every signature, so that
    a bit that flipped on disk is never signed.
    """

    def __init__(self, keys: KeyStore, origin: str, home: Disk, log: Disk) -> None:
        self._keys = keys
        self._origin = origin
        self._home = home
        self._log = log
        self._mark: object = None
        self._signers: tuple[LineSigner, ...] = ()
        self._read_keys()
        self._state = self._read_state()
        # What was read may have been in the cache alone (the last process may have died before the disk had
        # it): nothing is decided on a state that a power cut could still take back.
        self._is_durable = False

    @classmethod
    def open(
        cls, home: Disk, log: Disk, origin: str, *, init: date | None = None, keys: KeyStore | None = None
    ) -> "LogSigner":
        """Load key and state. The first start of all makes both; what is lost later is never made up
        silently.

        `init`, the UTC day on which the log began, allows a lost state to be taken from the checkpoint on
        disk. Raises SignerRefused: signer.no_key, signer.no_state, signer.origin.
        """
        keys = keys or KeyFiles(home)
        has_state, has_log = (home.root / STATE).exists(), (log.root / "checkpoint").exists()
        if not keys.exists():
            if has_log or (has_state and home.read(STATE) != EMPTY.format()):
                raise SignerRefused("signer.no_key", "this log was signed before, and its key is gone")
            home.write(STATE, EMPTY.format(), mode=0o600)  # before the key: a key without a state is refused
            keys.create(origin)
        elif init is not None and not has_state:
            verifiers = [signer.verifier for signer in keys.load()]
            home.write(STATE, adopt_checkpoint(log, verifiers, init).format(), mode=0o600)
        return cls(keys, origin, home, log)

    @property
    def vkey(self) -> str:
        """The public key that checks this log's checkpoints; during a rotation still the old one."""
        return self._signers[0].vkey

    @property
    def last_note(self) -> bytes:
        """The last signed checkpoint; empty before the first."""
        return self._state.note

    def sign(self, size: int, root: bytes) -> bytes:
        """Return the signed checkpoint of `size` and `root`.

        Raises SignerRefused for a smaller tree, another root at the signed size, or bundles that do not give
        the old root at the old size and the new one at the new; SignerUnavailable when the state cannot be
        kept.
        """
        self._read_keys()
        last = self._state
        if size < last.size:
            raise SignerRefused("signer.smaller", f"size {size} is below the signed size {last.size}")
        if size == last.size and last.note:
            if root != last.root:
                raise SignerRefused("signer.other_root", f"another root was signed at size {size}")
            if self._is_durable and has_signatures(last.note, self._verifiers):
                return last.note
        boundary, hashes = extend(self._log, last, size, root)
        text = Checkpoint(self._origin, size, root).text()
        try:
            note = format_note(text, [signer.sign(text) for signer in self._signers])
        except SignerUnavailable:
            self._mark = None  # a token that lost its session gets a new one
            raise
        self._keep(SignerState(note, size, root, boundary, hashes))
        return note

    def retire_key(self) -> str:
        """Let the next key take over and return its vkey; the old one has signed its last note.

        Raises SignerRefused("signer.no_next") without a next key, ("signer.no_overlap") while no published
        checkpoint bears both signatures.
        """
        if len(self._signers) < 2:
            raise SignerRefused("signer.no_next", "there is no next key; make one first")
        published = self._log.read("checkpoint") if (self._log.root / "checkpoint").exists() else b""
        for note in (self._state.note, published):
            if not note or not has_signatures(note, self._verifiers, more=True):
                why = "no checkpoint with both signatures is published yet"
                raise SignerRefused("signer.no_overlap", why)
        self._keys.retire()
        self._read_keys()
        return self.vkey

    @property
    def _verifiers(self) -> list[VerifierKey]:
        return [signer.verifier for signer in self._signers]

    def _read_keys(self) -> None:
        mark = self._keys.mark()
        if mark == self._mark:
            return
        signers = self._keys.load()
        if not signers:
            raise LogKeyInvalid("the log's key is gone")
        for name in {signer.verifier.name for signer in signers} - {self._origin}:
            raise SignerRefused("signer.origin", f"the key is for {name}, the log is {self._origin}")
        self._signers, self._mark = signers, mark

    def _read_state(self) -> SignerState:
        try:
            return parse_state(self._home.read(STATE), self._verifiers)
        except FileNotFoundError:
            raise SignerRefused(
                "signer.no_state", "the state is missing; see `stackwitness signer --init`"
            ) from None

    def _keep(self, state: SignerState) -> None:
        try:
            self._home.write(STATE, state.format(), mode=0o600)
        except OSError as error:
            # Kept or not, nobody has the note: the disk decides, so read it before the next decision.
            self._is_durable = False
            with contextlib.suppress(OSError, SignerRefused):
                self._state = self._read_state()
            raise SignerUnavailable(f"the signer cannot keep its state: {error}") from None
        self._state, self._is_durable = state, True


def has_signatures(note: bytes, keys: list[VerifierKey], *, more: bool = False) -> bool:
    """Tell whether a note has signatures of exactly these keys; with `more`, of others too."""
    found = {(item.name, item.keyid) for item in parse_note(note).signatures}
    wanted = {(key.name, key.keyid) for key in keys}
    return wanted <= found if more else wanted == found
