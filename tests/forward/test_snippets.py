"""What docs/forwarding.md shows for the application's side, run as it stands there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from kit.receiver import SECRET

PAGE = (Path(__file__).parents[2] / "docs" / "forwarding.md").read_text()

BODY = '{"type":"receipt.stored","data":{"receipt":{"text":"gr\u00fc\u00df \u20ac"}}}'

PYTHON = """
import json, sys
first_time = lambda name: True
keep = lambda receipt: None
{snippet}
given = json.load(sys.stdin)
try:
    receive(given["body"].encode(), given["headers"])
    print("true")
except Exception:
    print("false")
"""

PHP = """<?php
{snippet}
$given = json_decode(stream_get_contents(STDIN), true);
echo verify($given['body'], $given['headers'], $given['secret']) ? 'true' : 'false';
"""

JAVA = """
import static java.nio.charset.StandardCharsets.UTF_8;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.*;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public class Application {{
    {snippet}

    public static void main(String[] given) throws Exception {{
        Map<String, String> headers = new HashMap<>();
        for (int i = 1; i < given.length; i += 2) headers.put(given[i], given[i + 1]);
        System.out.print(verify(System.in.readAllBytes(), headers, given[0]));
    }}
}}
"""

NODE = """
{snippet}
const given = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
console.log(verify(Buffer.from(given.body), given.headers, given.secret));
"""


def snippet(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


def signed(secret=SECRET, body=BODY, *, ago=0):
    """A body and its headers, as they are sent."""
    now = datetime.now(UTC) - timedelta(seconds=ago)
    signature = Webhook(secret).sign("evt_abc_5", now, body)
    return body, {
        "webhook-id": "evt_abc_5",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": f"v1,{'A' * 43}= {signature}",  # the second of two secrets
    }


def cases():
    """What is asked, and the answer."""
    body, headers = signed()
    yield "as it is sent", body, headers, "true"
    yield "changed", body.replace("stored", "adopted"), headers, "false"
    yield "under another id", body, headers | {"webhook-id": "evt_abc_6"}, "false"
    yield "by another secret", *signed("whsec_" + "b" * 32), "false"
    yield "too old", *signed(ago=600), "false"
    yield "not signed", body, headers | {"webhook-signature": "v1,"}, "false"


def run(command, given):
    done = subprocess.run(
        command, input=given, capture_output=True, timeout=60, encoding="utf-8", check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("language", "program", "command", "suffix"),
    [
        ("python", PYTHON, sys.executable, ".py"),
        ("php", PHP, "php", ".php"),
        ("js", NODE, "node", ".js"),
    ],
)
def test_a_signature_is_verified(tmp_path, language, program, command, suffix):
    if shutil.which(command) is None:
        pytest.skip(f"{command} is not installed")
    file = tmp_path / f"application{suffix}"
    text = program.replace("{snippet}", snippet(language))
    file.write_text(text.replace('Webhook("whsec_...")', f"Webhook({SECRET!r})"))
    for what, body, headers, answer in cases():
        given = json.dumps({"body": body, "headers": headers, "secret": SECRET})
        assert run([command, str(file)], given) == answer, what


def test_a_signature_is_verified_by_java(tmp_path):
    if shutil.which("javac") is None:
        pytest.skip("no JDK is installed")
    (tmp_path / "Application.java").write_text(JAVA.format(snippet=snippet("java")))
    # Compiled once: each start of the compiler takes a second.
    run(["javac", "-encoding", "UTF-8", "-d", str(tmp_path), f"{tmp_path}/Application.java"], "")
    for what, body, headers, answer in cases():
        pairs = [text for pair in headers.items() for text in pair]
        command = ["java", "-cp", str(tmp_path), "Application", SECRET, *pairs]
        assert run(command, body) == answer, what
