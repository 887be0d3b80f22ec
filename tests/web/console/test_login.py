"""Who gets into the console, for how long, and what a page of another site can do: nothing."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.client import HTTPConnection
from time import time
from urllib.parse import quote

import pytest
from itsdangerous import TimestampSigner
from pydantic import SecretStr
from twisted.internet.defer import succeed
from twisted.internet.task import Clock

from kit.command_line import run
from kit.console import FORM, Visitor, link, logged_in
from kit.server import Server, wait_until
from receiptd.config import ApiToken
from receiptd.web import login_code
from receiptd.web.console.attempts import MOST, MOST_ADDRESSES, MOST_IN_ALL, Attempts
from receiptd.web.console.live import LONGEST, MOST_TOLD, POLL, Live
from receiptd.web.console.sessions import Session, Sessions

WRITER = "the-token-of-somebody-who-may-do-everything"
READER = "the-token-of-somebody-who-may-only-read"
BLIND = "the-token-of-a-program-that-only-registers"

TOKENS = f"""
[server]
trusted_proxies = ["127.0.0.1/32"]

[[api.token]]
name = "writer"
token = "{WRITER}"
scopes = ["read", "write"]

[[api.token]]
name = "reader"
token = "{READER}"

[[api.token]]
name = "blind"
token = "{BLIND}"
scopes = ["write"]

[[endpoint]]
provider = "csoft"
path = "/soap"
"""

PAGES = (
    *("", "messages", "messages/csoft/A1", "receipts", "receipts/1", "failures", "mismatches"),
    *("rejected", "rejected/1", "forwarding", "forwarding/x", "providers", "nothing/of/the/sort"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with three tokens, behind a proxy that is trusted."""
    server = Server(tmp_path_factory.mktemp("console"), TOKENS, "tcp:0:interface=127.0.0.1", [])
    yield server
    server.kill()


@pytest.fixture
def somebody(server):
    """Visitors from an address of their own each."""
    numbers = iter(range(1, 200))
    first = int(time() * 1000) % 200 + 10

    def make(cookie="", **headers):
        return Visitor(server, cookie, X_Forwarded_For=f"10.{first}.0.{next(numbers)}", **headers)

    return make


def aged(monkeypatch, seconds):
    """From now on what is signed here was signed so many seconds ago."""
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda self: int(time() - seconds))


def writer():
    return ApiToken(name="writer", token=SecretStr(WRITER), scopes=["read", "write"])


# --- Without a login


@pytest.mark.parametrize("page", PAGES)
def test_a_stranger_is_sent_to_the_login_and_told_nothing(somebody, page):
    seen = somebody().ask(f"/console/{page}")
    assert seen.status == 303
    assert seen.headers["location"].startswith("/console/login")
    assert seen.body == b""


def test_a_stranger_cannot_send_any_form(somebody, server):
    for path in ("messages", "forwarding/x", "providers/soap", "rejected/1", "logout", "nothing"):
        answer = somebody().post(f"/console/{path}", csrf="x", do="pause")
        assert answer.status == 403, path
    assert server.receipts() == []


def test_a_token_of_the_api_in_a_header_opens_no_page(somebody):
    stranger = somebody(Authorization=f"Bearer {WRITER}")
    assert stranger.ask("/console/receipts").status == 303


def test_a_session_opens_nothing_but_the_console(server, somebody):
    visitor = somebody().log_in(WRITER)
    assert visitor.ask("/console/").status == 200
    for path in ("/api/v1/receipts", "/api/v1/receipts/stream", "/metrics"):
        assert visitor.ask(path).status == 401, path
    headers = {"Content-Type": "application/json"}
    assert visitor.ask("/api/v1/messages", "POST", b"[]", headers).status == 401


def test_what_looks_local_proves_nothing(pooled):
    server = pooled()
    for headers in ({}, {"Host": "localhost"}, {"X-Forwarded-For": "127.0.0.1"}):
        assert Visitor(server).ask("/console/", headers=headers).status == 303


# --- By a token


def test_a_token_that_may_read_opens_it(somebody):
    visitor = somebody()
    seen = visitor.post("/console/login", token=READER)
    assert seen.status == 200
    assert "/console/" in seen.text
    assert "reads only" in visitor.ask("/console/").words


