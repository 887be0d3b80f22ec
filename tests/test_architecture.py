"""docs/architecture.md holds: the rooms are there, and import what it allows."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kit.rooms import read_rooms

ROOT = Path(__file__).parents[1]
SERVER = ROOT / "server" / "receiptd"
MAP = (ROOT / "docs" / "architecture.md").read_text()
MODULES = sorted(SERVER.rglob("*.py"))


def lint_imports(folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Check the contracts in `pyproject.toml` of a folder."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{folder}", "COLUMNS": "200"},
        timeout=60,
    )


def test_rooms_import_only_what_the_map_allows():
    done = lint_imports()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_map_and_the_contract_say_the_same():
    lines = re.findall(r"^\| `([\w.]+)` \| .+ \|(.*)\|$", MAP, re.M)
    drawn = {room: frozenset(re.findall(r"`([\w.]+)`", allowed)) for room, allowed in lines}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (rooms,) = (each["rooms"] for each in contracts["contracts"] if each["id"] == "rooms")
    assert drawn == read_rooms(rooms)


def test_what_the_map_names_is_there():
    named = set(re.findall(r"`([\w/.]+(?:/|\.py|\.toml))`", MAP))
    assert len(named) > 20
    places = [ROOT, ROOT / "server", SERVER, SERVER / "store", SERVER.parent]
    assert [name for name in sorted(named) if not any((p / name).exists() for p in places)] == []
    for link in re.findall(r"\]\(([^)#]+)\)", MAP):
        assert (ROOT / "docs" / link).exists(), link


# --- the contract itself ------------------------------------------------------------------------

FILES = {
    "inn/__init__.py": "",
    "inn/cellar.py": "",
    "inn/hall/__init__.py": "import inn.cellar",
    "inn/hall/bar/__init__.py": "",
    "inn/hall/bar/tap.py": "import inn.cellar",
}
ROOMS = ["cellar:", "hall: cellar", "hall.bar: cellar"]


@pytest.fixture
def inn(tmp_path):
    """Checks a package with three rooms, changed files and rooms; what is said of it."""

    def check(changes=(), rooms=ROOMS):
        for name, text in (FILES | dict(changes)).items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (tmp_path / "pyproject.toml").write_text(
            '[tool.importlinter]\nroot_package = "inn"\n'
            'contract_types = ["rooms: tests.kit.rooms.Rooms"]\n'
            '[[tool.importlinter.contracts]]\nid = "rooms"\nname = "Rooms"\ntype = "rooms"\n'
            f'root = "inn"\nrooms = {list(rooms)!r}\n'
        )
        done = lint_imports(tmp_path)
        assert done.returncode == (0 if "1 kept" in done.stdout else 1), done.stderr
        return done.stdout

    return check


def test_a_house_in_order_passes(inn):
    assert "1 kept, 0 broken" in inn()


@pytest.mark.parametrize(
    "text",
    [
        "import inn.hall",
        "from inn.hall import x",
        "from inn import hall",
        "def later():\n    from inn import hall",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import inn.hall",
        "try:\n    import inn.hall\nexcept ImportError:\n    pass",
    ],
    ids=["plain", "from", "from the root", "in a function", "for types alone", "tried"],
)
def test_every_form_of_import_is_seen(inn, text):
    said = inn({"inn/cellar.py": text})
    assert "inn.cellar imports inn.hall" in said
    assert "room cellar may not import hall" in said


def test_a_room_within_a_room_is_a_room_of_its_own(inn):
    assert "room hall may not import hall.bar" in inn({"inn/hall/desk.py": "import inn.hall.bar"})


def test_a_module_without_a_room_is_a_fault(inn):
    assert "inn.attic belongs to no room: give it a line in the map" in inn({"inn/attic.py": ""})


def test_a_room_that_is_gone_is_a_fault(inn):
    said = inn(rooms=[*ROOMS, "garage: hal"])
    assert "room garage is not there" in said
    assert "room garage may import hal, which is no room" in said


# --- modules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SERVER)))
def test_a_module_says_what_it_is_for_and_is_short_or_says_why_not(module):
    text = module.read_text()
    said = ast.get_docstring(ast.parse(text)) or ""
    if module.name != "__main__.py":
        assert said, "the module needs a docstring: a sentence that says what it is for"
    if len(text.splitlines()) > 300:
        assert "Longer than 300 lines because " in " ".join(said.split()), (
            f"{len(text.splitlines())} lines: cut it, or say in its docstring "
            "'Longer than 300 lines because ...'"
        )
