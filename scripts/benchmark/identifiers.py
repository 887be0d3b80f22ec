"""Message identifiers made of numbers, the same ones as the load's."""

from __future__ import annotations

from hashlib import blake2b


def hexadecimal(number: int) -> str:
    """Eight hexadecimal digits, scattered as if random; no two numbers below 2^32 share one."""
    return f"{(number * 1664525 + 1013904223) % 2**32:08X}"


_INVERSE = pow(1664525, -1, 2**32)


def number_of(identifier: str) -> int:
    """The number that `hexadecimal` made an identifier of."""
    return (int(identifier, 16) - 1013904223) * _INVERSE % 2**32


def csoft_recipient(number: int) -> str:
    """The phone that the load's receipt is about."""
    return f"447700{number % 1_000_000:06d}"


def seeme_recipient(number: int) -> str:
    """The phone that the load's receipt is about."""
    return f"3630{number % 1_000_000:06d}"


def sequential(number: int) -> str:
    """Identifiers of a provider that counts."""
    return f"{number:012d}"


def scattered(number: int) -> str:
    """Identifiers of a provider that gives out random GUIDs, as CDYNE does."""
    return blake2b(number.to_bytes(8, "big"), digest_size=16).hexdigest()
