"""How a post's bytes become names and values, and how its secrets are blanked."""

from __future__ import annotations

from time import process_time

import pytest

from receiptd.providers.post import Post

FORM = "application/x-www-form-urlencoded"


def form(body: bytes, query: bytes = b"", charset: str = "iso8859-1") -> Post:
    """A form post."""
    return Post("POST", query, body, FORM, charset=charset)


# A label, the body, and everything that is read of it
PAIRS = [
    ("plain", b"a=1&b=2", {"a": "1", "b": "2"}),
    ("nothing", b"", {}),
    ("stray separators", b"&&a=1&", {"a": "1"}),
    ("no equals sign", b"a&b=", {"a": "", "b": ""}),
    ("an equals sign in the value", b"a=b=c", {"a": "b=c"}),
    ("an equals sign alone", b"=", {"": ""}),
    ("a plus is a space", b"a=b+c%2B", {"a": "b c+"}),
    ("names are decoded too", b"%61+b=1", {"a b": "1"}),
    ("a semicolon separates nothing", b"a=1;b=2", {"a": "1;b=2"}),
    ("a question mark is no other separator", b"a=why?&b=1", {"a": "why?", "b": "1"}),
    ("ampersands as entities", b"a=1&amp;b=2&amp;amp;c=3", {"a": "1", "b": "2", "c": "3"}),
    ("Windows-1252", b"a=it%92s %93ok%94 %80", {"a": "it\u2019s \u201cok\u201d \u20ac"}),
    ("bad escapes stay as they are", b"a=100%&b=%zz&c=%4", {"a": "100%", "b": "%zz", "c": "%4"}),
    ("unescaped spaces and colons", b"a=x: y z", {"a": "x: y z"}),
    ("NUL is replaced", b"a=x%00y\0z", {"a": "x\ufffdy\ufffdz"}),
    ("UTF-8, escaped or not", "a=%C3%A9é".encode(), {"a": "éé"}),
    ("not UTF-8", b"a=%E9\xe9", {"a": "éé"}),
    ("each value for itself", b"a=%C3%A9&b=%E9", {"a": "é", "b": "é"}),
    ("a line end behind the last value", b"a=1\r\n", {"a": "1"}),
    ("an escaped line end is part of it", b"a=1%0D%0A", {"a": "1\r\n"}),
    ("a name twice", b"a=1&a=2", {"a": ["1", "2"]}),
    ("a name twice, the value the same", b"a=1&a=1", {"a": "1"}),
    ("a name twice, the first empty", b"a=&a=2", {"a": "2"}),
    ("a name twice, the second empty", b"a=1&a=", {"a": "1"}),
    ("a name three times", b"a=1&a=2&a=1&a=3", {"a": ["1", "2", "3"]}),
    ("a name in two cases: the first spelling", b"Ab=1&aB=2", {"Ab": ["1", "2"]}),
]


@pytest.mark.parametrize(
    ("body", "expected"), [row[1:] for row in PAIRS], ids=[row[0] for row in PAIRS]
)
def test_fields(body: bytes, expected: dict[str, object]) -> None:
    assert form(body).fields.rest(()) == expected
    assert Post("GET", body).fields.rest(()) == expected


def test_a_value_is_the_first_that_is_not_empty() -> None:
    fields = form(b"a=&a=1&a=2&b=+x+&c=+").fields
    assert (fields.get("a"), fields.get("A")) == ("1", "1")
    assert (fields.get("b"), fields.verbatim("b")) == ("x", " x ")
    assert (fields.get("c"), fields.get("d")) == (None, None)


def test_values_that_do_not_count_are_left_over() -> None:
    fields = form(b"a=1&a=2&b=1&b=2&b=3&c=1&d=").fields
    assert fields.rest({"a", "b", "c", "d"}) == {"a": "2", "b": ["2", "3"]}


def test_the_body_comes_before_the_query() -> None:
    fields = form(b"a=body", b"a=query&b=2").fields
    assert (fields.get("a"), fields.get("b")) == ("body", "2")
    assert fields.rest({"a"}) == {"a": "query", "b": "2"}


def test_names_can_be_told_apart_by_case() -> None:
    fields = form(b"p=1&P=2&p=3").named(exact=True)
    assert (fields.get("p"), fields.get("P")) == ("1", "2")
    assert fields.rest({"P"}) == {"p": ["1", "3"]}


@pytest.mark.parametrize(("charset", "letter"), [("iso8859-1", "õ"), ("iso8859-2", "ő")])
def test_the_older_charset_is_the_providers(charset: str, letter: str) -> None:
    post = form(b"a=%F5&%F5=b", charset=charset)
    assert post.fields.rest(()) == {"a": letter, letter: "b"}


