"""Makes Spyne 2.14 importable, without warnings, on every Python that receiptd supports.

Spyne's last release was made for older Pythons: on 3.12 its copy of `six` cannot be imported,
on 3.13 it misses the standard library's `cgi`. The package `receiptd.soap` imports this module
before anything else, so its modules import Spyne as if nothing were the matter. A Spyne that
has mended these things is left as it is.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any

_SIX = "spyne.util.six"


class _Moves(MetaPathFinder, Loader):
    """Finds the modules of `six.moves` as PEP 451 wants it; six's own finder is older, and
    Python 3.12 does not ask it any more."""

    def __init__(self, finder: Any) -> None:
        self._finder = finder

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in self._finder.known_modules else None

    def exec_module(self, module: ModuleType) -> None:
        # The module meant takes the new one's place. (Returning it from create_module, as later
        # releases of six do, would overwrite `__spec__` of such as collections.abc.)
        del sys.modules[module.__name__]
        self._finder.load_module(module.__name__)


def _load_six() -> None:
    """Load Spyne's six on its own: Spyne's first line needs it, and the place where Spyne lies
    can be found without executing Spyne."""
    spyne = find_spec("spyne")
    folders = (spyne and spyne.submodule_search_locations) or []
    spec = PathFinder.find_spec(_SIX, [str(Path(folder, "util")) for folder in folders])
    if spec is None or spec.loader is None or _SIX in sys.modules:
        return
    six = sys.modules[_SIX] = module_from_spec(spec)
    spec.loader.exec_module(six)
    finder = getattr(six, "_importer", None)
    if finder in sys.meta_path and not hasattr(finder, "find_spec"):
        sys.meta_path[sys.meta_path.index(finder)] = _Moves(finder)


def _parse_header(line: str) -> tuple[str, dict[str, str]]:
    """The one function of `cgi` that Spyne's Soap11 calls: a Content-Type and its parameters."""
    message = Message()
    message["Content-Type"] = line
    return message.get_content_type(), dict(message.get_params([])[1:])


@contextmanager
def _cgi() -> Iterator[None]:
    """A `cgi` to import while this lasts; nobody else is to find the substitute later."""
    if find_spec("cgi") is not None:
        yield
        return
    stub = ModuleType("cgi", "Stands in for the module that Python 3.13 removed.")
    stub.parse_header = _parse_header  # type: ignore[attr-defined]
    sys.modules["cgi"] = stub
    try:
        yield
    finally:
        del sys.modules["cgi"]


with warnings.catch_warnings():
    # Unknown escapes, `is` with a literal, the deprecation of cgi: all true, and nothing that
    # whoever runs receiptd could mend.
    warnings.simplefilter("ignore", SyntaxWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    _load_six()
    with _cgi():
        import_module("spyne.protocol.soap.soap11")

# A context that is closed runs a full garbage collection where the last one is this many seconds
# ago: at 1.0, as delivered, a pause in every second. Python's own collector suffices.
vars(import_module("spyne.const"))["MIN_GC_INTERVAL"] = inf
