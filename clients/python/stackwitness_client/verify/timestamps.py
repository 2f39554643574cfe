"""RFC 3161 time stamps: does an authority I trust say that these bytes existed at that time?

Needs rfc3161-client, imported only here and only when asked: nothing else in the verifier depends on it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from stackwitness_client.errors import ClientError

MAX_TSR_BYTES = 1 << 16
SHA256_OID = x509.ObjectIdentifier("2.16.840.1.101.3.4.2.1")


class TimestampRefused(ClientError):
    """A time stamp that does not hold: anchor.form, anchor.imprint, anchor.untrusted, anchor.no_library."""


@dataclass(frozen=True, slots=True)
class Timestamp:
    """When an authority saw the bytes (Unix ms), and its certificate's subject."""

    gen_time_ms: int
    authority: str


def have_library() -> bool:
    """Tell whether rfc3161-client is installed."""
    try:
        import rfc3161_client
    except ImportError:
        return False
    return bool(rfc3161_client)


def read_certificates(pem: bytes) -> list[x509.Certificate]:
    """Return the certificates of a PEM file; raises TimestampRefused("anchor.form")."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise TimestampRefused("anchor.form", f"no certificates: {error}") from None


def check_timestamp(
    tsr: bytes,
    data: bytes,
    roots: Sequence[x509.Certificate],
    chain: Sequence[x509.Certificate] = (),
    *,
    nonce: int | None = None,
) -> Timestamp:
    """Check that a response stamps `data` with SHA-256 and leads to one of `roots`; return what it says.

    The chain is judged at the time in the response: a certificate that has expired since then does no harm.
    `chain` may come from anywhere. Raises TimestampRefused.
    """
    from rfc3161_client import VerificationError, VerifierBuilder

    response, stamp = open_timestamp(tsr, data)
    trusted = {cert.public_bytes(Encoding.DER): cert for cert in roots}
    if not trusted:
        raise TimestampRefused("anchor.untrusted", "no root certificate to trust")
    links = [cert for cert in rooted(chain, roots) if cert.public_bytes(Encoding.DER) not in trusted]
    builder = VerifierBuilder(roots=list(trusted.values()), intermediates=links, nonce=nonce)
    try:
        builder.build().verify(response, hashlib.sha256(data).digest())
    except (VerificationError, ValueError) as error:
        raise TimestampRefused("anchor.untrusted", str(error)) from None
    return stamp


def open_timestamp(tsr: bytes, data: bytes) -> tuple[Any, Timestamp]:
    """Return a granted response over `data` and what it claims; its signature is not checked.

    Raises TimestampRefused: anchor.form, anchor.imprint, anchor.no_library.
    """
    try:
        from rfc3161_client import decode_timestamp_response
    except ImportError:
        raise TimestampRefused("anchor.no_library", "rfc3161-client is not installed") from None
    if len(tsr) > MAX_TSR_BYTES:
        raise TimestampRefused("anchor.form", "response too long")
    try:
        response = decode_timestamp_response(tsr)
        if response.status != 0:
            raise TimestampRefused("anchor.form", f"the authority refused: status {response.status}")
        info = response.tst_info
        imprint = info.message_imprint
        stamp = Timestamp(int(info.gen_time.replace(tzinfo=UTC).timestamp() * 1000), _authority(response))
    except ValueError as error:
        raise TimestampRefused("anchor.form", f"not a time-stamp response: {error}") from None
    if imprint.hash_algorithm != SHA256_OID or imprint.message != hashlib.sha256(data).digest():
        raise TimestampRefused("anchor.imprint", "the time stamp is of other bytes")
    return response, stamp


def rooted(chain: Iterable[x509.Certificate], roots: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return those certificates of `chain` that lead to a root.

    The library trusts every certificate it is given, so a stranger's root among the intermediates would make
    the stranger trusted.
    """
    accepted: list[x509.Certificate] = []
    waiting = list(chain)
    while found := [cert for cert in waiting if any(_issued(cert, by) for by in (*roots, *accepted))]:
        accepted += found
        waiting = [cert for cert in waiting if cert not in found]
    return accepted


def _issued(cert: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        constraints = by.extensions.get_extension_for_class(x509.BasicConstraints).value
        cert.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return constraints.ca


def _authority(response: Any) -> str:
    """Return the subject of the certificate that signed, as far as the response brings it; else its issuer."""
    signers = list(response.signed_data.signer_infos)
    for der in response.signed_data.certificates:
        cert = x509.load_der_x509_certificate(bytes(der))
        if any(cert.serial_number == item.serial_number and cert.issuer == item.issuer for item in signers):
            return cert.subject.rfc4514_string()
    return f"issued by {signers[0].issuer.rfc4514_string()}" if signers else ""
