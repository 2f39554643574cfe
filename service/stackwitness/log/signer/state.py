"""What the signer remembers, and its one decision: does the new tree extend the one it signed last?"""

import base64
import contextlib
from dataclasses import dataclass
from pathlib import Path

from emdi.checkpoint import Checkpoint, parse_checkpoint
from emdi.encoding import b64_decode, parse_uint
from emdi.entry import parse_entry
from emdi.errors import EmdiError
from emdi.merkle import CompactRange, empty_root, leaf_hash
from emdi.note import NoteSigner, VerifierKey, sign_note, verify_note
from emdi.tiles import decode_bundle, entries_path
from stackwitness.log.disk import Disk
from stackwitness.log.errors import SignerRefused, SignerUnavailable
from stackwitness.log.notekeys import create_note_signer, load_note_signer

HEADER = "stackwitness signer state v1"
BUNDLE = 256
STATE = "state"
KEY = "log.key"


@dataclass(frozen=True)
class SignerState:
    """The last signed note (empty before the first), and the tree's right edge at the last multiple of 256
    below.
    """

    note: bytes
    size: int
    root: bytes
    boundary: int
    hashes: tuple[bytes, ...]

    def format(self) -> bytes:
        """Return the state file's bytes."""
        hashes = [base64.b64encode(item).decode() for item in self.hashes]
        return "\n".join([HEADER, str(self.boundary), *hashes, "", ""]).encode() + self.note


EMPTY = SignerState(b"", 0, empty_root(), 0, ())


def parse_state(data: bytes, key: VerifierKey) -> SignerState:
    """Read a state file and check the note in it; raises SignerRefused("signer.state")."""
    try:
        head, _, note = data.partition(b"\n\n")
        header, boundary, *hashes = head.decode().split("\n")
        if header != HEADER:
            raise SignerRefused("signer.state", "the state file is of another version")
        start = parse_uint(boundary, "signer.state")
        edge = CompactRange.from_hashes(start, [b64_decode(item) for item in hashes])
        signed = parse_checkpoint(verify_note(note, [key]).text) if note else None
    except (EmdiError, ValueError) as error:
        raise SignerRefused("signer.state", f"the state file is damaged: {error}") from None
    size, root = (signed.size, signed.root) if signed else (0, empty_root())
    if start != size - size % BUNDLE:
        raise SignerRefused("signer.state", "the state file's tree does not fit its note")
    return SignerState(note, size, root, start, edge.to_hashes())


class LogSigner:
    """Sign checkpoints of one log; its state is on disk before any signature leaves.

    `home` holds key and state; `log_dir` holds the bundles, which are read again for every signature, so that
    a bit that flipped on disk is never signed.
    """

    def __init__(self, signer: NoteSigner, state: SignerState, home: Disk, log: Disk) -> None:
        self._signer = signer
        self._state = state
        self._home = home
        self._log = log

    @classmethod
    def open(cls, home: Disk, log: Disk, origin: str, *, init: bool = False) -> "LogSigner":
        """Load key and state. The first start of all makes both; a state lost later is never made up
        silently.

        With `init`, a lost state is taken from the checkpoint on disk, which must bear this key's signature
        and fit the bundles. Raises SignerRefused("signer.no_state") when the state is missing.
        """
        has_key, has_state = (home.root / KEY).exists(), (home.root / STATE).exists()
        if not has_key and not has_state and not (log.root / "checkpoint").exists():
            home.write(STATE, EMPTY.format(), mode=0o600)  # before the key: a key without a state is refused
        if not has_key:
            create_note_signer(home.root / KEY, origin)
        signer = load_note_signer(home.root / KEY)
        if signer.verifier.name != origin:
            raise SignerRefused(
                "signer.origin", f"the key is for {signer.verifier.name}, the log is {origin}"
            )
        if init and not has_state:
            home.write(STATE, adopt_checkpoint(log, signer).format(), mode=0o600)
        try:
            state = parse_state(home.read(STATE), signer.verifier)
        except FileNotFoundError:
            raise SignerRefused(
                "signer.no_state", "the state is missing; see `stackwitness signer --init`"
            ) from None
        return cls(signer, state, home, log)

    @property
    def vkey(self) -> str:
        """The public key that checks this log's checkpoints."""
        return self._signer.vkey

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
        last = self._state
        if size < last.size:
            raise SignerRefused("signer.smaller", f"size {size} is below the signed size {last.size}")
        if size == last.size and last.note:
            if root != last.root:
                raise SignerRefused("signer.other_root", f"another root was signed at size {size}")
            return last.note
        boundary, hashes = extend(self._log, last, size, root)
        text = Checkpoint(self._signer.verifier.name, size, root).text()
        note = sign_note(text, self._signer)
        state = SignerState(note, size, root, boundary, hashes)
        try:
            self._home.write(STATE, state.format(), mode=0o600)
        except OSError as error:
            # Kept or not, nobody has the note: the disk decides, so read it before the next decision.
            self._reload()
            raise SignerUnavailable(f"the signer cannot keep its state: {error}") from None
        self._state = state
        return note

    def _reload(self) -> None:
        with contextlib.suppress(OSError):
            self._state = parse_state(self._home.read(STATE), self._signer.verifier)


