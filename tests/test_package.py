"""The wheel and the sdist: all that is needed is in them, and each build makes the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from kit.server import environment
from kit.wire import get
from receiptd import __version__

ROOT = Path(__file__).parents[1]
NOT_NEEDED = shutil.ignore_patterns(".*", "build", "dist", "__pycache__", "node_modules")


class Built(NamedTuple):
    """What a build has made."""

    wheel: Path
    sdist: Path


def build(source: Path, target: Path, *targets: str) -> Built:
    """Build as pip does, in the environment of the tests."""
    subprocess.run(
        [
            *(sys.executable, "-m", "hatchling", "build", "--directory", str(target)),
            *(word for each in targets or ("wheel", "sdist") for word in ("--target", each)),
        ],
        cwd=source,
        env={key: each for key, each in environment().items() if key != "SOURCE_DATE_EPOCH"},
        check=True,
        capture_output=True,
    )
    return Built(
        target / f"receiptd-{__version__}-py3-none-any.whl",
        target / f"receiptd-{__version__}.tar.gz",
    )


@contextmanager
def umask(mode: int) -> Iterator[None]:
    before = os.umask(mode)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """What is built of this checkout."""
    return build(ROOT, tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def unpacked(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist's folder."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(built.sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"receiptd-{__version__}"


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where PYTHONPATH finds the wheel, installed by pip; its dependencies are the tests'."""
    folder = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile")
    subprocess.run(
        [*pip, "--target", str(folder), str(built.wheel)], check=True, env=environment()
    )
    return folder


def below(folder: Path, *parts: str) -> set[str]:
    """The files below `folder / parts`, as paths from `folder`; a link is what it leads to."""
    return {
        str(Path(root, file).relative_to(folder))
        for root, _, files in os.walk(folder.joinpath(*parts), followlinks=True)
        for file in files
        if "__pycache__" not in root
    }


def test_the_wheel_has_the_package_with_all_its_files_and_nothing_else(built):
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    server = ROOT / "server"
    assert names == below(server, "receiptd") | {"twisted/plugins/receiptd_plugin.py"}
    for needed in (
        "wsdl/sendsms5.wsdl",
        "store/migrations/versions/0001_receipts.py",
        "contrib/systemd/receiptd.service",
        "contrib/prometheus/alerts.yml",
        "contrib/grafana/receiptd.json",
        "docs/operations.md",
        "py.typed",
    ):
        assert f"receiptd/{needed}" in names


def test_the_sdist_has_what_the_checkout_has(built):
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no checkout of git's")
    with tarfile.open(built.sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    for link in ("contrib", "docs", "wsdl"):
        assert below(ROOT, link) == {
            name.removeprefix("server/receiptd/")
            for name in names
            if name.startswith(f"server/receiptd/{link}/")
        }
    there = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    assert names >= there
    extra = {name for name in names - there if not name.startswith("server/receiptd/")}
    new = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert extra - set(new.stdout.splitlines()) == {"PKG-INFO"}


def test_they_are_the_same_bytes_wherever_and_whenever_they_are_built(built, tmp_path):
    copy = tmp_path / "elsewhere"
    with umask(0o077):
        # Other times, other modes, another folder.
        shutil.copytree(
            ROOT, copy, symlinks=True, ignore=NOT_NEEDED, copy_function=shutil.copyfile
        )
        for name in (".gitignore", ".dockerignore", ".ci"):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, copy_function=shutil.copyfile)
            else:
                shutil.copyfile(source, copy / name)
        for name in below(ROOT, "scripts") | below(ROOT, ".ci"):
            (copy / name).chmod(0o700 if os.access(ROOT / name, os.X_OK) else 0o600)
        again = build(copy, tmp_path / "again")
    assert again.wheel.read_bytes() == built.wheel.read_bytes()
    assert again.sdist.read_bytes() == built.sdist.read_bytes()


def test_the_wheel_is_the_same_that_is_built_of_the_sdist(built, unpacked, tmp_path):
    again = build(unpacked, tmp_path / "again", "wheel")
    assert again.wheel.read_bytes() == built.wheel.read_bytes()


def test_what_is_installed_serves_and_prints_what_comes_with_it(
    serve, installed, monkeypatch, tmp_path
):
    monkeypatch.setenv("PYTHONPATH", str(installed))
    server = serve('[[endpoint]]\nprovider = "csoft"\npath = "/soap"\n')
    assert "definitions" in get(server.port, "/soap?wsdl").text

    def receiptd(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "receiptd", *arguments],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    there = subprocess.run(
        [sys.executable, "-c", "import receiptd; print(receiptd.__file__)"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert there.stdout == f"{installed}/receiptd/__init__.py\n"
    assert receiptd("--version") == f"receiptd {__version__}\n"
    receiptd("db", "upgrade", "--database", "sqlite:///new.db")
    receiptd("contrib", "--to", "all")
    here = {"contrib": "", "docs": "docs/"}
    for folder, start in here.items():
        for name in below(ROOT / folder):
            if name != "systemd/receiptd.service":  # names the program
                written = tmp_path / "all" / f"{start}{name}"
                assert written.read_bytes() == (ROOT / folder / name).read_bytes()
