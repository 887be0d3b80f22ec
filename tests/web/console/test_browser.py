"""The console in a real Chromium, on what `receiptd simulate` has posted."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from math import pi, sin

import pytest

from kit.api import deliver, register
from kit.browser import SCREENSHOTS, Browser, installed
from kit.command_line import run
from kit.console import link, logged_in
from kit.receiver import SECRET, receiver
from kit.server import Server, wait_until
from kit.wire import post
from receiptd.receipt import match_key

FORM = "application/x-www-form-urlencoded"

MESSAGE = "/console/messages/csoft/4A2E3C10"

PAGES = (
    *("/console/", "/console/messages", MESSAGE, "/console/receipts", "/console/receipts/1"),
    *("/console/failures", "/console/mismatches", "/console/rejected", "/console/rejected/1"),
    *("/console/forwarding", "/console/forwarding/shop", "/console/providers"),
    *("/console/login", "/console/nowhere", "/"),
)

SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def shop():
    """An application that takes all but what is about the messages DEAD1 and DEAD2."""
    with receiver(lambda asked: 400 if b"DEAD" in asked.body else 204) as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory, shop):
    """A server with something on each page."""
    endpoints = "".join(
        f'[[endpoint]]\nprovider = "{name}"\npath = "/{path}"\n'
        for name, path in (("csoft", "soap"), ("seeme", "seeme"), ("infobip", "infobip"))
    )
    config = (
        f'{endpoints}[[forward]]\nname = "shop"\nurl = "{shop.url}"\nsecret = "{SECRET}"\n'
        'give_up = "1s"\n'
    )
    server = Server(tmp_path_factory.mktemp("console"), config, "tcp:0:interface=127.0.0.1", [])
    fill(server)
    yield server
    server.kill()


def fill(server):
    """Real posts: receipts of three providers, messages, mismatches and a rejected post."""
    for provider, path, number in (
        *(("csoft", "soap", 60), ("seeme", "seeme", 30)),
        ("infobip", "infobip", 20),
    ):
        url = f"{server.url}/{path}"
        done = run("simulate", provider, "--url", url, "--count", str(number), "--seed", "7")
        assert done.exit_code == 0, done.output
    phone = "447700900123"
    register(
        server,
        *(
            {"provider": "csoft", "message_id": name, "recipient": phone, "reference": "order 17"}
            for name in ("4A2E3C10", "4A2E3C11", "DEAD1", "DEAD2")
        ),
    )
    for name, report in (("4A2E3C10", -4), ("4A2E3C10", 0), ("4A2E3C10", 28), ("DEAD1", 0)):
        deliver(server, name, report, phone)
    deliver(server, "4A2E3C10", 0, phone)
    deliver(server, "4A2E3C10", 0, "447700900999")
    deliver(server, "NOBODYS", 0, phone)
    post(server.port, b"nothing=1", path="/seeme", content_type=FORM)

    def dead():
        with closing(sqlite3.connect(server.database)) as connection:
            return connection.execute(
                "SELECT count(*) FROM forward_parked WHERE status = 'dead'"
            ).fetchone()[0]

    wait_until(dead, "the shop refuses something")
    earlier_days(server)


def earlier_days(server):
    """Eight days of statistics, as if the server had run for so long."""
    this_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    with closing(sqlite3.connect(server.database, timeout=20)) as connection, connection:
        for hours in range(1, 8 * 24 + 2):
            at = this_hour - timedelta(hours=hours)
            hour = at.strftime("%Y-%m-%dT%H:00:00.000000Z")
            busy = 900 + int(700 * sin((at.hour - 8) * pi / 12)) + hours * 7919 % 97
            of = {"hour": hour, "provider": "csoft", "network": "23410"}
            for state, code, number in (
                *(("DELIVERED", "0", busy), ("UNDELIVERABLE", "28", busy // 25)),
                *(("REJECTED", "3", busy // 60), ("EXPIRED", "27", busy // 40)),
            ):
                kind = {"endpoint": "soap", "kind": "delivery", "verdict": "accepted"}
                counted = {**of, **kind, "state": state, "code": code, "count": number}
                insert(connection, "statistics_receipts", counted)
            times = json.dumps({"45": busy - 60, "52": 50, "60": 10})
            for state, number in (("DELIVERED", busy), ("UNDELIVERABLE", busy // 14)):
                counted = {**of, "state": state, "count": number, "times": times}
                insert(connection, "statistics_messages", counted)


@pytest.fixture(scope="module")
def browser(tmp_path_factory, server):
    """A browser that has opened the link of `receiptd console`."""
    browser = Browser(installed(tmp_path_factory.mktemp("browser")), server)
    browser.run(
        "await page.goto(values.link); await page.waitForURL('**/console/');", link=link(server)
    )
    yield browser
    browser.close()


def troubles(browser):
    """What the pages have tried that they must not, and what has failed in them."""
    return browser.run(
        "const found = {...seen}; for (const key in seen) seen[key] = []; return found;"
    )


NOTHING = {"errors": [], "dialogs": [], "refused": [], "elsewhere": []}

LOOK = """
await page.emulateMedia({colorScheme: "light"});
await page.goto(values.path);
const found = {wrong: await violations(page)};
await page.screenshot({path: `${values.folder}/${values.name}-light.png`, fullPage: true});
await page.emulateMedia({colorScheme: "dark"});
found.wrong.push(...await violations(page, ["color-contrast", "link-in-text-block"]));
await page.screenshot({path: `${values.folder}/${values.name}-dark.png`, fullPage: true});
await page.setViewportSize({width: 320, height: 700});
found.overflow = await page.evaluate(
  () => document.documentElement.scrollWidth - document.documentElement.clientWidth);
