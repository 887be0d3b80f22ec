"""`scripts/venv` takes a fitting Python, and removes nothing but virtual environments.

The checkout of these tests is a small one: the script with a project that needs nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROJECT = """
[build-system]
requires = []
build-backend = "tiny"
backend-path = ["."]

[project]
name = "tiny"
version = "1"
"""

BACKEND = """
import pathlib
import zipfile

FILES = {
    "METADATA": "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n",
    "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "RECORD": "",
}


def get_requires_for_build_editable(config_settings=None):
    return []


def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as wheel:
        for each, text in FILES.items():
            wheel.writestr("tiny-1.dist-info/" + each, text)
    return name
"""


@pytest.fixture
def checkout(tmp_path):
    """A checkout with the script in it, in a folder with a space."""
    folder = tmp_path / "a check out"
    (folder / "scripts").mkdir(parents=True)
    (folder / "server").mkdir()
    for name in ("venv", "interpreter.py"):
        shutil.copy(ROOT / "scripts" / name, folder / "scripts")
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "tiny.py").write_text(BACKEND)
    return folder


@pytest.fixture
def run(checkout):
    """Runs it in the checkout."""

    def run(*arguments, **environment):
        return subprocess.run(
            ["/bin/bash", "scripts/venv", *map(str, arguments)],
            cwd=checkout,
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"PYTHON": sys.executable} | environment,
        )

    return run


def fake_python(path: Path, rank: str, label: str) -> Path:
    """What answers as a Python of that rank would, and makes environments that name it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "#!/bin/bash\n"
        f'case $1 in *interpreter.py) echo "{rank}" ;; --version) echo "Python {label}" ;;\n'
        '-m) mkdir -p "$3/bin"; touch "$3/pyvenv.cfg"; cp "$0" "$3/bin/python" ;;\n'
        f'*) echo "{label}" ;; esac\n'
    )
    path.chmod(0o755)
    return path


# --- what is removed ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["precious", "with a space", "-x", "deep/er", "precious/"])
def test_a_folder_that_is_no_environment_survives(run, checkout, name):
    kept = checkout / name / "thesis.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("years of work")
    done = run(name)
    assert done.returncode == 1
    assert (
        "is no virtual environment (it has no pyvenv.cfg), so it is left as it is" in done.stderr
    )
    assert name.rstrip("/") in done.stderr
    assert kept.read_text() == "years of work"
    assert list(kept.parent.iterdir()) == [kept]


def test_a_folder_with_a_python_in_it_is_not_installed_into(run, checkout):
    (checkout / "usr" / "bin").mkdir(parents=True)
    (checkout / "usr" / "bin" / "python").symlink_to(sys.executable)
    done = run("usr", PYTHON="")
    assert (done.returncode, "is no virtual environment" in done.stderr) == (1, True)
    assert (checkout / "usr" / "bin" / "python").exists()


def test_a_file_and_a_link_survive(run, checkout):
    (checkout / "file").write_text("kept")
    target = checkout / "elsewhere"
    target.mkdir()
    (target / "pyvenv.cfg").write_text("kept")
    (checkout / "link").symlink_to(target)
    for name in ("file", "link", "link/"):
        done = run(name)
        assert done.returncode == 1
        assert name.rstrip("/") in done.stderr
    assert (checkout / "file").read_text() == "kept"
    assert (target / "pyvenv.cfg").read_text() == "kept"


def test_without_a_folder_it_says_what_it_wants(run):
    done = run()
    assert (done.returncode, "scripts/venv FOLDER" in done.stderr) == (2, True)


# --- what is made -------------------------------------------------------------------------------


def test_an_environment_is_made_once_and_a_broken_one_again(run, checkout):
    folder = checkout / "my env"
    folder.mkdir()  # one that is empty is used
    made = run(folder)
    assert made.returncode == 0, made.stderr
    assert "making a virtual environment" in made.stderr
    assert run(folder).stderr == ""
    # Where the named Python is not supported, what is there is kept.
    assert run(folder, PYTHON="/bin/false").returncode == 1
    assert (folder / "pyvenv.cfg").exists()
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to("/gone/python")
    rebuilt = run(folder)
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert "making a virtual environment" in rebuilt.stderr
    # PYTHON is the same: what changed is the project, so it is installed again, not made again.
    (checkout / "pyproject.toml").open("a").write("\n")
    again = run(folder)
    assert "making" not in again.stderr
    assert "installed" in again.stderr


def test_an_environment_whose_making_was_interrupted_is_made_again(run, checkout):
    folder = checkout / ".venv"
    venv.create(folder, symlinks=True, with_pip=False)
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert "making a virtual environment" in done.stderr


# --- which Python -------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["/bin/false", "no-such-python", "python9.9"])
def test_a_python_that_is_not_supported_is_refused_by_name(run, checkout, named):
    done = run("new", PYTHON=named)
    assert done.returncode == 1
    assert f"PYTHON={named} is no Python from 3.11 to 3.15" in done.stderr
    assert not (checkout / "new").exists()


@pytest.mark.parametrize(
    ("found", "taken"),
    [
        (["1 3.99 0 000"], 0),
        (["1 3.98 1 009", "1 3.99 0 000"], 1),
        (["1 3.99 0 009", "1 3.99 1 001", "1 3.98 1 012"], 1),
        (["1 3.99 1 002", "1 3.99 1 010"], 1),
        (["0 3.99 1 000", "1 3.98 0 000"], 1),
    ],
    ids=["the only one", "the newest", "an optimized build", "the latest patch", "a release"],
)
def test_of_several_the_best_is_taken(run, checkout, tmp_path, found, taken):
    # The real ones of this machine may be found too; these are better than any.
    pyenv = tmp_path / "py env"
    for number, rank in enumerate(found):
        fake_python(pyenv / "versions" / f"3.11.{number}" / "bin" / "python", rank, f"№{number}")
    done = run("env", PYTHON="", PYENV_ROOT=str(pyenv))
    assert f"with Python №{taken} ({pyenv}/versions/3.11.{taken}/bin/python)" in done.stderr


def test_the_range_of_pythons_is_said_alike_everywhere():
    told = subprocess.run(
        [sys.executable, "-c", "import interpreter as i; print(i.OLDEST, i.NEWEST)"],
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told == "(3, 11) (3, 15)\n"
    project = (ROOT / "pyproject.toml").read_text()
    assert 'requires-python = ">=3.11,<3.16"' in project
    classified = re.findall(r"Programming Language :: Python :: 3\.(\d+)", project)
    assert classified == [str(minor) for minor in range(11, 16)]
    script = (ROOT / "scripts" / "venv").read_text()
    assert "for version in 15 14 13 12 11; do" in script
    assert "Python 3.11 to 3.15" in (ROOT / "README.md").read_text()
