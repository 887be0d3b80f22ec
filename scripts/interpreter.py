"""What a Python is: whether receiptd supports it, and how it was built.

`scripts/venv` runs this file with each Python that it finds, and the benchmark imports it. So it
has to be valid in Python 3.6 too.
"""

import platform
import sys
import sysconfig

OLDEST, NEWEST = (3, 11), (3, 15)
"""The versions that receiptd supports; `requires-python` in pyproject.toml says the same."""


def supported() -> bool:
    """Whether receiptd runs with this Python. Builds without the GIL are not tested."""
    return OLDEST <= sys.version_info[:2] <= NEWEST and not sysconfig.get_config_var(
        "Py_GIL_DISABLED"
    )


def optimized() -> bool:
    """Whether it was built with profile-guided optimization, which saves a fifth of the time.

    `configure --enable-optimizations` turns it on and is recorded. Debian optimizes by rules of
    its own, of which the build records nothing: what is under /usr is a distribution's.
    """
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return "--enable-optimizations" in arguments or sys.base_prefix == "/usr"


def description() -> str:
    """Version, place, optimization and compiler, on one line."""
    return (
        f"Python {platform.python_version()} in {sys.base_prefix}, built with "
        f"{platform.python_compiler()}, {'with' if optimized() else 'WITHOUT'} optimizations"
    )


def rank() -> str:
    """Sorts as text: of two Pythons the better one is the greater."""
    major, minor, patch, level, _ = sys.version_info
    return "{:d} {:d}.{:02d} {:d} {:03d}".format(
        level == "final", major, minor, optimized(), patch
    )


if __name__ == "__main__":
    if not supported():
        sys.exit(1)
    print(rank())