@pytest.mark.parametrize(
    "token", ["", "wrong", BLIND, WRITER + "x", WRITER[:-1], "é\udce9", "x" * 9000]
)
def test_another_token_does_not(somebody, token):
    visitor = somebody()
    fields = {"token": token.encode("utf-8", "surrogatepass")}
    seen = visitor.post("/console/login", **fields)
    assert seen.status in (400, 403)
    assert not visitor.cookie
    assert visitor.ask("/console/").status == 303


def test_the_cookie_is_for_this_site_alone_and_no_script_sees_it(somebody):
    seen = somebody().post("/console/login", token=WRITER)
    attributes = seen.headers["set-cookie"].split("; ")[1:]
    assert attributes == ["Path=/", "Max-Age=3600", "HttpOnly", "SameSite=Strict"]
    assert WRITER not in seen.headers["set-cookie"]


def test_under_tls_the_cookie_is_for_tls_alone(somebody):
    visitor = somebody(X_Forwarded_Proto="https")
    seen = visitor.post("/console/login", token=WRITER)
    assert seen.headers["set-cookie"].startswith("__Host-receiptd=")
    assert seen.headers["set-cookie"].endswith("; HttpOnly; SameSite=Strict; Secure")
    assert visitor.ask("/console/").status == 200
    plain = somebody("receiptd=" + visitor.cookie.partition("=")[2], X_Forwarded_Proto="https")
    assert plain.ask("/console/").status == 303


def test_the_login_goes_on_to_the_page_that_was_asked_for_and_nowhere_else(somebody):
    location = somebody().ask("/console/messages?q=44+77").headers["location"]
    assert 'name="next" value="messages?q=44+77"' in somebody().ask(location).text
    seen = somebody().post("/console/login", token=WRITER, next="messages?q=44+77")
    assert "url=/console/messages?q=44+77" in seen.text
    for elsewhere in ("https://evil.example", "//evil.example", 'x" onload="x', "\\\\evil"):
        seen = somebody().post("/console/login", token=WRITER, next=elsewhere)
        target = re.search('url=([^"]*)"', seen.text)[1]
        assert target.startswith("/console/")
        assert "onload" not in target


def test_who_guesses_is_slowed_down_and_keeps_nobody_else_out(somebody):
    guesser = somebody()
    for _ in range(MOST):
        assert guesser.post("/console/login", token="guess").status == 403
    refused = guesser.post("/console/login", token=WRITER)
    assert refused.status == 429
    assert 0 < int(refused.headers["retry-after"]) <= 61
    assert "receiptd console" in refused.words
    assert somebody().post("/console/login", token=WRITER).status == 200
    assert guesser.ask(link(guesser.server)).status == 200


def test_attempts_are_forgotten_after_a_minute_and_never_become_many():
    now = [0.0]
    attempts = Attempts(lambda: now[0])
    for _ in range(MOST):
        assert attempts.wait("192.0.2.1") == 0
        attempts.failed("192.0.2.1")
        now[0] += 1
    assert attempts.wait("192.0.2.1") == 51
    assert attempts.wait("192.0.2.2") == 0
    now[0] += 51
    assert attempts.wait("192.0.2.1") == 0
    now[0] += 100
    for number in range(MOST_IN_ALL):
        attempts.failed(f"2001:db8:{number:x}::1")
    assert attempts.wait("192.0.2.9") > 0
    for number in range(2 * MOST_ADDRESSES):
        attempts.failed(f"2001:db8:{number:x}::1")
    assert len(attempts._failed) == MOST_ADDRESSES


# --- By a link


def test_a_link_works_once(server, somebody):
    url = link(server)
    first, second = somebody(), somebody()
    assert first.ask(url).status == 200
    assert first.ask("/console/").status == 200
    seen = second.ask(url)
    assert seen.status == 403
    assert "used already" in seen.words
    assert not second.cookie


def test_a_link_works_once_however_many_open_it_at_all_workers(serve):
    server = serve(options=("--workers", "2"))
    url = link(server)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: Visitor(server).ask(url).status, range(32)))
    assert sorted(answers) == [200] + [403] * 31


