"""`contrib`: the files that come with receiptd for the programs around it, out of the package."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from receiptd.cli.options import Failed
from receiptd.cli.output import say
from receiptd.errors import did_you_mean

FOLDERS = {
    "systemd": "a service, its socket and its user (docs/operations.md)",
    "prometheus": "alert rules (docs/monitoring.md)",
    "grafana": "a dashboard (docs/monitoring.md)",
    "containers": "configuration of the programs in compose.yaml (docs/containers.md)",
    "man": "manual pages; man -l FILE shows one",
    "docs": "the documentation",
}
"""What can be had, and what it is for."""

UNIT = "systemd/receiptd.service"

_IN_UNIT = "/opt/receiptd/bin/receiptd"
"""Where the unit, as it is in the checkout, expects the program."""

_HIDDEN_FROM_UNIT = ("/home/", "/root/", "/run/user/")
"""What `ProtectHome=yes` in the unit takes away (systemd.exec(5))."""


def _names(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    """For a shell: what the word that was begun may become."""
    return [name for name in [*FOLDERS, *_all()] if name.startswith(begun)]


@click.command(short_help="Print units, alerts, the dashboard, manual pages.")
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=_names)
@click.option(
    "--to",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write into this folder, as cp -r does: a file under its name, a folder with what is in "
    "it. Without NAME all there is.",
)
@click.option("--force", is_flag=True, help="Replace files that are there and differ.")
def contrib(names: tuple[str, ...], to: Path | None, force: bool) -> None:
    """Print a file that comes with receiptd: a unit for systemd, Prometheus's alerts, Grafana's
    dashboard, a manual page, a page of the documentation.

    Without NAME the names are listed. The unit for systemd starts the receiptd that prints it.

    \b
    Examples:
      receiptd contrib
      receiptd contrib prometheus/alerts.yml >/etc/prometheus/receiptd-alerts.yml
      receiptd contrib --to /etc/systemd/system systemd/receiptd.service systemd/receiptd.socket
      receiptd contrib --to /usr/local/share man
      receiptd contrib docs/operations.md | less
    """
    there = _all()
    if not names and to is None:
        _list(there)
        return
    found = _chosen(names or tuple(FOLDERS), there)
    if any(name == UNIT for name in found.values()):
        _warn_of_home()
    if to is not None:
        _write({to / place: _content(name, there) for place, name in found.items()}, force)
        return
    if len(found) > 1:
        raise click.UsageError("one file is printed at a time; --to FOLDER writes several")
    for name in found.values():
        click.echo(_content(name, there), nl=False)


def _all() -> dict[str, Traversable | None]:
    """Every file by its name; None for one that is made when it is asked for."""
    root = files("receiptd")
    found: dict[str, Traversable | None] = {}
    for folder in FOLDERS:
        if folder == "man":
            from receiptd.cli.manual import names

            found |= dict.fromkeys(names())
        elif folder == "docs":
            found |= dict(_below(root / "docs", "docs/"))
        else:
            found |= dict(_below(root / "contrib" / folder, f"{folder}/"))
    return found


def _below(folder: Traversable, start: str) -> Iterator[tuple[str, Traversable]]:
    for each in sorted(folder.iterdir(), key=lambda each: each.name):
        if each.is_dir():
            yield from _below(each, f"{start}{each.name}/")
        else:
            yield start + each.name, each


def _list(there: Mapping[str, object]) -> None:
    for folder, purpose in FOLDERS.items():
        say(f"{folder}: {purpose}")
        for name in there:
            if name.startswith(f"{folder}/"):
                say(f"  {name}")


def _chosen(names: Sequence[str], there: Mapping[str, object]) -> dict[str, str]:
    """The files that `names` are about, by where they belong in a folder.

    :raises click.UsageError: for a name that there is not.
    """
    found = {}
    for each in names:
        name = each.rstrip("/")
        below = [file for file in there if file.startswith(f"{name}/")]
        if name not in there and not below:
            known = [*FOLDERS, *(file for file in there if not file.startswith("man/"))]
            raise click.UsageError(f"there is no {each!r}: {did_you_mean(name, known)}")
        if name in there:
            found[name.rpartition("/")[2]] = name
        start = len(name.rpartition("/")[0])
        found |= {file[start:].lstrip("/"): file for file in below}
    return found


def _content(name: str, there: Mapping[str, Traversable | None]) -> bytes:
    file = there[name]
    if file is None:
        from receiptd.cli.manual import page

        return page(name).encode()
    content = file.read_bytes()
    if name == UNIT:
        content = content.replace(_IN_UNIT.encode(), str(_program()).encode())
    return content


def _program() -> Path:
    """The receiptd that runs, in its environment."""
    return Path(sys.executable).with_name("receiptd")


def _warn_of_home() -> None:
    if str(_program()).startswith(_HIDDEN_FROM_UNIT):
        say(
            f"warning: {_program()} is hidden from services by ProtectHome=yes of the unit: "
            "install receiptd for the whole machine (docs/operations.md)",
            err=True,
        )


def _write(contents: Mapping[Path, bytes], force: bool) -> None:
    """Write the files, or none where one of them is there and differs.

    :raises Failed: where one is in the way or cannot be written.
    """
    for path, content in contents.items():
        try:
            if not force and path.exists() and path.read_bytes() != content:
                raise Failed(f"{path}: is there already and differs. Replace it with --force")
        except OSError as error:
            raise Failed(
                f"{path}: is there already and cannot be read: {error.strerror}"
            ) from None
    for path, content in contents.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise Failed(f"{path}: cannot be written: {error.strerror}") from None
        say(f"wrote {path}", err=True)
