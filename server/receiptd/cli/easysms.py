"""`easysms-url`: a dlr-url to give to EasySMS, ready to copy."""

from __future__ import annotations

import click

from receiptd.cli.output import say


@click.command("easysms-url", short_help="Print a dlr-url for EasySMS.")
@click.argument("public_url", metavar="URL")
def easysms_url(public_url: str) -> None:
    """Print a dlr-url for EasySMS with every escape that it documents.

    URL is where EasySMS reaches the endpoint, with the endpoint's token where it has one; without
    a path the usual one, /easysms, is added. What is printed goes to EasySMS as `dlr-url` with
    each sending, and into the configuration as the endpoint's `dlr_url`.

    \b
    Examples:
      receiptd easysms-url https://dlr.example.com
      receiptd easysms-url "https://dlr.example.com/easysms?token=a-long-random-one"
    """
    from receiptd.providers.easysms import template

    if not public_url.startswith(("http://", "https://")):
        raise click.UsageError(f"{public_url!r} is no URL such as https://dlr.example.com")
    say(template(public_url))
