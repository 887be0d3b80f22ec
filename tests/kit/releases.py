"""An earlier release of receiptd, out of the history that the checkout has."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

EARLIER = "4b94337"
"""A commit of 0.1.0: its database stands at revision 0002."""


def earlier_release(folder: Path) -> Path:
    """Install it into a folder beneath `folder`, without what it depends on; PYTHONPATH then makes
    it the receiptd that starts."""
    archive = subprocess.run(
        ["git", "archive", EARLIER, "server", "wsdl", "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
    )
    if archive.returncode:
        pytest.skip(f"the history of this checkout does not reach back to {EARLIER}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="tar")  # the tar has a link: wsdl/
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    # Its own providers, and not those that the environment's receiptd names.
    metadata = folder / "server" / f"receiptd-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: receiptd\nVersion: {project['version']}\n"
    )
    lines = []
    for group, names in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in names.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder / "server"
