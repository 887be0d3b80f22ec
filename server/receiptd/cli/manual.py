"""Manual pages (man(7)): of each command out of its help text, and of the configuration file out
of what `receiptd init` writes.

They are made when they are asked for, so they say what this receiptd does, also of providers that
other packages bring.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from inspect import cleandoc
from itertools import groupby

import click

from receiptd import __version__

CONFIG = "man/man5/receiptd.toml.5"

_TABLE = re.compile(r"#?(\[+[a-z.]+\]+)")
"""A line of the configuration that begins a table."""


def names() -> list[str]:
    """Of all pages, such as `man/man1/receiptd-serve.1`."""
    return [*(_name(ctx) for ctx in _commands()), CONFIG]


def page(name: str) -> str:
    """A page's text. `name` is one of `names`."""
    if name == CONFIG:
        return "\n".join(_of_config()) + "\n"
    (ctx,) = (ctx for ctx in _commands() if _name(ctx) == name)
    return "\n".join(_of_command(ctx)) + "\n"


def _commands() -> Iterator[click.Context]:
    """Every command that is shown, from `receiptd` itself down."""
    from receiptd.cli import main

    return _below(click.Context(main, info_name="receiptd", **main.context_settings))


def _below(ctx: click.Context) -> Iterator[click.Context]:
    yield ctx
    for name, command in sorted(getattr(ctx.command, "commands", {}).items()):
        if not command.hidden:
            yield from _below(click.Context(command, info_name=name, parent=ctx))


def _path(ctx: click.Context) -> str:
    """As it is called, without the arguments of what it is below."""
    above = f"{_path(ctx.parent)} " if ctx.parent else ""
    return f"{above}{ctx.info_name}"


def _title(ctx: click.Context) -> str:
    return _path(ctx).replace(" ", "-")


def _name(ctx: click.Context) -> str:
    return f"man/man1/{_title(ctx)}.1"


# --- Commands


def _of_command(ctx: click.Context) -> Iterator[str]:
    command = ctx.command
    title = _title(ctx)
    yield from _head(title, 1)
    short = command.get_short_help_str(limit=200).rstrip(".")
    yield rf"{_escaped(title)} \- {_escaped(short[:1].lower() + short[1:])}"
    yield ".SH SYNOPSIS"
    pieces = " ".join(command.collect_usage_pieces(ctx))
    yield rf"\fB{_escaped(_path(ctx))}\fR {_escaped(pieces)}"
    yield ".SH DESCRIPTION"
    yield from _help(cleandoc(command.help or ""))
    yield ".SH OPTIONS"
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record:
            yield from _item(*record)
    below = [each for each in _below(ctx) if each.parent is ctx]
    if below:
        yield ".SH COMMANDS"
        for each in below:
            short = each.command.get_short_help_str(limit=200)
            yield from _item(f"{each.info_name}", f"{short} See {_title(each)}(1).")
    yield ".SH SEE ALSO"
    others = [ctx.parent] if ctx.parent else []
    seen = [f"{_title(each)}(1)" for each in (*others, *below)]
    yield _escaped(", ".join([*seen, "receiptd.toml(5)"]))


def _help(text: str) -> Iterator[str]:
    """The paragraphs of a help text; those behind a `\\b` have lines of their own."""
    for number, paragraph in enumerate(text.replace("\f", "").split("\n\n")):
        lines = paragraph.splitlines()
        if lines and lines[0].strip() == "\b":
            if lines[1].strip() == "Examples:":
                yield ".SH EXAMPLES"
            else:
                yield from (".PP", _escaped(lines[1]))
            yield from _verbatim(line[2:] for line in lines[2:])
            continue
        if number:
            yield ".PP"
        yield _escaped(" ".join(paragraph.split()))


# --- The configuration


def _of_config() -> Iterator[str]:
    from receiptd.cli.template import template

    yield from _head("receiptd.toml", 5)
    yield r"receiptd.toml \- configuration of receiptd"
    yield ".SH DESCRIPTION"
    for number, block in enumerate(template().strip().split("\n\n")):
        lines = block.splitlines()
        prose = [line[1:].removeprefix(" ") for line in lines if re.match("#( |$)", line)]
        code = [line.removeprefix("#") for line in lines if not re.match("#( |$)", line)]
        table = code[0] if code and _TABLE.fullmatch(code[0]) else None
        if table is not None:
            yield f".SH {_escaped(table)}"
            yield from _prose(prose)
            yield from _verbatim(code[1:])
        elif code:
            yield from _item(code[0].partition(" = ")[0], "")
            yield from _prose(each for each in prose if not each.startswith("Default: "))
            for each in prose:
                if each.startswith("Default: "):
                    yield from (".br", _escaped(each))
            for line in code:
                yield from (".br", _escaped(f"Example: {line}"))
        else:
            yield from [".PP"] if number else []
            yield from _prose(prose)
    yield ".SH FILES"
    yield from _item(
        "receiptd.toml",
        "in the working directory, unless --config or the environment variable RECEIPTD_CONFIG "
        "names another file",
    )
    yield ".SH SEE ALSO"
    yield _escaped("receiptd(1), receiptd-init(1), receiptd-check-config(1)")


def _prose(lines: Iterable[str]) -> Iterator[str]:
    """Text in paragraphs; what is indented is a table, whose lines stay."""
    for kind, some in groupby(lines, key=lambda line: (not line.strip(), line.startswith("  "))):
        empty, table = kind
        if empty:
            yield ".PP"
        elif table:
            yield from _verbatim(some)
        else:
            yield _escaped(" ".join(some))


# --- man(7)


def _head(title: str, section: int) -> Iterator[str]:
    yield r""".\" Made by receiptd contrib"""
    yield f'.TH "{_escaped(title.upper())}" {section} "" "receiptd {__version__}" "receiptd"'
    yield from (".nh", ".ad l", ".SH NAME")


def _item(tag: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield rf"\fB{_escaped(tag)}\fR"
    if text:
        yield _escaped(" ".join(text.split()))


def _verbatim(lines: Iterable[str]) -> Iterator[str]:
    some = list(lines)
    if some:
        yield from (".PP", ".nf", ".RS 4", *map(_escaped, some), ".RE", ".fi")


def _escaped(text: str) -> str:
    """`text` so that troff shows it as it is: a hyphen can be copied into a shell."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("`", r"\(ga")
    text = text.replace("^", r"\(ha").replace("~", r"\(ti")
    text = re.sub("[^\x00-\x7e]", lambda found: f"\\[u{ord(found[0]):04X}]", text)
    return rf"\&{text}" if text.startswith((".", "'")) else text
