"""What is wrong with `[[forward]]` is said with its place and the remedy."""

from __future__ import annotations

import subprocess
import sys

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


AMQP, KAFKA, NATS = ({"url": f'"{each}"'} for each in ("amqp://h", "kafka://h", "nats://h"))
CA = {"ca": '"/nowhere/ca.pem"'}

BROKERS = [
    (AMQP | {"url": '"amqp:///"'}, "forward 1.url: has no host"),
    (AMQP | {"url": '"amqp://hush:hush@h:port/"'}, "forward 1.url: is no URL"),
    (AMQP | {"url": '"amqp://hush@hush@h/"'}, "forward 1.url: has two @"),
    (AMQP | {"url": '"amqp://h,i/"'}, "forward 1.url: names several hosts"),
    (AMQP | {"url": '"amqp://h/a/b"'}, "forward 1.url: has more than a virtual host"),
    (AMQP | {"url": '"amqp://h?heartbeat=5"'}, "forward 1.url: takes nothing behind ?"),
    (AMQP | {"url": '"amqp://h/ü"'}, "forward 1.url: has characters that a URL cannot have"),
    (AMQP | {"routing_key": '"{provder}"'}, "forward 1.routing_key: {provder} is no field: expec"),
    (AMQP | {"routing_key": '"a{"'}, "forward 1.routing_key: has a brace that nothing belongs to"),
    (AMQP | {"exchnge": '"x"'}, "forward 1.exchnge: unknown key: did you mean 'exchange'?"),
    (AMQP | {"secret": '"aGFsbG8="'}, "forward 1.secret: is for webhooks alone"),
    (AMQP | {"expect_body": '"ok"'}, "forward 1.expect_body: is for webhooks alone"),
    (AMQP | {"format": '"form"'}, 'forward 1.format: "form" is for webhooks alone'),
    (AMQP | CA, "forward 1.ca: is for TLS alone, which is not spoken: amqps://"),
    ({"url": '"amqps://h"'} | CA, "forward 1.ca: cannot be read: /nowhere/ca.pem: No such file"),
    ({"url": '"amqps://h"', "ca": '"/dev/null"'}, "forward 1.ca: cannot be read: /dev/null: no"),
    ({"url": '"amqps://h"', "key": '"/x"'}, "forward 1.key: is of a certificate: name that too"),
    (KAFKA | {"url": '"kafka://h/receipts"'}, "forward 1.url: has a path: the topic is given as"),
    (KAFKA | {"url": '"kafka://hush@h"'}, "forward 1.url: has a user without a password"),
    (KAFKA | {"topic": '"a b"'}, "forward 1.topic: 'a b' is no topic"),
    (KAFKA | {"mechanism": '"PLAIN"'}, "forward 1.mechanism: is for a user and password"),
    (KAFKA | {"networks": '["10.0.0.0/8"]'}, "forward 1.networks: its library connects by itself"),
    (KAFKA | CA, "forward 1.ca: is for TLS alone, which is not spoken: tls = true"),
    (NATS | {"url": '"nats://h/x"'}, "forward 1.url: has a path: the subject is given as"),
    (NATS | {"subject": '"a.*"'}, "forward 1.subject: is no subject"),
    (NATS | {"subject": '"a..{state}"'}, "forward 1.subject: is no subject"),
    (NATS | {"headers": '{ Nats-Rollup = "all" }'}, "forward 1.headers: Nats-Rollup is for NATS"),
    (NATS | CA, "forward 1.ca: is for TLS alone, which is not spoken: tls://"),
]


@pytest.mark.parametrize(("keys", "text"), BROKERS, ids=[text[:50] for _, text in BROKERS])
def test_what_is_wrong_with_a_broker_is_said(tmp_path, keys, text):
    if keys["url"].startswith('"kafka'):
        pytest.importorskip("confluent_kafka")
    with pytest.raises(ConfigError) as found:
        load(written(tmp_path, keys))
    assert text in str(found.value)
    assert "hush" not in str(found.value)


@pytest.mark.parametrize(
    ("url", "library", "extra"),
    [
        ("amqps://h", "pika", "amqp"),
        ("kafka://h", "confluent_kafka", "kafka"),
        ("tls://h", "nats", "nats"),
    ],
)
def test_without_its_extra_a_broker_says_what_to_install(tmp_path, url, library, extra):
    file = written(tmp_path, {"url": f'"{url}"'})
    without = f"import sys; sys.modules[{library!r}] = None; from receiptd.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", without, "check-config", "--config", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert f"pip install 'receiptd[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_passwords_of_brokers_are_never_shown(tmp_path):
    for url in ("amqp://app:hush@broker/", "nats://hush@broker", "nats://a:hush@b,c:1"):
        file = written(tmp_path, {"url": f'"{url}"'})
        assert "hush" not in repr(load(file))
        done = run("check-config", "--config", str(file))
        assert done.exit_code == 0, done.output
        assert "hush" not in done.output
        assert "it is not encrypted: phone numbers and the password pass" in done.output
        file.chmod(0o644)
        assert "chmod" in run("check-config", "--config", str(file)).output


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
