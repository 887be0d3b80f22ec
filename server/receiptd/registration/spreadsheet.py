"""Cells of CSV that no spreadsheet takes for a formula: anybody who can post could write one."""

from __future__ import annotations

import re
from typing import Any

_NUMBER = re.compile(r"[+-](?:[0-9]{1,64}(?:[.,][0-9]{1,64})?)")

_ALWAYS = ("=", "@", "\t", "\r", "\n", "\uff1d", "\uff20")
_UNLESS_A_NUMBER = ("+", "-", "\uff0b", "\uff0d")


def no_formula(cell: Any) -> Any:
    """`cell` as a spreadsheet takes it for a text or a number, and never for a formula: with an
    apostrophe in front where it begins as a formula does.

    What begins so is said by OWASP ("CSV Injection"). A plain number with its sign, such as an
    international phone number, is none.
    """
    if not isinstance(cell, str) or not cell:
        return cell
    begins = cell.lstrip(" ")[:1]
    if begins in _ALWAYS or (begins in _UNLESS_A_NUMBER and not _NUMBER.fullmatch(cell)):
        return f"'{cell}"
    return cell


def as_it_was(cell: str) -> str:
    """`cell` without the apostrophe that `no_formula` has put in front."""
    if cell[:1] == "'" and cell[1:].lstrip(" ")[:1] in (*_ALWAYS, *_UNLESS_A_NUMBER):
        return cell[1:]
    return cell