def part(name: str, value: str, more: str = "") -> str:
    """A part of a multipart form."""
    return f'--XyZ\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'


# A label, the body, and everything that is read of it
MULTIPART = [
    (
        "two fields",
        part("a", "1") + part("b", "x y&z=%41+") + "--XyZ--\r\n",
        {"a": "1", "b": "x y&z=%41+"},
    ),
    ("no line end behind the last boundary", part("a", "1") + "--XyZ--", {"a": "1"}),
    ("no last boundary", part("a", "1"), {"a": "1\r\n"}),
    (
        "words before and behind",
        "hello\r\n" + part("a", "1") + "--XyZ--\r\n" + part("b", "2"),
        {"a": "1"},
    ),
    ("a file", part("a", "1") + part("f", "2", '; filename="f.txt"') + "--XyZ--", {"a": "1"}),
    ("an empty value", part("a", "") + "--XyZ--", {"a": ""}),
    ("lines in a value", part("a", "1\r\n2\n3") + "--XyZ--", {"a": "1\r\n2\n3"}),
    ("the boundary within a line", part("a", "x --XyZ y") + "--XyZ--", {"a": "x --XyZ y"}),
    ("a longer boundary", part("a", "1\r\n--XyZq\r\n2") + "--XyZ--", {"a": "1\r\n--XyZq\r\n2"}),
    ("line feeds alone", part("a", "1").replace("\r", "") + "--XyZ--\n", {"a": "1"}),
    ("no name", part("a", "1").replace("name", "nom") + "--XyZ--", {}),
    ("no header", "--XyZ\r\n\r\n1\r\n--XyZ--", {}),
    ("no blank line", "--XyZ\r\nContent-Disposition: form-data; name=a\r\n--XyZ--", {}),
    ("a name without quotes", part("a", "1").replace('"', "") + "--XyZ--", {"a": "1"}),
    (
        "other headers",
        part("a", "1").replace("Content-D", "X: y\r\ncontent-type: text/plain\r\ncontent-d")
        + "--XyZ--",
        {"a": "1"},
    ),
    ("letters", part("ő", "ű") + "--XyZ--", {"ő": "ű"}),
    ("NUL", part("a", "\0") + "--XyZ--", {"a": "\ufffd"}),
    ("no multipart at all", "a=1&b=2", {}),
]


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=XyZ",
        'Multipart/Form-Data; charset=utf-8; Boundary="XyZ"',
        "multipart/form-data;boundary=XyZ; x=y",
    ],
)
@pytest.mark.parametrize(
    ("body", "expected"), [row[1:] for row in MULTIPART], ids=[row[0] for row in MULTIPART]
)
def test_multipart(body: str, expected: dict[str, object], content_type: str) -> None:
    post = Post("POST", b"", body.encode(), content_type)
    assert post.fields.rest(()) == expected


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=" + "x" * 71])
def test_multipart_without_a_boundary_holds_nothing(boundary: str) -> None:
    body = part("a", "1").encode()
    assert Post("POST", b"", body, f"multipart/form-data{boundary}").fields.rest(()) == {}


def test_multipart_that_nests_without_end_holds_nothing() -> None:
    body = b"".join(
        b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (level, level + 1)
        for level in range(1200)
    )
    assert Post("POST", b"", body, "multipart/form-data; boundary=b0").fields.rest(()) == {}


@pytest.mark.parametrize(
    "body",
    [
        b"&".join(b"a=%d" % number for number in range(10_000)),
        b"a" * 65536,
        b"%" * 65536,
        b"&" * 65536,
        b"--b\r\n" * 13_000,
        b"--b" + b" " * 65536,
        b"--b\r\nContent-Disposition: form-data" + b"; " * 32768,
    ],
)
def test_a_hostile_body_is_read_quickly(body: bytes) -> None:
    started = process_time()  # of the processor: another program's turn is not ours
    for content_type in (FORM, "multipart/form-data; boundary=b"):
        post = Post("POST", b"", body, content_type, secrets=frozenset({"pin"}))
        assert post.fields is post.fields
        assert post.raw
    assert process_time() - started < 2


