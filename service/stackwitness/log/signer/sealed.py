"""A note key encrypted with a passphrase: scrypt (RFC 7914) and AES-256-GCM, in four lines of text.

stackwitness encrypted note key v1
<vkey>                                     authenticated, not secret
scrypt <log2 n> <r> <p> <salt, base64>
<nonce and ciphertext, base64>
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from emdi.encoding import b64_decode, b64_encode, parse_uint
from emdi.errors import EmdiError
from emdi.note import NoteSigner, VerifierKey
from stackwitness.log.errors import LogKeyInvalid

HEADER = "stackwitness encrypted note key v1"
LOG2_N, R, P = 15, 8, 1  # 32 MB, a tenth of a second
NONCE_BYTES = 12
MAX_LOG2_N = 20


def is_sealed(text: str) -> bool:
    """Tell whether a key file's text is of this form."""
    return text.startswith(HEADER + "\n")


def seal_seed(signer: NoteSigner, seed: bytes, passphrase: bytes) -> str:
    """Return the key file's text."""
    head = f"{HEADER}\n{signer.vkey}\nscrypt {LOG2_N} {R} {P} {b64_encode(salt := secrets.token_bytes(16))}\n"
    nonce = secrets.token_bytes(NONCE_BYTES)
    secret = AESGCM(derive(passphrase, salt, LOG2_N, R, P)).encrypt(nonce, seed, head.encode())
    return f"{head}{b64_encode(nonce + secret)}\n"


def open_sealed(text: str, passphrase: bytes) -> NoteSigner:
    """Return the signer of a key file's text; raises LogKeyInvalid for a wrong passphrase or a changed file."""
    try:
        header, vkey, scrypt, secret, end = text.split("\n")
        word, *numbers, salt = scrypt.split(" ")
        log2_n, r, p = (parse_uint(number, "key.scrypt") for number in numbers)
        if (header, word, end, r, p) != (HEADER, "scrypt", "", R, P) or not 10 <= log2_n <= MAX_LOG2_N:
            raise LogKeyInvalid("the encrypted key is of another form")
        blob = b64_decode(secret)
        head = "\n".join([header, vkey, scrypt, ""]).encode()
        key = derive(passphrase, b64_decode(salt), log2_n, r, p)
        seed = AESGCM(key).decrypt(blob[:NONCE_BYTES], blob[NONCE_BYTES:], head)
        signer = NoteSigner(VerifierKey.parse(vkey).name, seed)
    except InvalidTag:
        raise LogKeyInvalid("the passphrase does not open the key, or the file was changed") from None
    except (EmdiError, ValueError) as error:
        raise LogKeyInvalid(f"the encrypted key is damaged: {error}") from None
    if signer.vkey != vkey:
        raise LogKeyInvalid("the encrypted key is not the one its file names")
    return signer


def derive(passphrase: bytes, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    """Return 32 bytes that cost time and memory to try."""
    return Scrypt(salt=salt, length=32, n=1 << log2_n, r=r, p=p).derive(passphrase)