def test_a_link_that_was_used_is_used_for_a_server_that_was_restarted_too(serve):
    server = serve()
    url, unused = link(server), link(server)
    visitor = Visitor(server)
    assert visitor.ask(url).status == 200
    left = Visitor(server, visitor.cookie)
    assert visitor.post("/console/logout", csrf=visitor.ask("/console/").csrf).status == 303
    staying = logged_in(server)
    assert server.stop() == 0
    server.start()
    assert Visitor(server).ask(url).status == 403
    assert staying.ask("/console/").status == 200
    assert left.ask("/console/").status == 303
    assert Visitor(server).ask(unused).status == 200


@pytest.mark.parametrize("seconds", [login_code.SECONDS + 1, 86400, -100])
def test_a_link_works_for_a_minute(monkeypatch, somebody, seconds):
    aged(monkeypatch, seconds)
    code = login_code.make(writer())
    assert somebody().ask(f"/console/login/{code}").status == 403


def test_a_code_that_somebody_else_has_made_opens_nothing(somebody, server):
    code = login_code.make(writer())
    other = ApiToken(name="writer", token=SecretStr("x" * 40), scopes=["read", "write"])
    forged = (
        login_code.make(other),
        code[:-9] + ("A" if code[-9] != "A" else "B") + code[-8:],
        code.upper(),
        code.partition(".")[0],
        str(login_code.serializer(writer(), "session").dumps(["x", 1])),
        *("", ".", "..", "a.b.c", "%00", "x" * 3000, "é"),
    )
    for each in forged:
        visitor = somebody()

        assert visitor.ask(f"/console/login/{quote(each, safe='')}").status in (200, 403, 414), (
            each
        )
        assert not visitor.cookie
    assert somebody().ask(f"/console/login/{code}").status == 200


def test_looking_at_a_link_does_not_use_it_up(server, somebody):
    url = link(server)
    assert somebody().ask(url, "HEAD").status == 403
    assert somebody().ask(url, headers={"Sec-Purpose": "prefetch;prerender"}).status == 403
    assert somebody().ask(url).status == 200


def test_a_link_has_the_scopes_of_its_token(server, somebody):
    visitor = somebody()
    assert visitor.ask(link(server, "--token", "reader")).status == 200
    assert "reads only" in visitor.ask("/console/").words


def test_the_command_says_what_keeps_it_from_making_a_link(tmp_path):
    config = tmp_path / "receiptd.toml"

    def made(text, *options):
        config.write_text(text)
        config.chmod(0o600)
        database = f"sqlite:///{tmp_path}/none.db"
        return run("console", "--config", str(config), "--database", database, *options)

    assert "there is no such file yet" in made("").output
    assert "switched off" in made("[console]\nenabled = false\n").output
    short = '[[api.token]]\nname = "a"\ntoken = "short"\n'
    assert "less than 20 characters" in made(short).output
    assert "did you mean 'writer'?" in made(TOKENS, "--token", "writter").output
    assert 'scope "read"' in made(TOKENS, "--token", "blind").output
    listens = '[server]\nlisten = ["tcp:0"]\n' + TOKENS.partition("\n\n")[2]
    assert "--url" in made(listens).output


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("", "http://127.0.0.1:8080"),
        ('listen = ["tcp:8081:interface=192.0.2.1"]', "http://192.0.2.1:8081"),
        ('listen = ["unix:/tmp/x", "tcp:80"]', "http://127.0.0.1:80"),
        (r'listen = ["tcp:8082:interface=\\:\\:1"]', "http://[::1]:8082"),
        ('public_url = "https://dlr.example.com/"', "https://dlr.example.com"),
    ],
)
def test_the_link_begins_as_the_configuration_says(tmp_path, server, url):
    config = tmp_path / "receiptd.toml"
    config.write_text(f"[server]\n{server}\n" + TOKENS.partition("\n\n")[2])
    config.chmod(0o600)
    printed = run("console", "--config", str(config), "--no-browser").stdout
    assert printed.startswith(f"{url}/console/login/"), printed


def test_the_start_says_where_the_console_is(server):
    assert f"the console is at {server.url}/console: receiptd console prints a link" in server.log


# --- Sessions


