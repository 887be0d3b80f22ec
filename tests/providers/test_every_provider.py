"""What is tested of each provider alike: one table for all, of the rows in the vendors' own files.

A vendor's file (test_csoft.py and the others) has its rows, and the tests of what it alone has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from kit.exchange import (
    Case,
    Nonsense,
    Request,
    Unread,
    bound,
    exchanged,
    form,
    get,
    kept,
    read,
    refuses,
)
from providers import test_cdyne as cdyne
from providers import test_csoft as csoft
from providers import test_easysms as easysms
from providers import test_seeme as seeme
from receiptd.providers import Provider
from receiptd.providers.cdyne import CODES as CDYNE_CODES
from receiptd.providers.cdyne import Cdyne, CdynePhone
from receiptd.providers.csoft import CODES as CSOFT_CODES
from receiptd.providers.csoft import Csoft
from receiptd.providers.seeme import CODES as SEEME_CODES
from receiptd.providers.seeme import SeeMe
from receiptd.receipt import State


def table(rows: Iterable[tuple[Any, ...]]) -> Any:
    """A parametrization: each row begins with the provider and what is sent to it."""
    made = []
    for provider, row, *rest in rows:
        label = getattr(row, "label", None) or str(row)
        made.append(pytest.param(provider, row, *rest, id=f"{provider.name}: {label}"))
    return made


def of_each(*vendors: tuple[Provider, Iterable[Any]]) -> list[tuple[Provider, Any]]:
    return [(provider, row) for provider, rows in vendors for row in rows]


def of_templates(rows: Iterable[tuple[str, Any]]) -> list[tuple[Provider, Any]]:
    """EasySMS's rows name the template as well."""
    return [(easysms.of(query), row) for query, row in rows]


@pytest.mark.parametrize(
    ("provider", "case"),
    table(
        of_each(
            (bound(Csoft), csoft.CASES),
            (bound(Cdyne), cdyne.CASES),
            (bound(CdynePhone), cdyne.CALLS),
            (bound(SeeMe), seeme.CASES),
        )
        + of_templates(easysms.CASES)
    ),
)
def test_a_post_is_read_and_answered(provider: Provider, case: Case) -> None:
    assert exchanged(provider, case.request) == (case.receipt, case.reply)


@pytest.mark.parametrize(
    ("provider", "row"),
    table(
        of_each(
            (bound(Cdyne), cdyne.NONSENSE),
            (bound(CdynePhone), cdyne.NO_CALLS),
            (bound(SeeMe), seeme.NONSENSE),
        )
        + of_templates(easysms.NONSENSE)
    ),
)
def test_nonsense_is_refused_by_name(provider: Provider, row: Nonsense) -> None:
    refuses(provider, row)


def _of_cdyne(row: Unread) -> dict[str, Any]:
    text = "STOP" if row.label == "no time of a reply" else None
    return {"reported_at": None, "text": text}


def _of_a_call(row: Unread) -> dict[str, Any]:
    return {"state": "ENROUTE" if row.field != "EndTime" else "UNDELIVERABLE"}


_OF_SEEME = {
    "message_id": "s",
    **dict.fromkeys(("price", "parts", "reported_at", "recipient")),
}


@pytest.mark.parametrize(
    ("provider", "row", "fields"),
    table(
        [
            *((bound(Csoft), row, {"message_id": "4A"}) for row in csoft.UNREAD),
            *((bound(Cdyne), row, _of_cdyne(row)) for row in cdyne.UNREAD),
            *((bound(CdynePhone), row, _of_a_call(row)) for row in cdyne.UNREAD_CALLS),
            *((bound(SeeMe), row, _OF_SEEME) for row in seeme.UNREAD),
            *(
                (provider, row, {"message_id": "1"})
                for provider, row in of_templates(easysms.UNREAD)
            ),
        ]
    ),
)
def test_what_cannot_be_read_is_kept(
    provider: Provider, row: Unread, fields: dict[str, Any]
) -> None:
    receipt = kept(provider, row)
    assert {name: getattr(receipt, name) for name in fields} == fields


