"""What the console's pages say and do, and that everything from outside is bounded."""

from __future__ import annotations

import csv
import io
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib.resources import files
from urllib.parse import quote

import pytest

from kit.api import deliver, register
from kit.command_line import run
from kit.console import FORM, Visitor, logged_in
from kit.receiver import SECRET, receiver
from kit.server import Server, wait_until
from kit.soap import new_id
from kit.wire import get, post
from receiptd.web.console.csv_file import cell
from receiptd.web.console.views import shown, span, time_element

LISTS = ("messages", "receipts", "failures", "mismatches", "rejected", "forwarding", "providers")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with all providers."""
    server = Server(tmp_path_factory.mktemp("console"), "", "tcp:0:interface=127.0.0.1", [])
    yield server
    server.kill()


@pytest.fixture(scope="module")
def visitor(server):
    """Somebody who may do everything."""
    return logged_in(server)


# --- Every page


@pytest.mark.parametrize("page", ["", *LISTS, "login", "nowhere", "receipts/999"])
def test_a_page_runs_nothing_and_is_kept_nowhere(visitor, page):
    headers = visitor.ask(f"/console/{page}").headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_files_have_urls_of_their_content_and_may_be_kept_for_ever(server, visitor):

    urls = set(
        re.findall(r'(?:href|src)="(/console/static/[^"]+)"', visitor.ask("/console/").text)
    )
    assert len(urls) == 5
    for url in urls:
        seen = Visitor(server).ask(url)
        assert seen.status == 200
        assert sha256(seen.body).hexdigest().startswith(url.split(".")[-2])
        assert seen.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert Visitor(server).ask(url.replace(".", ".0", 1)).status == 303


def test_what_is_not_ours_is_as_it_came():
    folder = files("receiptd.web.console").joinpath("static")
    said = folder.joinpath("VENDORED.md").read_text()
    for name in ("uplot.js", "uplot.css"):
        assert sha256(folder.joinpath(name).read_bytes()).hexdigest() in said
    assert "MIT" in folder.joinpath("uplot.LICENSE").read_text()


@pytest.mark.parametrize("page", LISTS)
def test_every_table_is_there_as_a_file(visitor, page):
    seen = visitor.ask(f"/console/{page}")
    assert f"/console/{page}?" in seen.text
    file = visitor.ask(f"/console/{page}?format=csv")
    assert file.status == 200
    assert file.headers["content-type"].startswith("text/csv")
    assert file.headers["content-disposition"].startswith("attachment; filename=")
    assert len(next(csv.reader(io.StringIO(file.text)))) >= 5


def test_the_tables_of_the_overview_are_there_as_files(server, visitor):
    rows = list(csv.DictReader(io.StringIO(visitor.ask("/console/?format=csv&table=hours").text)))
    assert len(rows) == 25
    table = visitor.ask("/console/?format=csv&table=endpoints").text
    assert {row["endpoint"] for row in csv.DictReader(io.StringIO(table))} >= {"soap", "seeme"}


@pytest.mark.parametrize(
    "path",
    [
        *("messages?provider=nobody", "messages?since=yesterday", "receipts?state=LOST"),
        *("receipts?cursor=%00", "receipts?cursor=zzzzzzzzzzzzz", "receipts?unknown=1"),
        *(
            "receipts?q=%ff",
            "receipts?q=" + "9" * 300,
            "receipts?recipient=x",
            "messages?final=no",
        ),
        *("receipts?" + "&".join(["state=DELIVERED"] * 99), "receipts?" + "x=1&" * 200),
        *("receipts/%00", "receipts/x", "receipts/" + "9" * 25, "rejected/-1", "receipts/1/2"),
        *("messages/csoft/" + "x" * 1500, "messages/%00/%00", "messages/a/%ff", "a/b/c/d/e"),
        *("forwarding/%00", "forwarding/nobody?after=x", "failures?window=1y", "%2e%2e/api"),
        *("messages?q=%ed%a0%80", "?notice=" + "x" * 3000, "x" * 5000, "rejected?reason=none"),
        *("mismatches?verdict=accepted&verdict=x", "receipts?code=%00", "?table=none&format=csv"),
    ],
)
def test_nonsense_is_answered_and_never_a_fault_of_ours(server, visitor, path):
    log = len(server.log)
    seen = visitor.ask(f"/console/{path}")
    assert seen.status in (200, 400, 404, 414, 422), seen.words
    assert "Traceback" not in server.log[log:]


def test_a_filter_that_cannot_be_read_says_what_is_wrong(visitor):
    seen = visitor.ask("/console/receipts?state=DELIVRED")
    assert "did you mean 'DELIVERED'?" in seen.words


def test_pages_of_a_list_follow_one_another_without_gaps(server, visitor):
    for _ in range(3):
        done = run("simulate", "seeme", "--url", f"{server.url}/seeme", "--count", "45")
        assert done.exit_code == 0
    numbers = []
    path = "/console/receipts?provider=seeme"
    while path:
        text = visitor.ask(path).text
        rows = text.split('<th scope="row"><a href="/console/receipts/')[1:]
        numbers += [int(row.partition('"')[0]) for row in rows]
        assert len(rows) <= 50
        path = text.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    stored = [row["id"] for row in server.receipts() if row["provider"] == "seeme"]
    assert numbers == sorted(stored, reverse=True)


# --- One page after another


def test_a_message_is_found_however_its_number_is_written(server, visitor):
    name = new_id()
    register(
        server,
        {
            **{"provider": "csoft", "message_id": name, "recipient": "+447700900777"},
            **{"reference": f"order {name}"},
        },
    )
    for words in ("0044 7700 900777", "+44 (0)7700-900777", name.lower(), f"order {name}"):
        assert name in visitor.ask(f"/console/messages?q={quote(words)}").words, words
    assert "No registered message has this" in visitor.ask("/console/messages?q=NOSUCH").words


def test_the_timeline_tells_what_happened_in_order(server, visitor):
    name = new_id()
    register(server, {"provider": "csoft", "message_id": name, "recipient": "447700900123"})
    for report in (-4, 0, 0, 28):
        deliver(server, name, report, "447700900123")
    words = visitor.ask(f"/console/messages/csoft/{name}").words
    order = [
        *("Registered for 447700900123", "ENROUTE code -4", "DELIVERED code 0"),
        *("came 1 more time", "The message is now DELIVERED", "UNDELIVERABLE code 28"),
        "came after the final state",
    ]
    places = [words.index(each) for each in order]
    assert places == sorted(places)


def test_registering_a_message_explains_its_receipts(server, visitor):
    register(server, {"provider": "csoft", "message_id": new_id(), "recipient": "447700900123"})
    name = new_id()
    deliver(server, name, 0, "447700900555")
    assert name in visitor.ask("/console/mismatches").words
    fields = {"provider": "csoft", "message_id": name, "recipient": "447700900555"}
    seen = visitor.do("/console/mismatches", "/console/messages", **fields)
    assert f"the message '{name}' is registered" in seen.words
    assert "DELIVERED" in seen.words
    assert name not in visitor.ask("/console/mismatches").words


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"provider": "csoft"}, "message_id"),
        ({"message_id": "x"}, "provider"),
        ({"provider": "nobody", "message_id": "x"}, "no endpoint is configured"),
        ({"provider": "csoft", "message_id": "x", "recipient": "no number"}, "recipient"),
        ({"provider": "csoft", "message_id": "x" * 300}, "300"),
    ],
)
def test_a_message_that_cannot_be_registered_is_refused_in_words(visitor, fields, words):
    csrf = visitor.ask("/console/").csrf
    answer = visitor.post("/console/messages", csrf=csrf, **fields)
    assert answer.status == 422
    assert words in answer.words


def test_a_rejected_post_is_tried_again_and_deleted(serve):
    config = '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\npin = "RIGHT"\n'
    server = serve(config)
    visitor = logged_in(server)
    for name in ("A1", "A2"):
        body = f"MessageIdentifier={name}&Report=0&SendTo=447700900123&PIN=WRONG"
        post(server.port, body.encode(), content_type=FORM)
    assert visitor.ask("/console/rejected").words.count("unauthorized") >= 2
    seen = visitor.do("/console/rejected/1", "/console/rejected/1/retry")
    assert "it is stored as a receipt" in seen.words
    assert [row["message_id"] for row in server.receipts()] == ["A1"]
    assert [row["id"] for row in server.rejected()] == [2]
    seen = visitor.do("/console/rejected/2", "/console/rejected/2/delete")
    assert "is deleted" in seen.words
    assert server.rejected() == []
    csrf = visitor.ask("/console/").csrf
    assert visitor.post("/console/rejected/2/retry", csrf=csrf).status == 404


SECRETS = f"""
[[endpoint]]
provider = "csoft"
path = "/soap"
username = "ANOther.61234"
pin = "BLUE.music"