await page.screenshot({path: `${values.folder}/${values.name}-phone.png`, fullPage: true});
await page.setViewportSize({width: 1280, height: 900});
found.title = await page.title();
found.lang = await page.evaluate(() => document.documentElement.lang);
found.bare = await page.evaluate(() => [...document.querySelectorAll("main table:not(.chart *)")]
  .filter(
  (each) => !each.caption || each.querySelectorAll("th:not([scope])").length).length);
found.bytes = await page.evaluate(() => performance.getEntries()
  .filter((each) => each.decodedBodySize).reduce((sum, each) => sum + each.decodedBodySize, 0));
return found;
"""


@pytest.mark.parametrize("path", PAGES)
def test_a_page_can_be_used_by_everybody(browser, path):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    name = path.strip("/").replace("/", "-") or "front"
    found = browser.run(LOOK, path=path, folder=str(SCREENSHOTS), name=name)
    assert [each for each in found["wrong"] if each.startswith(SERIOUS)] == []
    assert found["overflow"] == 0
    assert found["lang"] == "en"
    assert found["title"].endswith("receiptd")
    assert found["bare"] == 0
    assert found["bytes"] < 150_000
    errors = troubles(browser)
    if path == "/console/nowhere":
        assert "404" in errors["errors"].pop()
    assert errors == NOTHING


def test_the_pictures_of_the_documentation_are_made(browser):
    browser.run(
        """
await page.emulateMedia({colorScheme: "light"});
for (const [name, path, height] of values.pictures) {
  await page.setViewportSize({width: 1280, height});
  await page.goto(path);
  await page.screenshot({path: `${values.folder}/${name}.png`});
}
await page.setViewportSize({width: 1280, height: 900});
""",
        folder=str(SCREENSHOTS),
        pictures=[
            ("picture-overview", "/console/", 1020),
            ("picture-message", MESSAGE, 800),
        ],
    )
    for name in ("overview", "message"):
        picture = (SCREENSHOTS / f"picture-{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 250_000


def test_times_have_the_readers_zone_beside_utc(browser):
    text = browser.run(
        'await page.goto("/console/receipts/1");'
        'return page.locator("dd time").first().innerText();'
    )
    assert " UTC" in text
    assert "CET" in text or "GMT+" in text or "CEST" in text


def test_charts_are_drawn_and_the_bars_of_a_page_without_scripts_give_way(browser):
    drawn, bars = browser.run(
        'await page.goto("/console/");'
        "return [await page.locator('.chart canvas').count(),"
        " await page.locator('svg.bars:visible').count()];"
    )
    assert drawn >= 2
    assert bars == 0
    assert troubles(browser) == NOTHING


def test_it_is_used_with_the_keyboard_alone(browser):
    focused = browser.run("""
