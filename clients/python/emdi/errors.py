"""One error tree: whatever these modules refuse, they refuse with an EmdiError that carries a stable code."""


class EmdiError(Exception):
    """Refuse an input: `code` is stable and dotted ("envelope.base64"), the message is for people."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message or code


class EncodingError(EmdiError):
    """Text that is not canonical: base64, decimal numbers, I-JSON."""


class EnvelopeError(EmdiError):
    """A JWS (envelope, event, proof of a key) that breaks the format or whose signature does not hold."""


class PackError(EmdiError):
    """A SenML pack that breaks the profile."""


class ChainError(EmdiError):
    """An envelope or event that does not follow its predecessor."""


class KeyFormatError(EmdiError):
    """A key that cannot be used."""


class NoteError(EmdiError):
    """A signed note that is malformed or not signed by the expected keys."""


class TileError(EmdiError):
    """A tile, entry bundle or tile path that is malformed."""


class ProofError(EmdiError):
    """A Merkle proof that does not hold."""


class ReceiptError(EmdiError):
    """A receipt that is malformed or does not fit its envelope."""


class PolicyError(EmdiError):
    """A policy that is malformed, or a checkpoint that does not meet one."""


class WitnessError(EmdiError):
    """A request to a witness that is malformed, or that the witness refuses."""


class BundleError(EmdiError):
    """An export bundle that is malformed."""


class HeadError(EmdiError):
    """A head of the log (the last entry of every station and subject) that is malformed or does not follow."""


class ProofFileError(EmdiError):
    """A proof file (the evidence behind an alarm) that is malformed, or that does not prove what it says."""


class OfficerError(EmdiError):
    """An act of somebody who, by the log, did not hold the role it takes."""


class RunError(EmdiError):
    """A run of the detectors whose event is malformed."""