[[endpoint]]
provider = "seeme"
path = "/seeme"
token = "token-of-seeme"

[[endpoint]]
provider = "easysms"
path = "/easysms"
basic = {{ username = "dlr@x", password = "pass:word/?" }}

[[endpoint]]
provider = "twilio"
path = "/twilio"
auth_token = "0123456789abcdef0123456789abcdef"
public_url = "https://dlr.example.com"

[[endpoint]]
provider = "infobip"
path = "/infobip"
networks = "192.0.2.0/24"

[[forward]]
name = "gone"
url = "http://127.0.0.1:9/x"
secret = "{SECRET}"
"""


def test_a_test_receipt_proves_what_the_endpoint_asks_for(serve):
    server = serve(SECRETS)
    visitor = logged_in(server)
    for name in ("soap", "seeme", "easysms", "twilio"):
        seen = visitor.do("/console/providers", f"/console/providers/{name}")
        assert f"{name} was posted a test receipt for" in seen.words, name
        assert 'answered "received"' in seen.words, seen.words
    assert {row["endpoint"] for row in server.receipts()} == {"soap", "seeme", "easysms", "twilio"}
    seen = visitor.do("/console/providers", "/console/providers/infobip")
    assert "in none of the endpoint's networks" in seen.words, seen.words
    page = visitor.ask("/console/providers")
    assert "https://dlr.example.com/twilio" in page.words
    assert "username and PIN" in page.words
    for path in ("", "providers", "forwarding", "forwarding/gone", "receipts", "receipts/2"):
        text = visitor.ask(f"/console/{path}").text
        for secret in ("BLUE.music", "token-of-seeme", "pass:word", "0123456789abcdef", SECRET):
            assert secret not in text, (path, secret)


def test_an_endpoint_with_a_slash_in_its_name_is_tried_too(server, visitor):
    page = visitor.ask("/console/providers")
    (action,) = re.findall('action="(/console/providers/cdyne[^"]+)"', page.text)
    for path in (action, action.replace("%2F", "/")):
        assert "cdyne/phone was posted a test receipt" in visitor.do("/console/", path).words


def test_orders_for_a_destination_that_make_no_sense_are_refused(serve):
    with receiver() as app:
        server = serve(f'[[forward]]\nname = "app"\nurl = "{app.url}"\nsecret = "{SECRET}"\n')
        visitor = logged_in(server)
        csrf = visitor.ask("/console/").csrf
        for status, name, fields in (
            (422, "app", {}),
            (422, "app", {"do": "explode"}),
            (422, "app", {"do": "replay", "since": "soon"}),
            (404, "app", {"do": "cancel", "replay": "7"}),
            (404, "nobody", {"do": "pause"}),
            (404, "nobody", {"do": "test"}),
        ):
            answer = visitor.post(f"/console/forwarding/{name}", csrf=csrf, **fields)
            assert answer.status == status, (fields, answer.words)
        assert (
            "app is paused" in visitor.do("/console/", "/console/forwarding/app", do="pause").words
        )
        assert "paused in the console, by the token api-token" in visitor.ask("/console/").words


def test_the_failures_say_the_vendors_words_and_lead_to_the_receipts(serve):
    server = serve()
    visitor = logged_in(server)
    for _ in range(3):
        deliver(server, new_id(), 27, "447700900123")
    deliver(server, new_id(), 28, "447700900123")
    words = visitor.ask("/console/failures").words
    assert words.index("Expired by SMSC") < words.index("Abandoned by SMSC")
    assert "75.0 %" in words
    rows = list(
        csv.DictReader(io.StringIO(visitor.ask("/console/failures?format=csv&window=1h").text))
    )
    assert [(row["code"], row["receipts"]) for row in rows] == [("27", "3"), ("28", "1")]
    link = visitor.ask("/console/failures").text.partition('"row"><a href="')[2].partition('"')[0]
    assert visitor.ask(link.replace("&amp;", "&")).text.count("Expired by SMSC") == 3


def test_the_overview_tells_of_trouble_and_what_to_do(serve):
    server = serve(SECRETS)
    visitor = logged_in(server)
    words = visitor.ask("/console/").words
    assert "Nothing has come yet" in words
    assert f"receiptd simulate csoft --url {server.url}/soap" in words
    assert "every receipt is stored as it comes" in words
    post(
        server.port,
        b"MessageIdentifier=A1&Report=0&SendTo=447700900123&Username=ANOther.61234&PIN=BLUE.music",
        content_type=FORM,
    )
    wait_until(lambda: "see to the application" in visitor.ask("/console/").words, "it says so")
    assert "Nothing has come yet" not in visitor.ask("/console/").words


def test_the_overview_is_there_while_the_database_is_not(
    serve, own_postgresql, new_postgresql_database
):
    server = serve(options=("--database", new_postgresql_database()))
    visitor = logged_in(server)
    assert "answers (postgresql)" in visitor.ask("/console/").words
    own_postgresql.stop()
    seen = visitor.ask("/console/")
    assert seen.status == 200
    assert "the database does not answer" in seen.words
    assert visitor.ask("/console/receipts").status == 503
    deliver(server, new_id(), 0)
    wait_until(lambda: "1 posts wait" in visitor.ask("/console/").words, "the spool is told of")
    own_postgresql.start()
    wait_until(lambda: "24 hours" in visitor.ask("/console/").words, "it is there again")


def test_today_is_compared_by_whole_hours(serve):
    server = serve()
    this_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    with closing(sqlite3.connect(server.database, timeout=20)) as connection, connection:
        for hours, number in ((1, 30), (24, 999), (25, 20), (7 * 24 + 1, 60)):
            hour = f"{this_hour - timedelta(hours=hours):%Y-%m-%dT%H:00:00.000000Z}"
            row = (hour, "soap", "csoft", "delivery", "", "DELIVERED", "0", "accepted", number)
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO statistics_receipts VALUES ({marks})", row)
    words = logged_in(server).ask("/console/").words
    # The hour 24 hours ago is the first of today's, and the one of yesterday that is not over.
    assert "in whole hours +5045 % against yesterday, +1615 % against a week ago" in words


# --- The page at /


def test_a_browser_at_the_root_is_told_what_this_is_and_nothing_else(serve):
    server = serve()
    browser = {"Accept": "text/html,application/xhtml+xml"}
    seen = Visitor(server).ask("/", headers=browser)
    assert seen.status == 200
    assert "Nothing has come yet" in seen.words
    assert f"--url {server.url}/" in seen.words
    assert "receiptd console" in seen.words
    deliver(server, new_id(), 0)
    later = Visitor(server).ask("/", headers=browser)
    assert "Nothing has come yet" not in later.words
    assert "simulate" not in later.words


def test_the_root_is_for_anybody_else_what_it_was(server):
    for answer in (
        get(server.port, "/"),
        Visitor(server).ask("/", "HEAD"),
        get(server.port, "/?MessageSid=1", ("Accept: text/html",)),
        post(server.port, b"x=1", path="/", content_type=FORM),
    ):
        assert answer.status == 404


def test_the_root_names_no_path_that_somebody_has_chosen(serve):
    server = serve('[[endpoint]]\nprovider = "csoft"\npath = "/hidden-7f3a"\n')
    seen = Visitor(server).ask("/", headers={"Accept": "text/html"})
    assert "Nothing has come yet" in seen.words
    assert "hidden" not in seen.text


def test_a_console_that_is_switched_off_is_not_there(serve):
    server = serve("[console]\nenabled = false\n")
    for path in (
        "/",
        "/console",
        "/console/",
        "/console/login",
        "/console/receipts",
        "/console/a/b/c",
    ):
        answer = get(server.port, path, ("Accept: text/html",))
        assert answer.status == 404, path
        assert "nothing is served at this path" in answer.text
    assert "the console is at" not in server.log


# --- Words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *(("=1+1", "'=1+1"), ("@x", "'@x"), ("+1|cmd", "'+1|cmd"), ("-1+1|x", "'-1+1|x")),
        *(("+44 (0)7700", "+44 (0)7700"), ("-4", "-4"), ("\tx", "'\tx"), (None, ""), (7, "7")),
        *((" =1", "' =1"), ("\n=1", "'\n=1"), ("\uff1d1", "'\uff1d1")),
    ],
)
def test_a_cell_is_no_formula(value, text):
    assert cell(value) == text


def test_what_cannot_be_seen_is_shown():
    assert shown("a\u202eb") == "a\\u202eb"
    assert shown("a\0b\x1b[1m") == "a\\x00b\\x1b[1m"
    assert shown("ab\nc") == "ab\nc"
    assert shown(None) == "-"
    assert len(shown("x" * 100_000)) < 21_000


def test_times_are_said_in_words():
    assert [span(timedelta(seconds=n)) for n in (0, 59, 61, 3600, 5400, 90000, 864000)] == [
        *("0 s", "59 s", "1 min", "1 h", "1 h 30 min", "1 d 1 h", "10 d")
    ]
    made = time_element("2026-01-31T18:00:00.5+01:00")
    assert made == '<time datetime="2026-01-31T17:00:00.500000Z">2026-01-31 17:00:00 UTC</time>'
