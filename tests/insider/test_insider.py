"""Every deed of the table is done for real on a copy, and the checks that must find it do, by name and place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stackwitness.db.embedded import Cluster
from tests.insider.checks import CHECKS, EXPORTING, by_kept_receipts, check_all
from tests.insider.deeds import Deed
from tests.insider.scene import Scene, build_scene, copied
from tests.insider.table import DEEDS


@pytest.fixture(scope="module")
def first(cluster: Cluster, template: str, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return build_scene(cluster, template, tmp_path_factory.mktemp("insider"))


@pytest.fixture
def scene(first: Scene, tmp_path: Path) -> Iterator[Scene]:
    with copied(first, tmp_path) as copy:
        yield copy


@pytest.mark.parametrize("name", CHECKS)
def test_nobody_is_accused_when_nothing_was_done(scene: Scene, name: str) -> None:
    assert CHECKS[name](scene) == []


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.name)
def test_deed_is_found(scene: Scene, deed: Deed) -> None:
    deed.do(scene)
    for sign in deed.signs:
        found = CHECKS[sign.check](scene)
        hits = [item for item in found if item.code == sign.code and sign.says in item.says]
        assert hits, (sign, found)
    assert by_kept_receipts(scene) == []


def test_a_log_that_stands_still_is_asked_for_no_export(scene: Scene) -> None:
    """As the whole table is made, every check after every deed."""
    deed = next(deed for deed in DEEDS if any(sign.check == "log process" for sign in deed.signs))
    deed.do(scene)
    found = check_all(scene)
    assert found["log process"]
    assert not EXPORTING & found.keys()
