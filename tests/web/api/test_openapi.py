"""The OpenAPI document is true: by what the server does, and by what schemathesis finds."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from kit.api import call, deliver
from kit.server import Server, environment
from receiptd.web.api import shapes
from receiptd.web.api.events import EventsApi
from receiptd.web.api.forward import ForwardApi
from receiptd.web.api.handler import Api
from receiptd.web.api.messages import MessagesApi
from receiptd.web.api.rejected import RejectedApi
from receiptd.web.api.routes import OPERATIONS

TOKEN = "a-token"
AUTHORIZATION = {"Authorization": f"Bearer {TOKEN}"}
CONFIG = f'[[api.token]]\nname = "all"\ntoken = "{TOKEN}"\nscopes = ["read", "write"]\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with something of everything in it."""
    started = Server(tmp_path_factory.mktemp("server"), CONFIG, "tcp:0:interface=127.0.0.1", [])
    reply = call(
        started,
        "/api/v1/messages",
        "POST",
        [
            {"provider": "csoft", "message_id": "A1", "recipient": f"44770090000{n}"}
            for n in (1, 2)
        ],
        AUTHORIZATION,
    )
    assert reply.status == 200
    deliver(started, "A1", phone="447700900001")
    deliver(started, "A1", phone="447700900003")
    deliver(started, "A1", report="")
    yield started
    started.kill()


@pytest.fixture(scope="module")
def served(server):
    """The document, as it is served."""
    reply = call(server, "/api/v1/openapi.json", headers=AUTHORIZATION)
    assert reply.headers["content-type"] == "application/json"
    return reply.json


def test_the_document_has_every_operation_and_no_other(served):
    assert served["openapi"] == "3.1.0"
    found = {
        (method.upper(), path, operation["operationId"])
        for path, operations in served["paths"].items()
        for method, operation in operations.items()
    }
    assert found == {(each.method, each.path, each.name) for each in OPERATIONS}
    names = {each.name for each in OPERATIONS}
    handlers = (Api, EventsApi, ForwardApi, MessagesApi, RejectedApi)
    handled = {name.strip("_") for each in handlers for name in vars(each)} & names
    assert len(handled) == len(found)


def path_of(template):
    """An address that the template stands for."""
    return template.format(provider="csoft", message_id="A1", id=1, name="app")


def test_every_operation_is_there_with_just_its_methods(server, served):
    for template, operations in served["paths"].items():
        reply = call(server, path_of(template), "PUT", headers=AUTHORIZATION)
        assert reply.status == 405
        allowed = {method.lower() for method in reply.headers["allow"].split(", ")}
        assert allowed - {"head"} == set(operations)


def test_every_operation_takes_just_its_parameters(server, served):
    for template, operations in served["paths"].items():
        for method, operation in operations.items():
            path = f"{path_of(template)}?zzz=1"
            reply = call(
                server, path, method.upper(), {} if method == "post" else None, AUTHORIZATION
            )
            errors = reply.problem["errors"]
            (error,) = (each for each in errors if each["parameter"] == "zzz")
            known = re.search(r"expected one of (.*)", error["detail"])
            documented = [
                each["name"] for each in operation["parameters"] if each["in"] == "query"
            ]
            assert (known[1].split(", ") if known else []) == documented


def test_what_is_answered_has_the_shapes_of_the_document(server):
    def get(path):
        return call(server, f"/api/v1/{path}", headers=AUTHORIZATION).json

    shapes.Receipts.model_validate(get("receipts"))
    shapes.Receipt.model_validate(get("receipts/1"))
    shapes.Messages.model_validate(get("messages"))
    shapes.RejectedPosts.model_validate(get("rejected"))
    found = get("messages/csoft/A1")
    assert len(found["recipients"]) == len(found["receipts"]) == 2
    shapes.MessageWithReceipts.model_validate(found)
    for shape in (shapes.Receipt, shapes.Message, shapes.RejectedPost):
        assert all(field.is_required() for field in shape.model_fields.values())


def test_every_operation_has_a_tag_and_an_example_that_is_one(server, served):
    """Each example is what its schema says."""
    tags = {each["name"] for each in served["tags"]}
    for operations in served["paths"].values():
        for operation in operations.values():
            assert set(operation["tags"]) <= tags
    for each in OPERATIONS:
        if each.answer is not None:
            answer = served["paths"][each.path][each.method.lower()]["responses"]["200"]
            each.answer.model_validate(answer["content"]["application/json"]["example"])
    body = served["paths"]["/api/v1/messages"]["post"]["requestBody"]
    for example in body["content"]["application/json"]["examples"].values():
        reply = call(server, "/api/v1/messages", "POST", example["value"], AUTHORIZATION)
        assert reply.status == 200


def test_security_is_said_as_it_is(served):
    for operations in served["paths"].values():
        for method, operation in operations.items():
            scope = "read" if method == "get" else "write"
            assert operation["security"] == [{"token": [scope]}]


def test_schemathesis_finds_no_answer_that_the_document_does_not_promise(server, long):
    # The stream never ends. That a response may be used for another request is guessed by
    # names alone (stateful phase), which takes one identifier for another here.
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/api/v1/openapi.json"),
        *("--header", f"Authorization: Bearer {TOKEN}"),
        *("--exclude-path", "/api/v1/receipts/stream"),
        *("--phases", "examples,coverage,fuzzing", "--checks", "all"),
        *("--max-examples", "100" if long else "10", "--generation-deterministic"),
        *("--request-timeout", "20"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=250, env=environment(), cwd=server.folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    total = len(OPERATIONS) - 1  # the document itself is not counted
    assert f"{total - 1} selected / {total} total" in done.stdout
    assert server.process.poll() is None
    assert "something went wrong" not in server.log
