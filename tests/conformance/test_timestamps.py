"""RFC 3161: what rfc3161-client and `openssl ts -verify` think of good and bad time stamps; they must agree."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stackwitness_client.verify.timestamps import (
    Timestamp,
    TimestampRefused,
    check_timestamp,
    have_library,
    open_timestamp,
    read_certificates,
    rooted,
)
from tests.support.tsa import LocalTsa, openssl_accepts

pytestmark = [
    pytest.mark.skipif(not have_library(), reason="rfc3161-client is not installed: time stamps not checked"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here: no authority to ask"),
]
NOTE = b"log.example/1\n42\nroot\n"


@dataclass(frozen=True)
class Shop:
    """Two authorities, one of them with an intermediate, and stamps of theirs."""

    one: LocalTsa
    two: LocalTsa
    stamp_one: bytes
    stamp_two: bytes


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("tsa")
    one = LocalTsa(folder / "one", "one")
    two = LocalTsa(folder / "two", "two", with_intermediate=True)
    return Shop(one, two, one.stamp(NOTE), two.stamp(NOTE))


def ours(tsr: bytes, data: bytes, roots: bytes, chain: bytes) -> bool:
    try:
        check_timestamp(tsr, data, read_certificates(roots), read_certificates(chain) if chain else ())
    except TimestampRefused:
        return False
    return True


def gen_time_s(tsr: bytes) -> int:
    return open_timestamp(tsr, NOTE)[1].gen_time_ms // 1000


Case = Callable[[Shop], tuple[bytes, bytes, bytes, bytes]]
CASES: dict[str, tuple[bool, Case]] = {
    "good": (True, lambda s: (s.stamp_one, NOTE, s.one.root_pem, b"")),
    "good, through an intermediate": (True, lambda s: (s.stamp_two, NOTE, s.two.root_pem, s.two.chain_pem)),
    "good, one of several roots": (True, lambda s: (s.stamp_one, NOTE, s.two.root_pem + s.one.root_pem, b"")),
    "good, a chain that is not needed": (
        True,
        lambda s: (s.stamp_one, NOTE, s.one.root_pem, s.two.chain_pem),
    ),
    "changed note": (False, lambda s: (s.stamp_one, NOTE + b"x", s.one.root_pem, b"")),
    "another authority's root": (False, lambda s: (s.stamp_one, NOTE, s.two.root_pem, b"")),
    "intermediate missing": (False, lambda s: (s.stamp_two, NOTE, s.two.root_pem, b"")),
    "a stranger's root as intermediate": (
        False,
        lambda s: (s.stamp_one, NOTE, s.two.root_pem, s.one.root_pem),
    ),
    "the signature's bytes changed": (False, lambda s: (flip(s.stamp_one, -5), NOTE, s.one.root_pem, b"")),
    "cut short": (False, lambda s: (s.stamp_one[:-20], NOTE, s.one.root_pem, b"")),
    "nothing": (False, lambda s: (b"", NOTE, s.one.root_pem, b"")),
    "leaf of another": (False, lambda s: (leaf_swapped(s), NOTE, s.one.root_pem, b"")),
}


def flip(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def leaf_swapped(shop: Shop) -> bytes:
    """Stamp with a key that authority one's root never certified, under a leaf of the same name."""
    forger = LocalTsa(shop.one.folder.parent / "forger", "one")
    return forger.stamp(NOTE)


@pytest.mark.parametrize("name", CASES)
def test_both_tools_agree(shop: Shop, tmp_path: Path, name: str) -> None:
    good, make = CASES[name]
    tsr, data, roots, chain = make(shop)
    assert ours(tsr, data, roots, chain) is good
    assert openssl_accepts(tmp_path, tsr, data, roots, chain) is good


def test_every_flipped_byte_is_refused_or_means_the_same(shop: Shop) -> None:
    """Flip one bit in places all over a response: the stated time never changes unnoticed."""
    true = open_timestamp(shop.stamp_one, NOTE)[1]
    roots = [shop.one.root]
    for at in range(0, len(shop.stamp_one), 7):
        try:
            said = check_timestamp(flip(shop.stamp_one, at), NOTE, roots)
        except TimestampRefused:
            continue
        assert said.gen_time_ms == true.gen_time_ms, at


def test_certificates_are_judged_at_the_time_of_the_stamp(tmp_path: Path) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    brief = LocalTsa(tmp_path / "brief", "brief", valid_to=soon)
    tsr = brief.stamp(NOTE)
    made_s = gen_time_s(tsr)
    time.sleep(max(0.0, soon.timestamp() + 1.1 - time.time()))
    assert ours(tsr, NOTE, brief.root_pem, b"")  # expired by now, valid when it signed
    assert not openssl_accepts(tmp_path, tsr, NOTE, brief.root_pem)
    assert openssl_accepts(tmp_path, tsr, NOTE, brief.root_pem, at_s=made_s)


@pytest.mark.parametrize("days", [(-20, -10), (10, 20)])
def test_a_certificate_not_valid_at_that_time_is_refused(tmp_path: Path, days: tuple[int, int]) -> None:
    now = datetime.now(UTC)
    start, end = (now + timedelta(days=number) for number in days)
    late = LocalTsa(tmp_path / "late", "late", valid_from=start, valid_to=end)
    tsr = late.stamp(NOTE)
    assert not ours(tsr, NOTE, late.root_pem, b"")
    assert not openssl_accepts(tmp_path, tsr, NOTE, late.root_pem, at_s=gen_time_s(tsr))


def test_what_a_stamp_says(shop: Shop) -> None:
    said = check_timestamp(shop.stamp_one, NOTE, [shop.one.root])
    assert isinstance(said, Timestamp)
    assert said.authority == "CN=one leaf"
    assert abs(said.gen_time_ms - time.time() * 1000) < 3_600_000
    with pytest.raises(TimestampRefused) as caught:
        open_timestamp(shop.stamp_one, b"other")
    assert caught.value.code == "anchor.imprint"
    with pytest.raises(TimestampRefused) as caught:
        check_timestamp(shop.stamp_one, NOTE, [])
    assert caught.value.code == "anchor.untrusted"
    with pytest.raises(TimestampRefused) as caught:
        open_timestamp(b"x" * 70_000, NOTE)
    assert caught.value.code == "anchor.form"


def test_a_purpose_that_is_not_critical_is_refused(tmp_path: Path) -> None:
    lax = LocalTsa(tmp_path / "lax", "lax", critical=False)
    try:
        tsr = lax.stamp(NOTE)
    except Exception:  # this openssl refuses to sign with such a certificate at all
        return
    assert not ours(tsr, NOTE, lax.root_pem, b"")
    assert not openssl_accepts(tmp_path, tsr, NOTE, lax.root_pem)


def test_only_what_leads_to_a_root_is_an_intermediate(shop: Shop) -> None:
    assert rooted([shop.two.chain[0], shop.one.root], [shop.two.root]) == [shop.two.chain[0]]
    assert rooted([shop.one.leaf, shop.two.leaf], [shop.one.root]) == [shop.one.leaf]
    assert rooted(shop.two.chain, [shop.one.root]) == []
