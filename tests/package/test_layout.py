"""The package is laid out so that one finds things: no folder is a corridor."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = sorted({path.parent for role in ("fedinv", "clients", "server") for path in (ROOT / role).rglob("*.py")})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_folder_holds_more_than_fifteen_modules(folder):
    assert len(list(folder.glob("*.py"))) <= 15
    assert (folder / "__init__.py").is_file()


@pytest.mark.parametrize("folder", ["clients/defenses", "server/countermeasures", "server/attacks"])
def test_a_kind_has_one_file(folder):
    stems = [path.stem for path in (ROOT / folder).rglob("[!_]*.py")]
    assert len(stems) == len(set(stems))