# A label, the query, the body, and what is stored of them
BLANKED = [
    ("no secret", b"", b"a=1&pins=2", b"a=1&pins=2"),
    ("a secret", b"", b"a=1&pin=s3cret&b=2", b"a=1&pin=***&b=2"),
    ("an empty secret", b"", b"a=1&pin=", b"a=1&pin="),
    ("a secret in another case", b"", b"PiN=s3cret", b"PiN=***"),
    ("a secret whose name is escaped", b"", b"p%69n=s3cret", b"p%69n=***"),
    ("a secret whose name has space around it", b"", b"+pin+=s3cret", b"+pin+=***"),
    ("a secret twice", b"", b"pin=s3&pin=cret", b"pin=***&pin=***"),
    ("a secret behind `&amp;`", b"", b"a=1&amp;pin=s3&amp;b=2", b"a=1&amp;pin=***&amp;b=2"),
    ("a secret behind `;`", b"", b"a=1;b;p%69n=s3;cret&c=2", b"a=1;b;p%69n=***&c=2"),
    ("a secret with `;` in it", b"", b"pin=s3;cret&a=1", b"pin=***&a=1"),
    ("a token behind `&amp;`", b"a=1&amp;token=s3cret", b"", b"?a=1&amp;token=***"),
    ("a token in the query", b"a=1&token=s3cret", b"", b"?a=1&token=***"),
    ("query and body", b"token=s3cret", b"pin=s3cret", b"?token=***\npin=***"),
    ("a query alone", b"a=%E9", b"", b"?a=%E9"),
    ("nothing", b"", b"", b""),
]


@pytest.mark.parametrize(
    ("query", "body", "raw"), [row[1:] for row in BLANKED], ids=[row[0] for row in BLANKED]
)
def test_what_is_stored_has_its_secrets_blanked(query: bytes, body: bytes, raw: bytes) -> None:
    post = Post("POST", query, body, FORM, secrets=frozenset({"pin"}), token="token")
    assert post.raw == raw


def test_no_value_of_a_secret_is_among_what_else_was_sent() -> None:
    body = b"PIN=s3&a=1&a=2&pin=cret&PiN=other&b=3"
    for exact in (False, True):
        post = Post("POST", b"", body, FORM, secrets=frozenset({"pin"}))
        fields = post.named(exact=exact)
        assert fields.rest({"a"}) == {"a": "2", "b": "3"}
        assert fields.rest({"pin"}) == {"a": ["1", "2"], "b": "3"}


def test_a_secret_in_a_multipart_form_is_blanked_and_nothing_else() -> None:
    body = part("pin", "1") + part("a", "1") + part("Token", "1", '; filename="x"') + "--XyZ--"
    post = Post(
        "POST",
        b"token=1",
        body.encode(),
        "multipart/form-data; boundary=XyZ",
        secrets=frozenset({"pin"}),
        token="token",
    )
    expected = body.replace('"pin"\r\n\r\n1', '"pin"\r\n\r\n***').replace(
        '"x"\r\n\r\n1', '"x"\r\n\r\n***'
    )
    assert post.raw == b"?token=***\n" + expected.encode()
    assert post.fields.get("pin") == "1"
    assert post.fields.rest(()) == {"a": "1"}


def test_a_multipart_form_that_cannot_be_taken_apart_is_blanked_whole() -> None:
    body = part("PIN", "s3cret").encode()
    post = Post("POST", b"", body, "multipart/form-data", secrets=frozenset({"pin"}))
    assert post.raw == b"***"


def test_the_token_is_no_field() -> None:
    post = Post("POST", b"token=a+b&x=1", b"Token=c&token=", FORM, token="token")
    assert post.tokens == ["c", "", "a b"]
    assert post.fields.get("token") is None
    assert post.fields.rest(()) == {"x": "1"}
    assert post.named(exact=True).rest(()) == {"x": "1"}


def test_without_a_token_a_field_of_that_name_is_a_field() -> None:
    post = Post("GET", b"token=a")
    assert post.tokens == []
    assert post.fields.get("token") == "a"
    assert post.raw == b"?token=a"


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        (b"a=1?b=2&c=3", {"a": "1", "b": "2", "c": "3"}),
        (b"a=1&b=2?c=3", {"a": "1", "b": "2", "c": "3"}),
        (b"a=why?&b=1", {"a": "why?", "b": "1"}),
        (b"a=1?b=2?c=3", {"a": "1", "b": "2?c=3"}),
    ],
)
def test_a_second_question_mark_before_a_name_separates_in_a_query(query, fields):
    post = Post("GET", query)
    assert post.fields.rest(()) == fields
    assert post.raw == b"?" + query
    assert Post("POST", b"", query).fields.rest(()) != fields or b"?&" in query


def test_a_token_before_a_second_question_mark_is_blanked():
    post = Post("GET", b"token=secret?reference=s1&code=6", token="token")
    assert post.tokens == ["secret"]
    assert post.raw == b"?token=***?reference=s1&code=6"
    post = Post("GET", b"x=1?token=secret&code=6", token="token")
    assert post.raw == b"?x=1?token=***&code=6"
