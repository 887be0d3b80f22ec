"""The fields of a post: names and values, and what may be wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple, TypeAlias


class Invalid(Exception):
    """A post that is understood but carries nonsense; `field` names where."""

    alone: Callable[[], bytes] | None = None
    """Of a post with several items: gives a body that carries the one that is nonsense, and no
    other; None: the post as a whole."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field
        self.text = text


class Unverified(Exception):
    """A post whose signature is missing, wrong or too old; the text says which.

    `status` is what to answer, where the provider wants another than the endpoint's
    `refuse_status`.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


class Ignored(NamedTuple):
    """Something in a post that is no receipt and needs none: a ping, or news of another kind."""

    text: str
    """What it is, in a few words for the log."""


Pair: TypeAlias = tuple[str, str, str]
"""A name as it compares (without case), the name as sent, and a value; all decoded."""


class Fields:
    """The fields of one post."""

    __slots__ = ("_exact", "_secrets", "_several", "_values")

    def __init__(
        self,
        pairs: Iterable[Pair],
        *,
        exact: bool = False,
        secrets: frozenset[str] = frozenset(),
    ) -> None:
        """
        :param exact: whether names compare with case.
        :param secrets: names (in lower case) of the fields that `rest` leaves out.
        """
        self._exact = exact
        self._secrets = secrets
        # Further values are a dict's keys: in order, and found at once even where a hostile
        # post repeats one name ten thousand times.
        values: dict[str, tuple[str, str, dict[str, None]]] = {}
        self._several = False
        for key, name, value in pairs:
            if exact:
                key = name
            known = values.get(key)
            if known is None:
                values[key] = (name, value, _NONE)
                continue
            self._several = True
            if value and value != known[1]:
                if not known[1]:
                    values[key] = (known[0], value, _NONE)
                elif known[2]:
                    known[2][value] = None
                else:
                    values[key] = (known[0], known[1], {value: None})
        self._values = values

    def verbatim(self, name: str) -> str | None:
        """The value of `name` exactly as sent, None where it is absent or empty."""
        known = self._values.get(name) or self._folded(name)
        return known[1] or None if known else None

    def get(self, name: str) -> str | None:
        """The value of `name` without surrounding space, None where nothing else is left."""
        known = self._values.get(name) or self._folded(name)
        return known[1].strip() or None if known else None

    def _folded(self, name: str) -> tuple[str, str, dict[str, None]] | None:
        return None if self._exact else self._values.get(name.casefold())

    def rest(self, known: Collection[str]) -> dict[str, object]:
        """What was sent beside the fields `known` (in lower case, unless names are exact), by
        the names as sent: a text each, a list of texts where different ones came. Of a known
        field that came with several values, the values that do not count are here. No value of
        a secret ever is: a second PIN may be as good as the first."""
        if isinstance(known, frozenset) and not self._several and self._values.keys() <= known:
            return {}
        extra: dict[str, object] = {}
        for key, (name, first, others) in self._values.items():
            if key in known and not others:
                continue
            if is_secret(key.casefold(), self._secrets):
                continue
            if key not in known:
                extra[name] = [first, *others] if others else first
            else:
                left = list(others)
                extra[name] = left if len(left) > 1 else left[0]
        return extra


_NONE: dict[str, None] = {}


def is_secret(key: str, secrets: frozenset[str]) -> bool:
    """Whether a field of this name holds a secret: also as `pin[]`, `pin[0]`, `login[pin]`."""
    if key in secrets:
        return True
    return "[" in key and any(
        piece.strip() in secrets for piece in key.replace("]", "[").split("[")
    )
