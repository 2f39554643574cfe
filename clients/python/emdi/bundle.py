"""Export bundles: a byte-reproducible zip, a reader that trusts nothing in it, and the files inside."""

import hashlib
import io
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, NamedTuple

from emdi.encoding import b64_decode, b64_encode, parse_uint
from emdi.errors import BundleError, EncodingError
from emdi.layout import MEMBERS, UNLISTED, is_member
from emdi.merkle import HASH_BYTES
from emdi.tables import (
    CUSTODY_HEADER,
    FLAGS_HEADER,
    READINGS_HEADER,
    REVIEWS_HEADER,
    Disclosure,
    custody_csv_row,
    flag_text_sha256,
    flags_csv_row,
    format_disclosure,
    parse_disclosure,
    readings_csv_row,
    readings_csv_rows,
    reviews_csv_row,
    take_sha256,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "CUSTODY_HEADER",
    "FLAGS_HEADER",
    "MEMBERS",
    "READINGS_HEADER",
    "REVIEWS_HEADER",
    "UNLISTED",
    "BundleReader",
    "Disclosure",
    "ManifestLine",
    "bundle_note_text",
    "custody_csv_row",
    "flag_text_sha256",
    "flags_csv_row",
    "format_disclosure",
    "format_manifest",
    "format_proof",
    "hash_member",
    "iter_entries",
    "iter_proofs",
    "make_manifest",
    "pack_entries",
    "parse_disclosure",
    "parse_manifest",
    "parse_proof",
    "readings_csv_row",
    "readings_csv_rows",
    "reviews_csv_row",
    "take_sha256",
    "write_bundle",
]

MAX_MEMBER_BYTES = 1 << 36
MAX_TEXT_BYTES = 1 << 24
MAX_LINE_BYTES = 1 << 16
BUNDLE_MAGIC = "emdi/export/v1"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20
_BROKEN = (
    zipfile.BadZipFile,
    ValueError,
    NotImplementedError,
    EOFError,
    KeyError,
    struct.error,
    OverflowError,
)
_LINE = re.compile(r"([0-9a-f]{64})  (0|[1-9][0-9]{0,18})  ([A-Za-z0-9._/-]{1,100})")


class ManifestLine(NamedTuple):
    """One line of MANIFEST: lowercase hex SHA-256, size in bytes and member name."""

    sha256: str
    size: int
    name: str


def write_bundle(target: Path | BinaryIO, members: Iterable[tuple[str, bytes | Path]]) -> None:
    """Write a zip of exactly the given members: stored, sorted by name, dated 1980-01-01, no extra fields.

    A member is its bytes or the path of a file, which is streamed. Equal members give equal zips.
    """
    content = sorted(members, key=lambda member: member[0])
    names = [name for name, _ in content]
    if len(set(names)) != len(names) or not all(map(is_member, names)):
        raise BundleError("bundle.member", "a member is named twice, or is not part of the format")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, data in content:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            info.file_size = len(data) if isinstance(data, bytes) else data.stat().st_size
            with archive.open(info, "w", force_zip64=info.file_size > zipfile.ZIP64_LIMIT) as member:
                for chunk in _chunks(data):
                    member.write(chunk)