await page.goto("/console/");
const found = [];
for (let step = 0; step < 12; step++) {
  await page.keyboard.press("Tab");
  found.push(await page.evaluate(() => {
    const style = getComputedStyle(document.activeElement);
    return [document.activeElement.textContent.trim(), style.outlineStyle];
  }));
}
await page.keyboard.press("Escape");
return found;
""")
    assert focused[0][0] == "Skip to the content"
    assert [name for name, _ in focused[2:10]] == [
        *("Overview", "Messages", "Receipts", "Failures", "Mismatches", "Rejected"),
        *("Forwarding", "Providers"),
    ]
    assert {outline for _, outline in focused} == {"solid"}


def test_what_comes_is_shown_without_a_click(browser, server):
    browser.run('await page.goto("/console/receipts"); await page.waitForSelector("#live");')
    # The stream tells what comes after it was opened.
    browser.run("await page.waitForFunction(() => /on$/.test(live.textContent));")
    numbers = count()
    shown = False
    while not shown:
        deliver(server, name := f"LIVE{next(numbers)}", 0)
        shown = browser.run(
            "return page.getByText(values.name).first().waitFor({timeout: 6000})"
            ".then(() => true, () => false);",
            name=name,
        )
        assert next(numbers) < 8
    assert troubles(browser) == NOTHING


def test_an_operator_clicks_through_from_a_number_to_the_raw_post(browser):
    seen = browser.run("""
await page.goto("/console/messages");
await page.getByRole("searchbox").fill("+44 (0)7700 900123");
await page.getByRole("button", {name: "Search"}).click();
await page.getByRole("link", {name: "4A2E3C10"}).click();
const timeline = await page.locator("ol.timeline").innerText();
await page.locator("ol.timeline summary").first().click();
const raw = await page.locator("ol.timeline pre").first().innerText();
await page.getByRole("link", {name: "Receipt", exact: true}).first().click();
return {timeline, raw, title: await page.title()};
""")
    for words in (
        *("Registered for 447700900123", "The message is now DELIVERED", "code -4"),
        *("came after the final state", "came 1 more time", "wrong-recipient"),
    ):
        assert words in seen["timeline"]
    assert "MessageIdentifier=4A2E3C10" in seen["raw"]
    assert seen["title"].startswith("Receipt ")


def test_a_mismatch_is_registered_from_here(browser, server):
    text = browser.run("""
await page.goto("/console/mismatches");
await page.getByRole("row", {name: /NOBODYS/}).getByRole("button", {name: "Register"}).click();
return page.locator("main").innerText();
""")
    assert "the message 'NOBODYS' is registered" in text
    assert "DELIVERED" in text


def test_a_destination_is_paused_tried_and_told_again(browser, server, shop):
    steps = browser.run("""
const found = [];
await page.goto("/console/forwarding");
await page.getByRole("link", {name: "shop"}).click();
for (const name of ["Pause", "Resume", "Send a test event", "Send all again"]) {
  await page.getByRole("button", {name, exact: true}).click();
  found.push(await page.getByRole("status").innerText());
}
await page.getByLabel("Tell it again, since").fill("1h");
await page.getByRole("button", {name: "Replay"}).click();
found.push(await page.getByRole("status").innerText());
return found;
""")
    assert steps[:3] == [
        "shop is paused: what comes waits",
        "shop goes on, beginning with what has waited",
        "shop has taken the test event",
    ]
    assert "dead letters of shop are sent again" in steps[3]
    assert "replay 1" in steps[4]
    assert troubles(browser) == NOTHING


def test_a_test_receipt_is_sent_after_a_question(browser, server):
    before = len(server.receipts())
    text = browser.run("""