def test_a_session_ends_when_it_is_not_used(monkeypatch, server, somebody):
    sessions = Sessions([writer()], timedelta(hours=1))

    class Plain:
        scheme = "http"

    for ago, status in ((3500, 200), (3700, 303), (-100, 303)):
        aged(monkeypatch, ago)
        cookie = sessions.cookie(Plain(), Session("x", int(time() - 5000), writer()))
        visitor = somebody(cookie.decode().partition(": ")[2].partition(";")[0])
        assert visitor.ask("/console/").status == status, ago


def test_a_session_ends_after_twelve_hours_however_much_it_is_used(somebody):
    class Plain:
        scheme = "http"

    sessions = Sessions([writer()], timedelta(hours=1))
    for hours, status in ((11.9, 200), (12.1, 303)):
        session = Session("x", int(time() - 3600 * hours), writer())
        cookie = sessions.cookie(Plain(), session).decode().partition(": ")[2].partition(";")[0]
        assert somebody(cookie).ask("/console/").status == status


def test_using_it_makes_a_session_last_on_and_watching_does_not(somebody):
    visitor = somebody().log_in(WRITER)
    assert "set-cookie" in visitor.ask("/console/").headers
    watched = visitor.ask("/console/", headers={"X-Receiptd-Live": "1"})
    assert watched.status == 200
    assert "set-cookie" not in watched.headers


def test_a_cookie_that_was_changed_is_nobodys(somebody):
    name, _, value = somebody().log_in(WRITER).cookie.partition("=")
    data, at, signature = value.split(".")
    other = ("A" if signature[0] != "A" else "B") + signature[1:]
    for changed in (
        *(f"{data}x.{at}.{signature}", f"{data}.{at}.{other}", f"{data}.{at}"),
        *("", "x" * 5000, f"{value}.{value}", value + "%00", "..", value.lower()),
    ):
        assert somebody(f"{name}={changed}").ask("/console/").status == 303, changed


def test_logging_out_ends_the_session_wherever_its_cookie_is(somebody):
    visitor = somebody().log_in(WRITER)
    copy = somebody(visitor.cookie)
    assert copy.ask("/console/").status == 200
    gone = visitor.post("/console/logout", csrf=visitor.ask("/console/").csrf)
    assert gone.status == 303
    assert "Max-Age=0" in gone.headers["set-cookie"]
    assert copy.ask("/console/").status == 303
    assert copy.ask("/console/live").status == 401


def test_a_session_ends_with_its_token(serve):
    server = serve(TOKENS)
    visitor, other = Visitor(server).log_in(WRITER), Visitor(server).log_in(READER)
    assert visitor.ask("/console/").status == 200
    server.config.write_text(TOKENS.replace(WRITER, "another-long-token-of-somebody-else"))
    server.process.send_signal(1)
    wait_until(lambda: visitor.ask("/console/").status == 303, "the session ends")
    assert other.ask("/console/").status == 200


# --- What other sites' pages and readers cannot do


def order(visitor, headers=None, **fields):
    return visitor.post("/console/providers/soap", headers, **fields)


def test_a_form_counts_only_with_what_this_session_was_given(server, somebody):
    visitor, other = somebody().log_in(WRITER), somebody().log_in(WRITER)
    mine, theirs = visitor.ask("/console/").csrf, other.ask("/console/").csrf
    assert mine != theirs
    before = len(server.receipts())
    for wrong in ({}, {"csrf": ""}, {"csrf": theirs}, {"csrf": mine[:-1]}, {"csrf": "é"}):
        assert order(visitor, **wrong).status == 403, wrong
    assert len(server.receipts()) == before
    assert order(visitor, csrf=mine).status == 303
    assert len(server.receipts()) == before + 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
    ],
    ids=str,
)
def test_a_page_of_another_site_can_do_nothing(server, somebody, headers):
    visitor = somebody().log_in(WRITER)
    csrf = visitor.ask("/console/").csrf
    before = len(server.receipts())
    assert order(visitor, headers, csrf=csrf).status == 403
    assert visitor.post("/console/login", headers, token=WRITER).status == 403
    assert visitor.post("/console/logout", headers, csrf=csrf).status == 403
    assert len(server.receipts()) == before
    own = {"Sec-Fetch-Site": "same-origin", "Origin": f"http://127.0.0.1:{server.port}"}
    assert order(visitor, own, csrf=csrf).status == 303


