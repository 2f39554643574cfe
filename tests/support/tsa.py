"""A time-stamp authority of our own: `openssl ts` behind a loopback HTTP server."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# `certs` is left out on purpose: with it openssl writes a DER SET that is not sorted, which strict readers refuse.
CONFIG = """[ tsa ]
default_tsa = tsa1
[ tsa1 ]
serial = {folder}/serial
signer_cert = {folder}/{leaf}.pem
signer_key = {folder}/{leaf}.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
ess_cert_id_chain = no
tsa_name = no
"""


@dataclass
class LocalTsa:
    """An authority: root, optionally an intermediate, and the leaf that signs."""

    folder: Path
    name: str
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    with_intermediate: bool = False
    critical: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        root_key = ec.generate_private_key(ec.SECP256R1())
        self.root = self._certify("root", root_key, None, None, ca=True)
        issuer, issuer_key = self.root, root_key
        self.chain: list[x509.Certificate] = []
        if self.with_intermediate:
            issuer_key = ec.generate_private_key(ec.SECP256R1())
            issuer = self._certify("intermediate", issuer_key, self.root, root_key, ca=True)
            self.chain = [issuer]
        self.leaf = self._certify(
            "leaf", ec.generate_private_key(ec.SECP256R1()), issuer, issuer_key, ca=False
        )
        (self.folder / "serial").write_text("01\n")
        (self.folder / "tsa.cnf").write_text(CONFIG.format(folder=self.folder, leaf="leaf"))

    @property
    def root_pem(self) -> bytes:
        return self.root.public_bytes(Encoding.PEM)

    @property
    def chain_pem(self) -> bytes:
        return b"".join(cert.public_bytes(Encoding.PEM) for cert in self.chain)

    def reply(self, query: bytes) -> bytes:
        """Return the response to a DER query."""
        with self.lock:
            asked, made = self.folder / "q.tsq", self.folder / "r.tsr"
            asked.write_bytes(query)
            self._openssl(
                "ts", "-reply", "-queryfile", asked, "-config", self.folder / "tsa.cnf", "-out", made
            )
            return made.read_bytes()

    def stamp(self, data: bytes) -> bytes:
        """Return the response over some bytes, asked for with openssl."""
        (self.folder / "data").write_bytes(data)
        query = self.folder / "data.tsq"
        self._openssl("ts", "-query", "-data", self.folder / "data", "-sha256", "-cert", "-out", query)
        return self.reply(query.read_bytes())

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Answer POSTed queries; yield the address."""
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = authority.reply(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}/"
            finally:  # a test that fails must not leave a thread that keeps pytest from ending
                server.shutdown()
                thread.join()

    def _certify(
        self,
        what: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Certificate | None,
        issuer_key: ec.EllipticCurvePrivateKey | None,
        *,
        ca: bool,
    ) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{self.name} {what}")])
        now = datetime.now(UTC)
        own = not ca  # only the leaf's validity is a matter of these tests
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name if issuer is None else issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before((own and self.valid_from) or now - timedelta(days=1))
            .not_valid_after((own and self.valid_to) or now + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        usage = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
             "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False,
        )  # fmt: skip
        wanted = {"key_cert_sign": True, "crl_sign": True} if ca else {"digital_signature": True}
        builder = builder.add_extension(x509.KeyUsage(**{**usage, **wanted}), critical=True)
        if not ca:
            purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
            builder = builder.add_extension(purposes, critical=self.critical)
        cert = builder.sign(issuer_key or key, hashes.SHA256())
        (self.folder / f"{what}.pem").write_bytes(cert.public_bytes(Encoding.PEM))
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / f"{what}.key").write_bytes(secret)
        return cert

    @staticmethod
    def _openssl(*arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)


def openssl_accepts(
    folder: Path, tsr: bytes, data: bytes, roots: bytes, chain: bytes = b"", at_s: int | None = None
) -> bool:
    """Ask `openssl ts -verify`, judging certificates at a Unix time (default: now)."""
    for name, content in (("v.tsr", tsr), ("v.data", data), ("v.roots", roots), ("v.chain", chain)):
        (folder / name).write_bytes(content)
    command = ["openssl", "ts", "-verify", "-data", "v.data", "-in", "v.tsr", "-CAfile", "v.roots"]
    command += ["-untrusted", "v.chain"] if chain else []
    command += ["-attime", str(at_s)] if at_s is not None else []
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode == 0 and "Verification: OK" in done.stdout
