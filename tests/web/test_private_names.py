"""What is not public in a library may be gone with its next release: nothing in web/ uses it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "server" / "receiptd" / "web"
FILES = sorted(WEB.rglob("*.py"))
OWN = ("self", "cls")
NAMEDTUPLE = frozenset({"_asdict", "_fields", "_field_defaults", "_make", "_replace"})
"""Public all the same: the underscore only keeps them apart from the fields' names.
https://docs.python.org/3/library/collections.html#collections.somenamedtuple._make"""


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in NAMEDTUPLE


def own_names(tree: ast.Module) -> set[str]:
    """The private names that a module defines itself."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def foreign(source: str) -> Iterator[str]:
    """The private names of others that a module uses."""
    tree = ast.parse(source)
    own = own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            mine = isinstance(node.value, ast.Name) and node.value.id in OWN
            if not mine or node.attr not in own:
                yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if private(alias.name) or any(map(private, (node.module or "").split("."))):
                    yield f"line {node.lineno}: from {node.module} import {alias.name}"
                if (node.module or "").startswith(("twisted.web", "twisted.internet.abstract")):
                    yield f"line {node.lineno}: {node.module}: HTTP is our own"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            text = [each.value for each in node.args if isinstance(each, ast.Constant)]
            if node.func.id in ("getattr", "setattr", "hasattr", "vars") and any(
                isinstance(each, str) and private(each) for each in text
            ):
                yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("file", FILES, ids=[str(each.relative_to(WEB)) for each in FILES])
def test_no_private_name_of_others_is_used(file):
    assert list(foreign(file.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "transport._tlsConnection.shutdown()",
        "class A(B):\n    def f(self):\n        self._shutdownTLS()",
        "from twisted.web.http import HTTPChannel",
        "from twisted.internet._newtls import startTLS",
        "getattr(request, '_cleanup')()",
    ],
)
def test_such_a_use_would_be_found(source):
    assert list(foreign(source)) != []


def test_the_methods_of_a_named_tuple_are_public():
    assert list(foreign("verdict._replace(text=verdict._asdict()['text'])")) == []
