"""The fast signature check of fsck accepts nothing that the offline verifier refuses, and refuses nothing it accepts.

The cases are those of Chalkias, Garillot, Nikolaenko, "Taming the many EdDSAs" (SSR 2020), section 5, made anew: keys
and nonces with a part of small order, of small order alone, encodings that are not canonical, and S beyond the order.
"""

import hashlib
from collections.abc import Iterator

from nacl.bindings import crypto_sign_open
from nacl.exceptions import CryptoError

from emdi.errors import KeyFormatError
from emdi.keys import PublicKey
from stackwitness.log.fsck.signatures import verify_fast

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SECRET, NONCE = 12345, 67890

Point = tuple[int, int]
Case = tuple[bytes, bytes, bytes]  # key, signature, message


def add(a: Point, b: Point) -> Point:
    product = D * a[0] * b[0] * a[1] * b[1]
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, P)
    return x % P, (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P


def multiply(factor: int, point: Point) -> Point:
    total = (0, 1)
    while factor:
        if factor & 1:
            total = add(total, point)
        point, factor = add(point, point), factor >> 1
    return total


def find_x(y: int) -> int | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    for x in (root, root * pow(2, (P - 1) // 4, P) % P):
        if x * x % P == square:
            return x
    return None


def encode(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def make_base() -> Point:
    y = 4 * pow(5, -1, P) % P
    x = find_x(y) or 0
    return (P - x if x % 2 else x), y


def make_torsion() -> list[Point]:
    """Return the 8 points whose order divides 8, as the multiples of one."""
    for y in range(2, 100):
        x = find_x(y)
        point = (0, 1) if x is None else multiply(ORDER, (x, y))
        if multiply(4, point) != (0, 1):
            return [multiply(n, point) for n in range(8)]
    raise AssertionError


BASE = make_base()
TORSION = make_torsion()


def seal(
    secret: int,
    key_part: int,
    nonce: int,
    nonce_part: int,
    message: bytes,
    key_text: bytes = b"",
    nonce_text: bytes = b"",
) -> Case:
    """Sign; the numbered points of small order are added to key and nonce, whose encodings may be replaced."""
    key = key_text or encode(add(multiply(secret, BASE), TORSION[key_part]))
    first = nonce_text or encode(add(multiply(nonce, BASE), TORSION[nonce_part]))
    challenge = int.from_bytes(hashlib.sha512(first + key + message).digest(), "little")
    return key, first + ((nonce + challenge * secret) % ORDER).to_bytes(32, "little"), message


def make_small_parts() -> Iterator[Case]:
    for key_part in range(8):
        for nonce_part in range(8):
            for secret, nonce in ((SECRET, NONCE), (0, NONCE), (SECRET, 0), (0, 0)):
                yield seal(secret, key_part, nonce, nonce_part, b"%d" % (key_part * 8 + nonce_part))


def make_odd_encodings() -> Iterator[Case]:
    spellings = [(y + P, sign) for y in range(19) for sign in (0, 1)] + [(1, 1), (P - 1, 1)]
    for y, sign in spellings:
        text = (y | sign << 255).to_bytes(32, "little")
        yield text, seal(SECRET, 0, NONCE, 0, b"m")[1], b"m"
        x = find_x(y % P)
        point = (0 if x is None else x if x & 1 == sign else P - x) % P, y % P
        if point in TORSION:
            part = TORSION.index(point)
            for message in (b"%d" % n for n in range(8)):
                yield seal(0, part, NONCE, 0, message, key_text=text)
                yield seal(0, part, 0, 0, message, key_text=text)
                yield seal(SECRET, 0, 0, part, message, nonce_text=text)
                yield seal(SECRET, 3, 0, part, message, nonce_text=text)


def make_large_scalars() -> Iterator[Case]:
    key, signature, message = seal(SECRET, 0, NONCE, 0, b"m")
    scalar = int.from_bytes(signature[32:], "little")
    for more in (1, 2, 8, 14):
        yield key, signature[:32] + (scalar + more * ORDER).to_bytes(32, "little"), message


def test_fsck_and_the_offline_verifier_agree_on_every_edge_case() -> None:
    answers = {True: 0, False: 0}
    for key, signature, message in (*make_small_parts(), *make_odd_encodings(), *make_large_scalars()):
        try:
            public = PublicKey.from_bytes("Ed25519", key)
        except KeyFormatError:
            continue
        answer = public.verify(signature, message)
        answers[answer] += 1
        assert verify_fast(public, signature, message) == answer
        assert answer or not says_yes(public, signature, message), "libsodium's yes would be too much"
    assert min(answers.values()) > 50


def says_yes(public: PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        crypto_sign_open(signature + message, public.raw)
    except (CryptoError, ValueError):
        return False
    return True
