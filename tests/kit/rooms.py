"""The import contract of rooms: each room imports what its line allows, and nothing else.

import-linter builds the graph of all imports (also of those in functions and for types alone) and
runs this contract beside its own ones; pyproject.toml has the lines. A line is

    web.api: receipt message store

A room is a package or a module below the root package, and the most specific line counts: what is
in `web.api` is no longer in `web`. A package named as allowed means that room alone, without the
rooms in it. Every module has to belong to a room, and every room has to exist.
"""

from __future__ import annotations

from collections.abc import Mapping

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output
from importlinter.domain.imports import Module


def read_rooms(lines: list[str]) -> dict[str, frozenset[str]]:
    """Each room with what it may import."""
    pairs = (line.partition(":") for line in lines)
    return {room.strip(): frozenset(allowed.split()) for room, _, allowed in pairs}


def room_of(module: str, rooms: Mapping[str, object]) -> str | None:
    """The room of a module, which is named below the root; None where it has none."""
    while module and module not in rooms:
        module = module.rpartition(".")[0]
    return module or None


class Rooms(Contract):
    """A contract with an option `root`, a package, and `rooms`, a list of lines as above."""

    root = fields.ModuleField()
    rooms = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Look at every import between modules of the root package."""
        root: Module = self.root  # type: ignore[assignment]
        rooms = read_rooms(self.rooms)  # type: ignore[arg-type]
        prefix = f"{root.name}."
        faults = []
        seen = set()
        for module in sorted(graph.find_descendants(root.name)):
            importer = room_of(module.removeprefix(prefix), rooms)
            if importer is None:
                faults.append(f"{module} belongs to no room: give it a line in the map")
                continue
            seen.add(importer)
            for other in sorted(graph.find_modules_directly_imported_by(module)):
                imported = room_of(other.removeprefix(prefix), rooms)
                if not other.startswith(prefix) or imported in (None, importer):
                    continue
                if imported not in rooms[importer]:
                    found = graph.get_import_details(importer=module, imported=other)
                    places = ", ".join(f"line {each['line_number']}" for each in found)
                    faults.append(
                        f"{module} imports {other} ({places}): room {importer} may not "
                        f"import {imported}"
                    )
        faults += [f"room {room} is not there" for room in rooms if room not in seen]
        faults += [
            f"room {room} may import {name}, which is no room"
            for room, allowed in rooms.items()
            for name in sorted(allowed - set(rooms))
        ]
        return ContractCheck(kept=not faults, metadata={"faults": faults})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print each fault on a line."""
        for fault in check.metadata["faults"]:
            output.print_error(fault)
