"""The range of each dependency has two ends, and the lower one is what `.ci/run` tests."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ("postgresql", "amqp", "kafka", "nats")
"""Those that whoever runs it may need."""
NEEDED = [
    Requirement(each)
    for each in (
        *PROJECT["dependencies"],
        *(one for name in EXTRAS for one in PROJECT["optional-dependencies"][name]),
    )
]
WITHOUT_CEILING = {"tzdata"}
"""Data, whose releases are named for years."""


def ends(requirement: Requirement, operator: str) -> list[str]:
    """The versions that stand behind an operator."""
    return [each.version for each in requirement.specifier if each.operator == operator]


def oldest() -> dict[str, str]:
    """What the constraints file says."""
    lines = (ROOT / "scripts" / "constraints-oldest.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("requirement", NEEDED, ids=lambda each: each.name)
def test_a_dependency_is_tested_at_its_floor_and_has_a_ceiling(requirement):
    (floor,) = ends(requirement, ">=")
    found = oldest()[canonicalize_name(requirement.name)]
    assert found == floor or found == f"{floor}.0", "the constraints and pyproject.toml differ"
    if requirement.name not in WITHOUT_CEILING:
        assert len(ends(requirement, "<")) == 1


def test_the_constraints_name_nothing_else():
    names = {canonicalize_name(each.name) for each in NEEDED} | {"psycopg-binary"}
    assert set(oldest()) == names