def test_what_is_no_form_of_ours_is_refused(somebody):
    visitor = somebody().log_in(WRITER)
    csrf = visitor.ask("/console/").csrf
    path = "/console/providers/soap"
    for status, body, kind in (
        (415, f'{{"csrf": "{csrf}"}}', "application/json"),
        (415, f"csrf={csrf}", "text/plain"),
        (413, f"csrf={csrf}&x=" + "x" * 20_000, FORM),
        (400, f"csrf={csrf}" + "&x=1" * 200, FORM),
        (400, f"csrf={csrf}&x=%ff", FORM),
    ):
        answer = visitor.ask(path, "POST", body.encode(), {"Content-Type": kind})
        assert answer.status == status, body[:50]


def test_who_may_only_read_sees_no_button_and_can_change_nothing(server, somebody):
    visitor = somebody().log_in(READER)
    before = len(server.receipts())
    for page in PAGES:
        seen = visitor.ask(f"/console/{page}")
        forms = re.findall(r'<form[^>]*method="post"[^>]*action="([^"]*)"', seen.text)
        assert set(forms) <= {"/console/logout"}, page
    csrf = visitor.ask("/console/").csrf
    for path in ("messages", "forwarding/x", "providers/soap", "rejected/1/retry"):
        assert visitor.post(f"/console/{path}", csrf=csrf, do="pause").status in (403, 404)
    assert order(visitor, csrf=csrf).status == 403
    assert "scope" in order(visitor, csrf=csrf).words
    assert len(server.receipts()) == before


def test_a_notice_says_only_what_the_console_has_said(somebody):
    visitor, other = somebody().log_in(WRITER), somebody().log_in(WRITER)
    answer = order(visitor, csrf=visitor.ask("/console/").csrf)
    location = answer.headers["location"]
    assert "was posted a test receipt" in visitor.ask(location).words
    assert "was posted a test receipt" not in other.ask(location).words
    assert "hello" not in visitor.ask("/console/?notice=hello").words


# --- The stream


def test_the_stream_tells_that_something_was_stored(server, somebody):

    visitor = somebody().log_in(WRITER)
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/console/live", headers={"Cookie": visitor.cookie})
    response = connection.getresponse()
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert response.readline() == b"retry: 3000\n"
    # The first look only finds out where things stand: it is told of what comes after.
    lines = []

    def told():
        order(visitor, csrf=csrf)
        line = response.readline()
        lines.append(line)
        return line == b"event: stored\n"

    csrf = visitor.ask("/console/").csrf
    assert wait_until(told, "an event")
    assert int(response.readline().removeprefix(b"data: ")) <= len(server.receipts())
    connection.close()


def test_open_pages_take_turns_so_that_many_cost_no_more_than_few():
    class Connection:
        def __init__(self):
            self.events = []

        def write(self, data):
            self.events += [data] if data.startswith(b"event") else []

        def begin(self, *_):
            pass

        end = begin

    clock = Clock()
    live = Live(clock, Newest())
    connections = [Connection() for _ in range(10)]
    for each in connections:
        live.open(each, 3600)
    clock.advance(POLL)  # each is told of what comes after the first look
    for turn in range(1, 6):
        Newest.number += 1
        clock.advance(POLL)
        assert sum(len(each.events) for each in connections) == turn * MOST_TOLD
    assert [len(each.events) for each in connections] == [1] * 10
    clock.advance(LONGEST)
    assert len(live) == 0


class Newest:
    """A reader that finds one more receipt each time that a test says so."""

    number = 0

    def read(self, _function):
        return succeed(self.number)


def test_a_stranger_and_another_site_get_no_stream(somebody):
    assert somebody().ask("/console/live").status == 401
    visitor = somebody().log_in(WRITER)
    assert visitor.ask("/console/live", headers={"Sec-Fetch-Site": "cross-site"}).status == 403


def test_nothing_secret_was_logged_or_kept(server):
    everything = server.everything_kept()
    for secret in (WRITER, READER, BLIND):
        assert secret.encode() not in everything
    codes = re.findall(rb"/console/login/[A-Za-z0-9_.-]{30,}", everything)
    assert codes == []
