"""Serve the console's scripts and styles from memory: our own modules, and uPlot out of the youplot wheel.

uPlot is third-party code that runs in an inspector's browser, so its bytes are pinned: a wheel that ships
other bytes stops the server at start instead of reaching a browser.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import Response

from stackwitness.errors import NotFound

UPLOT_SHA256 = {
    "uplot.iife.min.js": "2d27e8ad3d228164525ce213f9dc716f39b4e3aee0cc773fb3491c96cf4921a2",
    "uplot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}


class AssetMismatch(RuntimeError):
    """A pinned third-party file is absent or has other bytes than those we reviewed."""


@dataclass(frozen=True)
class Assets:
    """All files by name, and one digest over them that stands in their addresses."""

    files: dict[str, bytes]
    digest: str

    def href(self, name: str) -> str:
        """Return the address of a file; it changes whenever any file changes."""
        return f"/assets/{self.digest}/{name}"


def _own_folder() -> Path:
    packaged = Path(__file__).parents[1] / "web"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "clients" / "web"


def _uplot_folder() -> Path:
    # find_spec does not import the package: its Python side would cost memory and is not needed.
    spec = importlib.util.find_spec("youplot")
    if spec is None or not spec.submodule_search_locations:
        raise AssetMismatch("the youplot package, which ships uPlot, is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "vendor"


def check_pinned(name: str, content: bytes) -> None:
    """Raise AssetMismatch unless the bytes of a pinned file are the reviewed ones."""
    found = hashlib.sha256(content).hexdigest()
    if found != UPLOT_SHA256[name]:
        raise AssetMismatch(f"{name}: SHA-256 is {found}, reviewed was {UPLOT_SHA256[name]}")


@cache
def load_assets() -> Assets:
    """Read every file once; raises AssetMismatch when uPlot is not the reviewed one."""
    files = {p.name: p.read_bytes() for p in sorted(_own_folder().iterdir()) if p.suffix in TYPES}
    for name in UPLOT_SHA256:
        content = (_uplot_folder() / name).read_bytes()
        check_pinned(name, content)
        files[name] = content
    whole = hashlib.sha256()
    for name, content in files.items():
        whole.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return Assets(files, whole.hexdigest()[:16])


def answer_asset(digest: str, name: str) -> Response:
    """Return a file; the right digest may be cached for ever, an old one is answered without caching."""
    assets = load_assets()
    content = assets.files.get(name)
    if content is None:
        raise NotFound("asset.unknown", "No such file")
    fresh = digest == assets.digest
    return Response(
        content,
        media_type=TYPES["." + name.rsplit(".", 1)[1]],
        headers={
            "Cache-Control": "public, max-age=31536000, immutable" if fresh else "no-store",
            "X-Content-Type-Options": "nosniff",
        },
    )
