"""The command `try`: what a request would become, without storing anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receiptd.cli.options import Failed, config_option, load
from receiptd.cli.output import json_text, printable, say

if TYPE_CHECKING:
    from receiptd.config import Config, Endpoint
    from receiptd.providers import Post, Provider, Reply
    from receiptd.receipt import Receipt
    from receiptd.soap.trial import Trial

SOAP = "receiptd.soap.endpoint:SoapEndpoint"
"""What takes envelopes."""
LARGEST_FILE = 32 * 1024 * 1024
"""Bytes; no post that a server takes is larger."""


@click.command("try", short_help="Say what a request would become, and store nothing.")
@click.argument("request_file", metavar="FILE", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--endpoint",
    "name",
    metavar="NAME",
    required=True,
    help="The endpoint that is to read it, by its name or its path in the configuration.",
)
@click.option(
    "--from",
    "address",
    metavar="ADDRESS",
    help="The address that it comes from, where the endpoint asks for networks.",
)
@config_option
def try_request(request_file: Path, name: str, address: str | None, file: Path | None) -> None:
    """Say what a raw HTTP request in FILE would become: the receipts, what cannot be read, and
    the answer. Nothing is stored, and no server is asked.

    FILE holds a whole request as it is on the wire: request line, headers, an empty line, body.
    The signature is checked as of the present, and token, HTTP Basic, username and PIN as well:
    where the endpoint would refuse the request, that is said, and it is read all the same. The
    exit code is 1 where the request would not be taken.

    \b
    Examples:
      receiptd try delivered.http --endpoint acme
      receiptd try delivered.http --endpoint /acme --config /etc/receiptd.toml
      receiptd try csoft.http --endpoint soap --from 192.0.2.7
    """
    from receiptd.providers import testing

    config = load(file)
    endpoint = _endpoint(config, name)
    if request_file.stat().st_size > LARGEST_FILE:
        raise click.UsageError(
            f"{request_file} has more than {LARGEST_FILE} bytes: that is no post"
        )
    try:
        request = testing.request_of(request_file.read_bytes())
    except ValueError as error:
        raise click.UsageError(f"{request_file} holds no HTTP request: {error}") from None
    if not _tell(endpoint, config.server.public_url, request, address):
        raise Failed("the request would not be taken")


def _endpoint(config: Config, name: str) -> Endpoint:
    for endpoint in config.endpoint:
        if name in (endpoint.name, endpoint.path):
            return endpoint
    known = ", ".join(endpoint.name for endpoint in config.endpoint)
    raise click.UsageError(f"no endpoint is called {name!r}: expected one of {known}")


def _tell(endpoint: Endpoint, public_url: str | None, request: Any, address: str | None) -> bool:
    """Print what becomes of `request`; whether it would be taken."""
    from receiptd.providers import testing
    from receiptd.web.receiving.trial import refusal, trial_intake

    provider = endpoint.bind(public_url)
    if request.method not in provider.methods:
        say(f"refused: only {', '.join(provider.methods)} here, and not {request.method}")
        return False
    post = testing.post(provider, request)
    trial = None
    if provider.handler == SOAP:
        from receiptd.soap.trial import tried

        trial = tried(trial_intake(endpoint, public_url), request.body, request.content_type)
    login = (trial.username, trial.pin) if trial else provider.credentials(post)
    denied = refusal(endpoint, post, address, login)
    if denied:
        say(f"would be refused: {printable(denied)}")
    elif endpoint.networks and address is None:
        say("not looked at: whether it comes from the endpoint's networks (--from ADDRESS)")
    taken = _tell_soap(trial) if trial else _tell_post(provider, post)
    if denied and taken:
        say("(that is the answer to the same request where it is let in)")
    return taken and not denied


def _tell_soap(trial: Trial) -> bool:
    """Print what the Application made of an envelope; whether it is a receipt."""
    for receipt in trial.receipts:
        say(json_text(_shown(receipt), indent=2))
    if trial.refusal:
        say(f"invalid: {printable(trial.refusal)}")
    say(f"answer: {trial.status} {printable(trial.answer.decode().strip())}")
    return bool(trial.receipts)


def _tell_post(provider: Provider, post: Post) -> bool:
    """Print what the provider's module makes of a post; whether it would be taken."""
    from receiptd.providers import Ignored, Invalid, Unverified
    from receiptd.receipt import ACCEPTED, Outcome, Receipt, Verdict

    try:
        provider.verify(post)
        items = provider.read(post)
    except Unverified as error:
        say(f"refused: {printable(error.text)}")
        _say_answer(provider.refuse(post, Verdict(Outcome.UNAUTHORIZED, error.text)), error.status)
        return False
    except Invalid as error:
        say(f"invalid: {printable(error.field)}: {printable(error.text)}")
        _say_answer(provider.refuse(post, Verdict(Outcome.INVALID, error.text)))
        return False
    receipts = [each for each in items if isinstance(each, Receipt)]
    for item in items:
        if isinstance(item, Receipt):
            say(json_text(_shown(item), indent=2))
        elif isinstance(item, Ignored):
            say(f"ignored: {printable(item.text)}")
        else:
            say(f"invalid: {printable(item.field)}: {printable(item.text)}")
            if item.alone is not None:
                say(f"  in {printable(item.alone().decode(errors='replace')[:500])}")
    if not items or (not receipts and any(isinstance(each, Invalid) for each in items)):
        say("the request carries no receipt that can be read")
        return False
    _say_answer(provider.answer(receipts, [ACCEPTED] * len(receipts)))
    return True


def _shown(receipt: Receipt) -> dict[str, object]:
    """What is set of a receipt, but for the post's bytes."""
    fields = {name: value for name, value in receipt._asdict().items() if name != "raw"}
    return {
        name: value if isinstance(value, (str, int, dict)) else str(value)
        for name, value in fields.items()
        if value is not None and value != {}
    }


def _say_answer(reply: Reply, status: int | None = None) -> None:
    body = printable(reply.body.decode(errors="replace").strip())
    say(f"answer: {status or reply.status}" + (f" {body}" if body else ""))
