"""What is wrong with `[[forward]]` is said with its place and the remedy."""

from __future__ import annotations

import pytest

from kit.command_line import run
from receiptd.config import ConfigError, load

GOOD = {"name": '"app"', "url": '"http://127.0.0.1:9/"'}


def written(tmp_path, *tables):
    file = tmp_path / "receiptd.toml"
    text = '[[endpoint]]\nprovider = "csoft"\npath = "/soap"\n'
    for table in tables:
        lines = "\n".join(f"{key} = {value}" for key, value in (GOOD | table).items())
        text += f"\n[[forward]]\n{lines}\n"
    file.write_text(text)
    file.chmod(0o600)
    return file


WRONG = [
    ({"url": '"htps://x/"'}, "forward 1.url: no destination's URL begins with htps"),
    ({"url": '"x"'}, "forward 1.url: expected a URL such as https://"),
    ({"url": '"http:///x"'}, "forward 1.url: has no host"),
    ({"url": '"http://h:99999/x"'}, "forward 1.url: is no URL"),
    ({"url": '"http://a:b@h/x"'}, "forward 1.url: has credentials in it: give them as headers"),
    ({"url": '"http://h/ü"'}, "forward 1.url: has characters that a URL cannot have"),
    ({"url": '"amqp://h/"'}, "pip install 'receiptd[amqp]'"),
    ({"name": '"My App"'}, "forward 1.name: 'My App' is no name"),
    ({"secret": '"whsec_!!"'}, "forward 1.secret: is no base64"),
    ({"secret": '["aGFsbG8=", "?"]'}, "forward 1.secret: secret 2 is no base64"),
    ({"secret": '""'}, "forward 1.secret: is no base64"),
    ({"types": '["receipt.store"]'}, "did you mean 'receipt.stored'?"),
    ({"states": '["DELIVERD"]'}, "did you mean 'DELIVERED'?"),
    ({"kinds": '["deliver"]'}, "did you mean 'delivery'?"),
    ({"verdicts": '["duplicate"]'}, "'duplicate' is no verdict"),
    ({"providers": '["csof"]'}, "did you mean 'csoft'?"),
    ({"endpoints": '["sop"]'}, "forward 1.endpoints: 'sop' is no endpoint's name: did you mean"),
    ({"batsh": "3"}, "forward 1.batsh: unknown key: did you mean 'batch'?"),
    ({"batch": "0"}, "forward 1.batch: expected at least 1"),
    ({"timeout": '"soon"'}, "forward 1.timeout: 'soon' is no duration"),
    ({"timeout": "15"}, 'forward 1.timeout: expected a duration in quotes, such as "15s"'),
    ({"timeout": '"1h"'}, "forward 1.timeout: expected at most 10m"),
    ({"networks": '["10.0.0.1/8"]'}, "forward 1.networks"),
    ({"format": '"xml"'}, "forward 1.format: expected 'json'"),
    ({"format": '"url"', "url": '"http://h/?%q"'}, "forward 1.url: %q is no escape"),
    ({"format": '"url"', "url": '"http://%P/"'}, "not in the host"),
    ({"format": '"url"', "batch": "5"}, "forward 1.batch"),
    ({"format": '"form"', "batch": "5"}, "forward 1.batch"),
    ({"method": '"GET"'}, 'forward 1.method: GET is for format = "url" alone'),
    ({"headers": '{ "Bad Name" = "x" }'}, "'Bad Name' is no name of a header"),
    ({"headers": '{ X = "a\\r\\nb" }'}, "the value of X cannot be sent"),
    ({"headers": '{ Webhook-Id = "x" }'}, "Webhook-Id is set by receiptd itself"),
]


@pytest.mark.parametrize(("keys", "text"), WRONG, ids=[text[:40] for _, text in WRONG])
def test_what_is_wrong_is_said(tmp_path, keys, text):
    with pytest.raises(ConfigError) as found:
        load(written(tmp_path, keys))
    assert text in str(found.value)
    assert str(tmp_path / "receiptd.toml") in str(found.value)


def test_two_destinations_need_two_names(tmp_path):
    with pytest.raises(ConfigError, match=r"forward 2\.name: destination 1 has the name 'app'"):
        load(written(tmp_path, {}, {}))


def test_secrets_are_never_shown(tmp_path):
    secrets = {
        "secret": '"whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"',
        "headers": '{ Authorization = "Bearer top-secret" }',
        "url": '"http://127.0.0.1:9/?token=hidden"',
    }
    file = written(tmp_path, secrets)
    config = load(file)
    assert "c2VjcmV0" not in repr(config)
    assert "top-secret" not in repr(config)
    done = run("check-config", "--config", str(file))
    assert done.exit_code == 0, done.output
    for hidden in ("c2VjcmV0", "top-secret", "hidden"):
        assert hidden not in done.output
    assert "http://127.0.0.1:9/?" in done.output
    file.chmod(0o644)
    assert "chmod" in run("check-config", "--config", str(file)).output


def test_what_is_doubtful_is_said(tmp_path):
    file = written(tmp_path, {"url": '"http://app.example.com/"'})
    done = run("check-config", "--config", str(file))
    assert "warning: forward app: without a secret what is sent is not signed" in done.output
    assert "warning: forward app: http: is not encrypted" in done.output
    file = written(tmp_path, {"secret": '"aGFsbG8="'})
    assert "secret 1 is of 5 bytes" in run("check-config", "--config", str(file)).output
