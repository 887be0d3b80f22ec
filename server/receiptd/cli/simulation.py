"""The command `simulate`: its options, its progress bar, and what it tells in the end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar

import click

from receiptd.cli.destination import destination
from receiptd.cli.options import Failed
from receiptd.cli.output import json_text, say
from receiptd.cli.progress import COUNTED, LEFT, progress_bar
from receiptd.cli.simulation_summary import summary, tell
from receiptd.errors import did_you_mean

if TYPE_CHECKING:
    from receiptd.providers import Provider
    from receiptd.receipt import Kind
    from receiptd.simulate.dialects import Dialect
    from receiptd.simulate.run import Run


class _OrDestination(click.Command):
    """`simulate destination` is another command."""

    commands: ClassVar = {"destination": destination}
    """For the manual pages, as of a group."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """The context of the one that is meant."""
        if args[:1] == ["destination"]:
            name = f"{info_name} destination"
            return destination.make_context(name, args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


def _providers(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    """For a shell: what the word that was begun may become."""
    from receiptd import providers

    try:
        known = [*providers.load(), "destination"]
    except providers.ProviderError:  # the command itself says what is wrong
        known = []
    return [name for name in known if name.startswith(begun)]


@click.command(cls=_OrDestination, short_help="Post receipts as a provider would.")
@click.argument("provider", metavar="PROVIDER", shell_complete=_providers)
@click.option("--url", required=True, help="Where to post: the endpoint's whole URL.")
@click.option(
    "--count",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    help="How many receipts to post. Default: 1",
)
@click.option(
    "--rate",
    metavar="R",
    type=click.FloatRange(min=0, min_open=True),
    help="The most posts per second. Default: no limit.",
)
@click.option(
    "--connections",
    metavar="C",
    type=click.IntRange(min=1, max=1000),
    default=8,
    help="How many connections to use at once. Default: 8",
)
@click.option("--username", help="The username in the post (csoft).")
@click.option(
    "--pin",
    envvar="SIMULATE_PIN",
    help="The PIN in the post (csoft). Other users of this machine can read a command line: "
    "the environment variable SIMULATE_PIN does the same.",
)
@click.option(
    "--kind",
    metavar="KIND",
    type=click.Choice(["sent", "delivery", "reply", "call"]),
    help="Post receipts of one kind alone, such as reply: what phones send. Default: a mixture.",
)
@click.option("--form", is_flag=True, help="Post the form, not SOAP (csoft).")
@click.option(
    "--token",
    envvar="SIMULATE_TOKEN",
    help="The endpoint's token, sent as ?token=… ; also as environment variable SIMULATE_TOKEN.",
)
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="A key of the endpoint's configuration that shapes the posts, such as "
    "timezone=Europe/Rome. May be given several times.",
)
@click.option(
    "--seed",
    metavar="S",
    type=int,
    help="Make the same receipts in each run with the same number, so that a second run "
    "sends duplicates. Default: new receipts in each run.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    help="How long to wait for an answer. Default: 30",
)
@click.option(
    "--verbose", "-v", is_flag=True, help='List every post that was not answered "received".'
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def simulate(provider: str, url: str, as_json: bool, verbose: bool, **options: Any) -> None:
    """Post receipts as PROVIDER (such as csoft) would, and say how they were answered.

    It reads an answer as that provider does. "received" is a Report of 0 for csoft, and any 2xx
    without another Report for the others. "refused" counts posts that were answered, but not
    taken as a receipt. "failed" counts posts that met a fault, a busy server or no answer.

    The receipts are made up. They go to --url and nowhere else. The URL may hold HTTP Basic
    credentials, as in http://user:password@127.0.0.1:8080/seeme. The exit code is 1 if any post
    was not answered "received". PROVIDER destination is another command: it plays the
    application that receives forwarded receipts (receiptd simulate destination --help).

    \b
    Examples:
      receiptd simulate csoft --url http://127.0.0.1:8080/soap
      receiptd simulate csoft --url http://127.0.0.1:8080/soap \\
          --username ANOther.61234 --pin BLUE.music --count 10000
      receiptd simulate csoft --form --url http://127.0.0.1:8080/soap --count 60 --rate 1
      receiptd simulate csoft --kind reply --url http://127.0.0.1:8080/soap
      SIMULATE_TOKEN=secret receiptd simulate csoft --url https://dlr.example.com/soap
    """
    from receiptd.providers import Provider
    from receiptd.simulate import dialects
    from receiptd.simulate import run as simulation

    sender = _provider(provider, options["settings"])
    if type(sender).sample is Provider.sample:
        raise click.UsageError(
            f"nothing is known of what {provider} posts: put a request into a file, and see with "
            "`receiptd try` what becomes of it"
        )
    dialect = _dialect(sender, options["username"], options["pin"], options["form"])
    kind = _kind(sender, options["kind"])
    try:
        to = dialects.target(url, options["token"])
    except ValueError as error:
        raise click.UsageError(f"--url: {error}") from None
    run = simulation.Run(
        to,
        dialect,
        simulation.samples(sender, options["count"], options["seed"], kind),
        rate=options["rate"],
        connections=min(options["connections"], options["count"]),
        timeout=options["timeout"],
    )
    try:
        run.start()
        _watch(run, options["count"])
    except simulation.CannotConnect as error:
        raise Failed(str(error)) from None
    except KeyboardInterrupt:
        run.stop()
        run.wait()
        say("interrupted", err=True)
    if as_json:
        say(json_text(summary(provider, to, run.outcome), indent=2))
    else:
        tell(run.outcome, verbose)
    if run.outcome.stopped:
        raise Failed(f"stopped: {run.outcome.stopped}")
    if run.outcome.failures or run.outcome.sent < options["count"]:
        sys.exit(1)


def _provider(name: str, settings: tuple[str, ...]) -> Provider:
    """The provider's module, bound to an endpoint with `settings`."""
    from pydantic import ValidationError

    from receiptd import providers
    from receiptd.config import Endpoint

    known = providers.load()
    if name not in known:
        raise click.UsageError(
            f"no provider is called {name!r}: {did_you_mean(name, list(known))}"
        )
    pairs = dict(text.partition("=")[::2] for text in settings)
    try:
        endpoint = Endpoint.model_validate({"provider": name, "path": known[name].path} | pairs)
    except ValidationError as error:
        cause = error.errors()[0]
        text = str(cause.get("ctx", {}).get("error") or cause["msg"])
        raise click.UsageError(f"--set: {text}") from None
    return endpoint.bind()


