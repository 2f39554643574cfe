"""The process that alone holds the log's key, and signs only what extends what it signed before.

It never loads the database's libraries: `python -m stackwitness.log.signer` is its own entry point.
"""

from stackwitness.log.signer.client import SignerClient
from stackwitness.log.signer.server import run_signer
from stackwitness.log.signer.signing import LogSigner

__all__ = ["LogSigner", "SignerClient", "run_signer"]