await page.goto("/console/providers");
const row = page.getByRole("row", {name: /seeme/});
await row.getByRole("button", {name: "Send a test receipt"}).click();
return page.getByRole("status").innerText();
""")
    assert 'answered "received"' in text
    assert len(server.receipts()) == before + 1
    assert len(troubles(browser)["dialogs"]) == 1


def test_everything_works_without_scripts(browser, server):
    seen = browser.run(
        """
const plain = await open({javaScriptEnabled: false});
const found = {headings: {}, hidden: []};
try {
  await plain.page.goto(values.link);
  await plain.page.waitForURL("**/console/");
  found.bars = await plain.page.locator("svg.bars").count();
  for (const path of values.pages) {
    await plain.page.goto(path);
    found.headings[path] = await plain.page.locator("h1").innerText();
  }
  await plain.page.goto("/console/messages");
  await plain.page.getByRole("searchbox").fill("4a2e3c10");
  await plain.page.getByRole("button", {name: "Search"}).click();
  await plain.page.getByRole("link", {name: "4A2E3C10"}).click();
  found.message = await plain.page.locator("h1").innerText();
  await plain.page.goto("/console/forwarding/shop");
  await plain.page.getByRole("button", {name: "Send a test event"}).click();
  found.notice = await plain.page.getByRole("status").innerText();
  await plain.page.getByRole("button", {name: "Log out"}).click();
  found.login = await plain.page.locator("h1").innerText();
} finally {
  await plain.context.close();
}
return found;
""",
        link=link(server),
        pages=PAGES,
    )
    assert all(seen["headings"].values())
    assert seen["bars"] >= 2
    assert seen["message"] == "Message 4A2E3C10"
    assert "has taken the test event" in seen["notice"]
    assert seen["login"] == "Log in to the console"


# --- Under attack

MARKUP = (
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    '"><img src=\'//evil.example/x\' onerror="window.hit=1">',
    "'><svg onload=window.hit=1>",
    "</pre></td></table><script src=//evil.example/x.js></script>",
    "</title><script>window.hit=1</script>",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    "<style>*{display:none}</style>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example/'>",
    "<form action=//evil.example/><button>Log in</button></form>",
    "<a href=javascript:window.hit=1>x</a>",
    "javascript:window.hit=1//",
    '" autofocus onfocus="window.hit=1',
    "' onmouseover='window.hit=1",
    "{{ 7 * 191 }}{% for x in y %}",
    "${window.hit=1}`",
    "<!--<script>-->window.hit=1</script>",
    "<math><mtext><img src=x onerror=window.hit=1></mtext></math>",
    "<details open ontoggle=window.hit=1>",
    "&lt;script&gt;window.hit=1&lt;/script&gt;",
    "\u202e<script>window.hit=1</script>\u2066",
    "\u2028window.hit=1\u2029//",
    "<object data='javascript:window.hit=1'></object>",
    "<input name=csrf value=x><button form=x formaction=//evil.example>",
)

ROWS = 850
"""Rows of receipts: with 13 texts each, and those of 100 messages and 300 rejected posts, they
hold more than 10,000 hostile texts."""


def attack(server):
    """Write markup wherever a provider, or an application, can have a text written; how many."""
    numbers = count()

    def text():
        number = next(numbers)
        return f"{MARKUP[number % len(MARKUP)]}{number}"

    at = "2026-01-01T00:00:00.000000Z"
    with closing(sqlite3.connect(server.database, timeout=20)) as connection, connection:
        for number in range(ROWS):
            values = {
                **{"received_at": at, "kind": "delivery", "state": "UNDELIVERABLE"},
                **{"verdict": "unknown-message", "repeats": 0, "message_key": text()},
                **{
                    name: text()
                    for name in (
                        *("endpoint", "provider", "message_id", "code", "description"),
                        *("recipient", "sender", "reference", "network", "text", "variant"),
                    )
                },
                "extra": json.dumps({text(): text(), text(): [text(), text()]}),
                "unread": json.dumps([text()]),
                "raw": text().encode(),
            }
            insert(connection, "receipts", values)
            if number % 2:
                kept = ("endpoint", "provider", "field", "text", "peer", "content_type")
                insert(
                    connection,
                    "rejected_posts",
                    {
                        **{name: text() for name in kept},
                        **{"received_at": at, "reason": "invalid", "raw": text().encode()},
                    },
                )
            if number % 6 == 0:
                written = ("provider", "recipient", "sender", "reference", "recipient_key")
                name = text()
                insert(
                    connection,
                    "messages",
                    {
                        **{name: text() for name in written},
                        **{"message_id": name, "message_key": match_key(name)},
                        **{"registered_at": at, "state": "ENROUTE", "final": 0, "delivered": 0},
                    },
                )
            if number < 150:
                hour = connection.execute(
                    "SELECT strftime('%Y-%m-%dT%H:00:00.000000Z', 'now')"
                ).fetchone()[0]
                insert(
                    connection,
                    "statistics_receipts",
                    {
                        **{"hour": hour, "kind": "delivery", "state": "EXPIRED", "count": 99},
                        **{
                            name: text()
                            for name in ("endpoint", "provider", "network", "code", "verdict")
                        },
                    },
                )
    return next(numbers)


def insert(connection, table, values):
    marks = ", ".join("?" * len(values))
    names = ", ".join(values)
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))


READ = """
const found = {hits: 0, scripts: new Set(), inline: 0, texts: 0, pages: 0, foreign: 0};
for (const start of values.paths) {
  await page.goto(start);
  for (;;) {
    found.pages++;
    const here = await page.evaluate(() => ({
      hit: window.hit,
      scripts: [...document.scripts].map((each) => each.src),
      inline: document.querySelectorAll("[onerror],[onload],[onfocus],[onmouseover],[ontoggle],"
        + "[style]:not(.chart *),style,iframe,object,base,main img,math,[formaction]").length,
      foreign: [...document.querySelectorAll("[href],[src],[action]")].filter((each) =>
        !(each.href || each.src || each.action).toString().startsWith(location.origin)
        && !(each.href?.baseVal !== undefined)).length,
      texts: document.body.textContent
        .split(/window\\.hit|evil\\.example|display:none|7 \\* 191/).length - 1,
      next: document.querySelector("a[rel=next]")?.getAttribute("href"),
    }));
    found.hits += here.hit ? 1 : 0;
    here.scripts.forEach((each) => found.scripts.add(each.replace(/\\.[0-9a-f]{16}\\./, ".")));
    found.inline += here.inline;
    found.foreign += here.foreign;
    found.texts += here.texts;
    if (!here.next) break;
    await page.goto(here.next);
  }
}
found.scripts = [...found.scripts].map((each) => new URL(each).pathname).sort();
return found;
"""


def test_ten_thousand_hostile_texts_run_no_script(browser, server):
    assert attack(server) >= 10_000
    troubles(browser)  # those of other tests
    visitor = logged_in(server)
    newest = max(row["id"] for row in server.receipts())
    rejected = max(row["id"] for row in server.rejected())
    page = visitor.ask("/console/messages").text
    message = page.partition('<th scope="row"><a href="')[2].partition('"')[0]
    found = browser.run(
        READ,
        paths=[
            *("/console/", "/console/receipts", "/console/messages", "/console/mismatches"),
            *("/console/rejected", "/console/failures?window=24h", message),
            *(f"/console/receipts/{newest - number}" for number in range(len(MARKUP))),
            *(f"/console/rejected/{rejected - number}" for number in range(len(MARKUP))),
            *(f"/console/receipts?q={MARKUP[0]}", f"/console/login?next={MARKUP[2]}"),
            *(f"/console/receipts?provider={MARKUP[3]}", f"/console/messages?q={MARKUP[13]}"),
            f"/console/receipts?since={MARKUP[1]}",
        ],
    )
    assert found["pages"] > 80
    assert found["texts"] >= 10_000
    assert found["hits"] == 0
    assert found["inline"] == 0
    assert found["foreign"] == 0
    assert found["scripts"] == ["/console/static/console.js", "/console/static/uplot.js"]
    assert troubles(browser) == NOTHING
