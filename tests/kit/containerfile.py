"""Reads the Containerfile: what each stage is made of, and how what runs is started.

What it knows is what that file uses. Anything else is an error, so that a step is never left out.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "Containerfile"


class Step(NamedTuple):
    """An instruction, with what stands behind it."""

    name: str
    text: str


@dataclass
class Stage:
    """What is between one FROM and the next."""

    base: str
    name: str
    steps: list[Step] = field(default_factory=list)

    def last(self, name: str) -> str:
        """What the last instruction of this name says; the earlier ones are of no effect."""
        return [step.text for step in self.steps if step.name == name][-1]

    def words(self, name: str) -> list[str]:
        """The same for one in JSON form."""
        found: list[str] = json.loads(self.last(name))
        return found

    @property
    def environment(self) -> dict[str, str]:
        """All that ENV sets."""
        pairs = [
            pair.split("=", 1)
            for step in self.steps
            if step.name == "ENV"
            for pair in shlex.split(step.text)
        ]
        return {pair[0]: pair[1] for pair in pairs}


KNOWN = (
    *("RUN", "COPY", "WORKDIR", "ENV", "USER", "VOLUME", "EXPOSE"),
    *("STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
)


def stages(text: str) -> list[Stage]:
    """The stages in their order; arguments (ARG) have their defaults."""
    lines = "".join(line for line in text.splitlines(True) if not line.startswith("#"))
    found: list[Stage] = []
    arguments: dict[str, str] = {}
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        if not line.strip():
            continue
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        if name == "ARG" and not found:
            key, _, value = rest.partition("=")
            arguments[key] = value
        elif name == "FROM":
            base, *named = rest.split()
            for key, value in arguments.items():
                base = base.replace(f"${{{key}}}", value)
            found.append(Stage(base, named[1] if named else ""))
        elif name in KNOWN and found:
            found[-1].steps.append(Step(name, rest))
        else:
            raise ValueError(f"the Containerfile has a line that nothing here knows: {line}")
    return found


def health_command(stage: Stage) -> list[str]:
    """The command of HEALTHCHECK."""
    found: list[str] = json.loads(stage.last("HEALTHCHECK").partition(" CMD ")[2])
    return found


def seen(root: Path) -> list[str]:
    """The names at the top of `root` that .dockerignore lets a build see. (The patterns that it
    takes away below these are for who reads it to apply: `hidden`.)"""
    lines = _ignored(root)
    assert lines[0] == "*", "it begins with nothing, and then says what there is"
    return [line[1:] for line in lines if line.startswith("!")]


def hidden(root: Path) -> list[str]:
    """The names that are taken away wherever they are."""
    return [line.removeprefix("**/") for line in _ignored(root)[1:] if not line.startswith("!")]


def _ignored(root: Path) -> list[str]:
    lines = (root / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]