def a_report(code: str) -> Request:
    return form(f"MessageIdentifier=4A&Report={code}")


def a_status(code: str) -> Request:
    return get(f"reference=sms43&code={code}")


@pytest.mark.parametrize(
    ("provider", "code", "send", "state"),
    table(
        [
            *((bound(Csoft), code, a_report, csoft.STATES[code]) for code in CSOFT_CODES),
            # Where the text says nothing: it decides otherwise.
            *(
                (
                    bound(Cdyne),
                    code,
                    lambda code: cdyne.delivery(
                        f"DeliveryReceiptMessage=text:DELIVRD&Code={code}"
                    ),
                    cdyne.STATES[code],
                )
                for code in CDYNE_CODES
            ),
            *((bound(SeeMe), code, a_status, seeme.STATES[code]) for code in SEEME_CODES),
        ]
    ),
)
def test_each_code_has_its_state(
    provider: Provider, code: str, send: Callable[[str], Request], state: str
) -> None:
    receipt = read(provider, send(code))
    assert (receipt.state, receipt.code) == (state, code)
    if provider.name == "seeme":
        assert receipt.description == SEEME_CODES[code].text, "the vendor's words"


def test_the_tables_of_codes_are_those_of_the_vendors() -> None:
    assert csoft.STATES.keys() == CSOFT_CODES.keys()
    assert cdyne.STATES.keys() == CDYNE_CODES.keys()
    assert seeme.STATES.keys() == SEEME_CODES.keys()


def _expired(code: str) -> Request:
    return cdyne.delivery(f"DeliveryReceiptMessage=stat:EXPIRED&Code={code:0>3}")


CONFIGURED: list[tuple[type[Provider], dict[str, State], Request, State]] = [
    (Csoft, {"99": State.EXPIRED}, a_report("99"), State.EXPIRED),
    (Csoft, {"11": State.REJECTED}, a_report("11"), State.REJECTED),
    # Over the table, and over the text.
    *((Cdyne, {key: State.DELETED}, _expired(key), State.DELETED) for key in ("777", "005", "5")),
    # A code of a delivery is not taken for the marker of a sent post.
    (Cdyne, {"0": State.DELETED}, form(f"SMSSent=0&MessageID={cdyne.GUID}"), State.ENROUTE),
    (CdynePhone, {"7": State.REJECTED}, cdyne.call({"ResponseCode": "7"}), State.REJECTED),
    (SeeMe, {"10": State.EXPIRED}, a_status("10"), State.EXPIRED),
    (SeeMe, {"77": State.DELETED}, a_status("77"), State.DELETED),
]


@pytest.mark.parametrize(
    ("kind", "codes", "request_", "state"),
    CONFIGURED,
    ids=[f"{row[0].name}: {', '.join(row[1])}" for row in CONFIGURED],
)
def test_a_configured_code_wins(
    kind: type[Provider], codes: dict[str, State], request_: Request, state: State
) -> None:
    # Whatever else is configured.
    others = {"98": State.UNKNOWN}
    assert read(bound(kind, codes=others | codes), request_).state is state


@pytest.mark.parametrize(
    ("provider", "request_", "raw"),
    [
        (
            bound(Csoft),
            form("MessageIdentifier=4A&Report=0&Username=u&PIN=BLUE.music", "pin=BLUE.music"),
            b"?pin=***\nMessageIdentifier=4A&Report=0&Username=u&PIN=***",
        ),
        (
            bound(SeeMe),
            get("reference=sms43&token=secret&code=6&message=K%E9sz"),
            b"?reference=sms43&token=***&code=6&message=K%E9sz",
        ),
        (
            easysms.of("id=%i&d=%d&token=secret"),
            get("id=7584&TOKEN=secret&d=1"),
            b"?id=7584&TOKEN=***&d=1",
        ),
    ],
    ids=["csoft: PIN", "seeme: token", "easysms: token"],
)
def test_what_is_stored_is_the_post_as_it_came_without_its_secret(
    provider: Provider, request_: Request, raw: bytes
) -> None:
    receipt = read(provider, request_)
    assert receipt.raw == raw
    assert receipt.extra == {}