def extend(log: Disk, last: SignerState, size: int, root: bytes) -> tuple[int, tuple[bytes, ...]]:
    """Re-hash the bundles from the last boundary on; return the right edge at the new boundary."""
    tree = CompactRange.from_hashes(last.boundary, last.hashes)
    if tree.size == last.size and tree.root() != last.root:
        raise SignerRefused("signer.state", "the state file's tree does not give the signed root")
    edge = (tree.size, tree.to_hashes())
    for start in range(last.boundary, size, BUNDLE):
        for entry in read_bundle(log, start // BUNDLE, min(BUNDLE, size - start)):
            tree.append(leaf_hash(entry))
            if tree.size == last.size and tree.root() != last.root:
                raise SignerRefused(
                    "signer.rewritten", f"the bundles on disk no longer give the root signed at {last.size}"
                )
        if tree.size % BUNDLE == 0:
            edge = (tree.size, tree.to_hashes())
    if tree.root() != root:
        raise SignerRefused("signer.root", f"the bundles on disk do not give the claimed root at size {size}")
    return edge


def read_bundle(log: Disk, n: int, width: int) -> list[bytes]:
    """Return the first `width` entries of bundle `n`, each checked to be one; raises
    SignerRefused("signer.bundle").
    """
    try:
        try:
            data = log.read(entries_path(n, width))
        except FileNotFoundError:
            data = log.read(entries_path(n))
        entries = decode_bundle(data)[:width]
        for entry in entries:
            parse_entry(entry)
    except FileNotFoundError:
        raise SignerRefused("signer.bundle", f"bundle {n} is missing") from None
    except OSError as error:
        raise SignerUnavailable(f"bundle {n} cannot be read: {error}") from None
    except EmdiError as error:
        raise SignerRefused("signer.bundle", f"bundle {n} is damaged: {error}") from None
    if len(entries) != width:
        raise SignerRefused("signer.bundle", f"bundle {n} has {len(entries)} entries instead of {width}")
    return entries


def adopt_checkpoint(log: Disk, signer: NoteSigner) -> SignerState:
    """Make a state from the checkpoint and the bundles on disk: the explicit answer to a lost state."""
    try:
        note = log.read("checkpoint")
    except FileNotFoundError:
        return EMPTY
    try:
        signed = parse_checkpoint(verify_note(note, [signer.verifier]).text)
    except EmdiError as error:
        raise SignerRefused(
            "signer.state", f"the checkpoint on disk was not signed with this key: {error}"
        ) from None
    boundary, hashes = extend(log, EMPTY, signed.size, signed.root)
    return SignerState(note, signed.size, signed.root, boundary, hashes)


def open_signer(signer_dir: Path, log_dir: Path, origin: str, *, init: bool = False) -> LogSigner:
    """Open the signer of one log from its folders."""
    return LogSigner.open(Disk(signer_dir), Disk(log_dir), origin, init=init)