class BundleReader:
    """Open a bundle and hand out its members as streams; whatever is not exactly a bundle is refused.

    Raises BundleError: bundle.zip (no zip, compressed or encrypted members, overlapping or trailing data),
    bundle.member (unknown, doubled or missing names), bundle.size.
    """

    def __init__(self, path: Path | BinaryIO) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
            self.sizes: Mapping[str, int] = _check_members(self._archive.infolist())
            _check_layout(self._archive)
        except _BROKEN as error:
            raise BundleError("bundle.zip", str(error)) from None

    def __enter__(self) -> "BundleReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def stream(self, name: str) -> IO[bytes]:
        """Return the member as a binary stream."""
        try:
            member = _Member(name, self._archive.open(name))
        except _BROKEN as error:
            raise BundleError("bundle.zip", f"{name}: {error}") from None
        return io.BufferedReader(member, _CHUNK)

    def read(self, name: str) -> bytes:
        """Return a small member whole (at most 16 MiB)."""
        if self.sizes[name] > MAX_TEXT_BYTES:
            raise BundleError("bundle.size", f"{name} is too long")
        with self.stream(name) as member:
            return member.read()

    def text(self, name: str) -> str:
        """Return a small member as UTF-8 text."""
        try:
            return self.read(name).decode("utf-8")
        except UnicodeDecodeError:
            raise BundleError("bundle.text", f"{name} is not UTF-8") from None

    def lines(self, name: str) -> Iterator[str]:
        """Yield the lines of a member without their newline; every line ends in one newline."""
        with self.stream(name) as member:
            while line := member.readline(MAX_LINE_BYTES):
                if not line.endswith(b"\n"):
                    raise BundleError("bundle.text", f"{name}: line too long, or no final newline")
                try:
                    yield line[:-1].decode("utf-8")
                except UnicodeDecodeError:
                    raise BundleError("bundle.text", f"{name} is not UTF-8") from None


def make_manifest(members: Iterable[tuple[str, bytes | Path]]) -> bytes:
    """Return MANIFEST over the members (those of UNLISTED are left out)."""
    lines: list[ManifestLine] = []
    for name, data in members:
        if name not in UNLISTED:
            digest, size = _digest(_chunks(data))
            lines.append(ManifestLine(digest, size, name))
    return format_manifest(lines)


def format_manifest(lines: Iterable[ManifestLine]) -> bytes:
    """Return `<sha256 hex>  <size>  <name>` lines sorted by name."""
    ordered = sorted(lines, key=lambda line: line.name)
    return "".join(f"{line.sha256}  {line.size}  {line.name}\n" for line in ordered).encode("ascii")


def parse_manifest(data: bytes) -> tuple[ManifestLine, ...]:
    """Read MANIFEST in its only spelling; raise BundleError("bundle.manifest")."""
    text = data.decode("ascii", "replace")
    matches = [_LINE.fullmatch(line) for line in text.split("\n")[:-1]]
    lines = tuple(ManifestLine(match[1], int(match[2]), match[3]) for match in matches if match is not None)
    if (
        len(lines) != len(matches)
        or format_manifest(lines) != data
        or not all(is_member(line.name) for line in lines)
    ):
        raise BundleError("bundle.manifest", "MANIFEST is not sorted lines of hash, size and name")
    if len({line.name for line in lines}) != len(lines):
        raise BundleError("bundle.manifest", "a member is listed twice")
    return lines


def hash_member(reader: BundleReader, name: str) -> ManifestLine:
    """Return the manifest line of a member as it is."""
    with reader.stream(name) as member:
        digest, size = _digest(iter(lambda: member.read(_CHUNK), b""))
    return ManifestLine(digest, size, name)


def bundle_note_text(export_id: str, manifest: bytes, origin: str, size: int) -> str:
    """Return the text of bundle.note, signed by the export key."""
    return f"{BUNDLE_MAGIC}\n{export_id}\n{b64_encode(hashlib.sha256(manifest).digest())}\n{origin}\n{size}\n"


