"""Spyne works on every supported Python, silently, and without its pauses."""

from __future__ import annotations

import collections.abc
import gc
import http.cookies
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import receiptd.soap.compat as compat  # isort: split

import pytest
from spyne import Application, MethodContext, Service, Unicode, rpc
from spyne.protocol.soap import Soap11
from spyne.server import ServerBase


def python(program: str, *options: str, first: Path | None = None, **environment: str) -> str:
    """What a new interpreter prints for `program`, with `first` before all else on its path."""
    path = [str(first)] if first else []
    done = subprocess.run(
        [sys.executable, *options, "-c", program],
        env=os.environ | environment | {"PYTHONPATH": os.pathsep.join([*path, *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_importing_spyne_warns_of_nothing_even_where_it_is_compiled_for_the_first_time(tmp_path):
    program = "import receiptd.soap.compat, spyne.server, spyne.interface.wsdl; print('fine')"
    cache = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    assert python(program, "-W", "error", **cache) == "fine\n"


def test_warnings_are_shown_as_before_afterwards():
    program = """
import warnings
before = list(warnings.filters)
import receiptd.soap.compat
print(warnings.filters == before)
"""
    assert python(program) == "True\n"


def test_every_module_of_the_package_may_import_spyne_as_it_likes():
    assert python("import receiptd.soap; import spyne; print(spyne.__name__)") == "spyne\n"


def test_an_import_of_spyne_that_came_before_does_no_harm():
    program = """
import receiptd.soap.compat, sys
del sys.modules["receiptd.soap.compat"], sys.modules["receiptd.soap"]
finders = list(sys.meta_path)
import receiptd.soap.compat
print(sys.meta_path == finders)
"""
    assert python(program) == "True\n"


def test_the_substitute_for_cgi_is_there_for_spyne_only():
    program = "import receiptd.soap.compat; import cgi; print(cgi.FieldStorage.__name__)"
    if find_spec("cgi") is None:
        program = """
import receiptd.soap.compat, importlib.util, sys
print("cgi" in sys.modules, importlib.util.find_spec("cgi"))
"""
        assert python(program) == "False None\n"
    else:
        assert python(program, "-W", "ignore") == "FieldStorage\n"


def test_the_substitute_for_cgi_reads_a_content_type_and_its_parameters():
    assert compat._parse_header("text/soap") == ("text/soap", {})
    assert compat._parse_header('text/xml; charset="utf-8"; action=x') == (
        "text/xml",
        {"charset": "utf-8", "action": "x"},
    )


def test_moved_modules_are_the_standard_library_s_own_and_remain_so():
    from spyne.util.six.moves import collections_abc
    from spyne.util.six.moves.http_cookies import SimpleCookie
    from spyne.util.six.moves.urllib.parse import unquote

    assert collections_abc is collections.abc
    assert SimpleCookie is http.cookies.SimpleCookie
    assert unquote("%41") == "A"
    assert http.cookies.__spec__.name == "http.cookies"
    program = """
import collections.abc
before = collections.abc.__spec__
import receiptd.soap.compat, spyne.util.six.moves.collections_abc
print(collections.abc.__spec__ is before)
"""
    assert python(program) == "True\n"


class Echo(Service):
    @rpc(Unicode, _returns=Unicode)
    def say(ctx, words):  # noqa: N805 - Spyne passes the context first
        return words


class Transport(ServerBase):
    transport = "http://schemas.xmlsoap.org/soap/http"


@pytest.fixture
def server():
    return Transport(Application([Echo], "urn:echo", in_protocol=Soap11(), out_protocol=Soap11()))


def call(server, words):
    context = MethodContext(server, MethodContext.SERVER)
    context.in_string = [
        b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>'
        b'<say xmlns="urn:echo"><words>' + words + b"</words></say></e:Body></e:Envelope>"
    ]
    (context,) = server.generate_contexts(context)
    server.get_in_object(context)
    server.get_out_object(context)
    server.get_out_string(context)
    reply = b"".join(context.out_string)
    context.close()
    return reply


def test_a_service_answers(server):
    assert b">four words for you</" in call(server, b"four words for you")


def test_closing_a_context_does_not_collect_garbage(server, monkeypatch):
    collections = []
    monkeypatch.setattr(gc, "collect", lambda *_: collections.append(1))
    monkeypatch.setattr("spyne.context._LAST_GC_RUN", 0)
    call(server, b"tidy")
    assert collections == []


SIX_OF_A_NEWER_SPYNE = """
import sys

class _SixMetaPathImporter:
    def find_spec(self, name, path=None, target=None):
        return None

_importer = _SixMetaPathImporter()
sys.meta_path.append(_importer)
"""


@pytest.mark.parametrize(
    "six",
    [
        pytest.param(SIX_OF_A_NEWER_SPYNE, id="with a mended six"),
        pytest.param("value = 1", id="with a six that finds nothing"),
        pytest.param(None, id="without a six"),
    ],
)
def test_a_newer_spyne_is_left_as_it_is(tmp_path, six):
    modules = {
        "": "",
        "const": "",
        "protocol": "",
        "protocol/soap": "",
        "protocol/soap/soap11": "",
        "util": "" if six is None else "from spyne.util import six",
    }
    for name, source in modules.items():
        folder = tmp_path / "spyne" / name
        folder.mkdir()
        (folder / "__init__.py").write_text(source)
    if six is not None:
        (tmp_path / "spyne/util/six.py").write_text(six)
    program = """
import receiptd.soap.compat, spyne.const, sys
print("_Moves" in [type(finder).__name__ for finder in sys.meta_path])
"""
    assert python(program, first=tmp_path) == "False\n"
