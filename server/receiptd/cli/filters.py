"""What lists can be filtered by: the options, and the errors for words that name nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from receiptd.cli.options import Command
from receiptd.errors import did_you_mean

if TYPE_CHECKING:
    from receiptd.config import Config


class OneOf(click.ParamType):  # type: ignore[type-arg]
    """One of some words, in any case."""

    name = "word"

    def __init__(self, words: Iterable[str]) -> None:
        self.words = [str(each) for each in words]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word as it is spelt."""
        found = next((word for word in self.words if word.lower() == str(value).lower()), None)
        if found is None:
            what = param.name if param else "word"
            remedy = did_you_mean(str(value), self.words)
            self.fail(f"no {what} is called {value!r}: {remedy}", param, ctx)
        return found

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """For a shell: what the word that was begun may become."""
        begun = incomplete.lower()
        return [CompletionItem(word) for word in self.words if word.lower().startswith(begun)]


class Phone(click.ParamType):  # type: ignore[type-arg]
    """A phone number, in any notation."""

    name = "phone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The number as it was given."""
        text = str(value)
        plain = all(each.isdigit() or each in " +-()./\u00a0" for each in text)
        if len(text) > 64 or not plain or not any(map(str.isdigit, text)):
            self.fail(
                f"{value!r} is no phone number: expected digits, as in 447700912345 or "
                "'+44 7700 912345'",
                param,
                ctx,
            )
        return text


def any_of(option: str, choices: Iterable[str], help_text: str) -> Callable[[Command], Command]:
    """An option that may be given several times, of these choices."""
    kind = OneOf(choices)
    return click.option(
        option,
        metavar=option.removeprefix("--").upper(),
        multiple=True,
        type=kind,
        help=f"{help_text}: {', '.join(kind.words)}.",
    )


def texts(option: str, help_text: str) -> Callable[[Command], Command]:
    """An option that may be given several times."""
    return click.option(option, metavar="NAME", multiple=True, help=help_text)


def recipient_option(command: Command) -> Command:
    """`--recipient PHONE`."""
    return click.option(
        "--recipient", metavar="PHONE", type=Phone(), help="The phone, in any notation."
    )(command)


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one, shown in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def check_names(
    config: Config,
    *,
    provider: Collection[str],
    endpoint: Collection[str] = (),
    stored: Callable[[dict[str, Any]], Iterator[Any]],
) -> None:
    """See that the names that a list is filtered by are names of something.

    What was stored keeps its name, though an endpoint was renamed or a provider's package
    removed: a name that the configuration does not know is looked for there, too.

    :param stored: the rows that fit a filter with these fields.
    :raises click.UsageError: with the name that was probably meant.
    """
    from receiptd import providers

    known = {
        "provider": [*dict.fromkeys([*config.regions, *providers.names()])],
        "endpoint": [each.name for each in config.endpoint],
    }
    for field, names in (("provider", provider), ("endpoint", endpoint)):
        for name in names:
            if name not in known[field] and next(stored({field: (name,)}), None) is None:
                raise click.UsageError(
                    f"--{field}: no {field} is called {name!r}: {did_you_mean(name, known[field])}"
                )