def pack_entries(entries: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """Yield the records of entries.bin, `idx:u64be len:u16be entry`, for (idx, entry) in ascending order."""
    previous = -1
    for idx, entry in entries:
        if idx <= previous or not 0 < len(entry) <= 0xFFFF:
            raise BundleError("bundle.entries", f"entry {idx} is out of order, empty or too long")
        previous = idx
        yield idx.to_bytes(8, "big") + len(entry).to_bytes(2, "big") + entry


def iter_entries(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (idx, entry) from entries.bin; raise BundleError("bundle.entries")."""
    previous = -1
    while head := stream.read(10):
        idx, size = int.from_bytes(head[:8], "big"), int.from_bytes(head[8:], "big")
        entry = stream.read(size)
        if len(head) != 10 or size == 0 or len(entry) != size:
            raise BundleError("bundle.entries", f"entries.bin is cut short after idx {previous}")
        if not previous < idx < 2**63:
            raise BundleError("bundle.entries", f"idx {idx} does not ascend after {previous}")
        previous = idx
        yield idx, entry


def format_proof(idx: int, path: Iterable[bytes]) -> str:
    """Return one line of proofs.txt: the index and the hashes of its inclusion path, in base64."""
    return " ".join([str(idx), *map(b64_encode, path)]) + "\n"


def parse_proof(line: str) -> tuple[int, list[bytes]]:
    """Read one line of proofs.txt; raise BundleError("bundle.proofs")."""
    idx, *hashes = line.split(" ")
    try:
        path = [b64_decode(item) for item in hashes]
        if len(path) <= 63 and all(len(item) == HASH_BYTES for item in path):
            return parse_uint(idx, "bundle.proofs"), path
    except EncodingError as error:
        raise BundleError("bundle.proofs", error.message) from None
    raise BundleError("bundle.proofs", "a path is at most 63 hashes of 32 bytes")


def iter_proofs(lines: Iterable[str]) -> Iterator[tuple[int, list[bytes]]]:
    """Yield (idx, path) from the lines of proofs.txt, ascending."""
    previous = -1
    for line in lines:
        idx, path = parse_proof(line)
        if idx <= previous:
            raise BundleError("bundle.proofs", f"idx {idx} does not ascend after {previous}")
        previous = idx
        yield idx, path


class _Member(io.RawIOBase):
    """Turn every way in which a zip member can be broken into a BundleError."""

    def __init__(self, name: str, member: IO[bytes]) -> None:
        self._name = name
        self._member = member

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        try:
            data = self._member.read(len(view))
        except _BROKEN as error:
            raise BundleError("bundle.zip", f"{self._name}: {error}") from None
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._member.close()
        super().close()


def _check_members(infos: list[zipfile.ZipInfo]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for info in infos:
        if not is_member(info.orig_filename):
            raise BundleError("bundle.member", f"undeclared member {info.orig_filename!r}")
        if info.filename in sizes:
            raise BundleError("bundle.member", f"member {info.filename} twice")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
            raise BundleError("bundle.zip", f"{info.filename} is compressed or encrypted")
        if info.file_size != info.compress_size or info.file_size > MAX_MEMBER_BYTES:
            raise BundleError("bundle.size", f"{info.filename} has an impossible size")
        sizes[info.filename] = info.file_size
    return sizes


def _check_layout(archive: zipfile.ZipFile) -> None:
    """Leave no byte of the file unaccounted for.

    A gap, an extra field or a second directory could hold what other programs show under these names.
    """
    file = archive.fp
    assert file is not None
    at = directory = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        wide = 16 * (info.file_size > zipfile.ZIP64_LIMIT) + 8 * (info.header_offset > zipfile.ZIP64_LIMIT)
        file.seek(at + 28)
        extra = int.from_bytes(file.read(2), "little")
        if (
            info.header_offset != at
            or extra not in (0, 20 * (info.file_size > 1 << 30))  # 64-bit sizes, of large members only
            or len(info.extra) != (4 + wide if wide else 0)
            or info.comment
        ):
            raise BundleError("bundle.zip", f"foreign bytes before or in the header of {info.filename}")
        at += 30 + len(info.filename) + extra + info.file_size
        directory += 46 + len(info.filename) + len(info.extra)
    tail = 98 if max(at, directory) > zipfile.ZIP64_LIMIT else 22
    if archive.start_dir != at or file.seek(0, io.SEEK_END) != at + directory + tail:
        raise BundleError("bundle.zip", "foreign bytes between the members, or after them")


def _chunks(data: bytes | Path) -> Iterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    with data.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _digest(chunks: Iterable[bytes]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size