def _kind(provider: Provider, name: str | None) -> Kind | None:
    """The kind that was asked for, where the provider has samples of it."""
    from receiptd.receipt import Kind
    from receiptd.simulate.run import samples

    if name is None:
        return None
    kind = Kind(name)
    try:
        next(samples(provider, 1, 0, kind))
    except LookupError:
        what = f"nothing of that kind is known of {provider.name}"
        raise click.UsageError(f"--kind {name}: {what}") from None
    return kind


def _dialect(provider: Provider, username: str | None, pin: str | None, form: bool) -> Dialect:
    from receiptd.providers import named
    from receiptd.simulate import dialects

    if provider.dialect is not None:
        dialect: Dialect = named(provider.dialect)(provider, username, pin, form=form)
        return dialect
    for option, given in (("--username", username), ("--pin", pin), ("--form", form)):
        if given:
            raise click.UsageError(
                f"{option} is for csoft alone: {provider.name} posts carry no credentials. Use "
                "--token, or http://user:password@… in --url"
            )
    return dialects.Query(provider)


def _watch(run: Run, count: int) -> None:
    """Wait for the end, with a progress bar where somebody looks."""
    bar = progress_bar("posting", COUNTED, LEFT)
    if bar is None:
        while not run.wait(1.0):
            pass
        return
    with bar as progress:
        task = progress.add_task("posting", total=count)
        while not run.wait(0.1):
            progress.update(task, completed=run.outcome.sent)
