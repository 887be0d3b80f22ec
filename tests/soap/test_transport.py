"""Every SOAP post runs through the Spyne Application and its service method."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from kit.soap import envelope
from receiptd.config import Endpoint
from receiptd.receipt import ACCEPTED, Receipt
from receiptd.soap.service import CSoftSmsService, SmsApplication, SoapPost, application
from receiptd.soap.transport import Response, SoapTransport
from receiptd.web.receiving.intake import Intake, Origin


class Pipeline:
    """Stands where the store would be, and answers when the test says so."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.answer: Deferred[Any] = succeed([ACCEPTED])

    def accept(self, receipts: list[Receipt]) -> Deferred[Any]:
        self.receipts += receipts
        return self.answer


class Bench:
    """An application, its transport, and what they pass on."""

    def __init__(self) -> None:
        self.application: SmsApplication = application()
        self.transport = SoapTransport(self.application)
        self.pipeline = Pipeline()
        endpoint = Endpoint(provider="csoft", path="/soap")
        self._intake = Intake(endpoint, endpoint.bind(), self.pipeline)  # type: ignore[arg-type]

    def submit(self, body: bytes) -> list[Response]:
        """The response as soon as there is one."""
        post = SoapPost(self._intake, Origin("192.0.2.1", "text/xml"), None, 0.0)
        responses: list[Response] = []
        self.transport.submit(body, None, post).addCallback(responses.append)
        return responses


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_spynes_events_are_fired_for_each_post(bench):
    seen: list[str] = []
    events = (
        "method_call",
        "method_return_object",
        "method_return_document",
        "method_return_string",
    )
    for name in events:
        bench.application.event_manager.add_listener(
            name, lambda ctx, name=name: seen.append(f"{name} {ctx.descriptor.name}")
        )
    (response,) = bench.submit(envelope("M1"))
    assert response.fault is None
    assert seen == [f"{name} SubmitDeliveryReceipt" for name in events]


def test_the_service_method_is_what_is_called(bench, monkeypatch):
    descriptor = bench.application.operations["SubmitDeliveryReceipt"]
    original, calls = descriptor.function, []

    def spy(ctx, *arguments):
        calls.append(arguments)
        return original(ctx, *arguments)

    monkeypatch.setattr(descriptor, "function", spy)
    assert bench.submit(envelope("M1"))
    assert calls == [
        ("ANOther.61234", "BLUE.music", "2009-06-09T10:52:00Z", "447700912345", "M1", "0")
    ]
    assert [each.message_id for each in bench.pipeline.receipts] == ["M1"]


def test_the_service_listens_too(bench):
    seen: list[Any] = []
    CSoftSmsService.event_manager.add_listener("method_call", seen.append)
    try:
        bench.submit(envelope("M1"))
    finally:
        CSoftSmsService.event_manager.del_listener("method_call")
    assert len(seen) == 1


def test_the_answer_waits_for_the_store(bench):
    bench.pipeline.answer = Deferred()
    responses = bench.submit(envelope("M1"))
    assert responses == []
    bench.pipeline.answer.callback([ACCEPTED])
    (response,) = responses
    assert b"<Report>0</Report>" in response.envelope


def test_contexts_share_nothing(bench):
    first, second = Deferred(), Deferred()
    bench.pipeline.answer = first
    one = bench.submit(envelope("M1", namespace="urn:one"))
    bench.pipeline.answer = second
    two = bench.submit(envelope("M2", namespace="urn:two"))
    second.callback([ACCEPTED])
    first.callback([ACCEPTED])
    for (response,), namespace, message_id in ((one, "urn:one", "M1"), (two, "urn:two", "M2")):
        assert f'xmlns:ns1="{namespace}"'.encode() in response.envelope
        assert f"<MessageIdentifier>{message_id}<".encode() in response.envelope


@pytest.mark.filterwarnings("ignore")
def test_a_mistake_of_ours_is_a_server_fault_without_details(bench):
    bench.pipeline.answer = fail(ZeroDivisionError("secret"))
    (response,) = bench.submit(envelope("M1"))
    assert response.fault is not None
    assert response.fault.faultcode == "Server"
    assert b"secret" not in response.envelope
