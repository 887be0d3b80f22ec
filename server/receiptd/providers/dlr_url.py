"""A dlr-url of the customer's own making: which query parameter carries which escape.

The convention is Kannel's: the gateway fetches the URL with each escape (a percent sign and a
letter) replaced by its value. A `Template` reads such a URL once and takes posts apart by it.

- `%%` is a percent sign. `%` and two hexadecimal digits is an encoded byte of a constant, such
  as `%20` or `%C3`, unless it begins with an escape that the gateway knows: `%c3` is the escape
  %c and a 3, as it is for the gateway (and is a doubt).
- Places such as `{message_id}` are filled in by the customer, in the URL of each sending.
- Only the query is read. Of a parameter that stands twice the first is read.
- Names compare without case, as everywhere, unless the template has two that differ in nothing
  else (`p=%p&P=%P`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from string import hexdigits
from typing import NamedTuple
from urllib.parse import unquote_plus, urlencode

from receiptd.providers.post import Fields, Invalid, Post
from receiptd.providers.values import Lenient, shown

LONGEST_COMPOUND = 1000
"""Characters of a value that holds several escapes; matching may take time by their square."""


class Piece(NamedTuple):
    """A piece of a parameter's value: an escape (or place), or a constant, decoded."""

    text: str
    escape: bool


class Parameter(NamedTuple):
    """A parameter of the template."""

    name: str
    pieces: list[Piece]

    @property
    def escapes(self) -> list[str]:
        """The escapes in its value."""
        return [piece.text for piece in self.pieces if piece.escape]

    @property
    def single(self) -> bool:
        """Whether its value is one escape and nothing else."""
        return len(self.pieces) == 1 and self.pieces[0].escape


class Compound(NamedTuple):
    """How a value that is more than one escape is taken apart."""

    parameter: Parameter
    pattern: re.Pattern[str]

    def apart(self, name: str, value: str | None) -> Iterator[tuple[str, str]]:
        """Each escape with what `value` has in its place.

        :param name: the parameter's.
        :raises Invalid: where `value` is not of the template's form.
        """
        pieces = self.parameter.pieces
        value = value or ""
        found = self.pattern.fullmatch(value) if len(value) <= LONGEST_COMPOUND else None
        if found is None:
            form = "".join(piece.text for piece in pieces)
            raise Invalid(name, f"{name} is {shown(value)}: the form {form} was expected")
        return zip(self.parameter.escapes, found.groups(), strict=True)


class Template:
    """A dlr-url, read once."""

    def __init__(
        self, dlr_url: str, known: Mapping[str, str | None], identifiers: Sequence[str]
    ) -> None:
        """
        :param known: the escapes and places, each with a regular expression for its values
            where they stand in a value with others (None: they may be anything).
        :param identifiers: those whose values may hold the very constant that follows them.
        """
        self._known = known
        self._token = re.compile(
            f"(?P<known>{'|'.join(map(re.escape, known))})"
            "|(?P<percent>%%)|%[0-9A-Fa-f]{2}|(?P<unknown>%[A-Za-z])"
        )
        self._path, _, query = dlr_url.partition("#")[0].partition("?")
        self.parameters = []
        for pair in query.replace("&amp;", "&").split("&"):
            name, _, value = pair.partition("=")
            if name:
                parameter = Parameter(unquote_plus(name).strip(), self._pieces(value))
                self.parameters.append(parameter)
        read: dict[str, Parameter] = {}
        for parameter in self.parameters:
            read.setdefault(parameter.name, parameter)
        self.single: dict[str, str] = {}
        """The name of the parameter that is one escape of the table, by escape."""
        self._compounds: list[Compound] = []
        self.names: dict[str, str] = {}
        """The name of the parameter that an escape is in, by escape."""
        for parameter in reversed(read.values()):
            if parameter.escapes and not parameter.single:
                self._compounds.insert(0, self._compound(parameter, identifiers))
                self.names |= dict.fromkeys(parameter.escapes, parameter.name)
            elif parameter.single and parameter.escapes[0] in known:
                self.single[parameter.escapes[0]] = parameter.name
        self.names |= self.single
        self._exact = len({name.casefold() for name in read}) < len(read)

    def fields(self, post: Post) -> Fields:
        """The fields of `post`, their names compared as this template needs."""
        return post.named(exact=True) if self._exact else post.fields

    def key(self, name: str) -> str:
        """`name` as `Fields.rest` compares it."""
        return name if self._exact else name.casefold()

    def values(self, fields: Fields, lenient: Lenient) -> dict[str, str | None]:
        """What was sent in the place of each escape. A value that is not of the template's form
        is kept by `lenient`."""
        get = fields.get
        values = {escape: get(name) for escape, name in self.single.items()}
        for compound in self._compounds:
            value = get(compound.parameter.name)
            if value is not None:
                apart = lenient(compound.apart, compound.parameter.name, value) or ()
                for escape, text in apart:
                    values.setdefault(escape, text.strip() or None)
        return values

    def filled(self, values: Mapping[str, str]) -> bytes:
        """The query that the gateway sends, each escape replaced by its value or nothing."""
        pairs = []
        for name, pieces in self.parameters:
            parts = [values.get(text, "") if escape else text for text, escape in pieces]
            pairs.append((name, "".join(parts)))
        return urlencode(pairs).encode()

    def doubts(self) -> Iterator[str]:
        """What of the template works otherwise than it looks, a sentence each."""
        in_path = [piece.text for piece in self._pieces(self._path) if piece.escape]
        if in_path:
            yield (
                f"dlr_url has {' and '.join(in_path)} in its path, where receiptd does not look: "
                "put each into a parameter behind the question mark"
            )
        unknown = {escape for parameter in self.parameters for escape in parameter.escapes}
        unknown -= self._known.keys()
        if unknown:
            yield (
                f"dlr_url has {', '.join(sorted(unknown))}, which the provider does not document: "
                "what is sent in its place is kept in extra"
            )
        names = [parameter.name for parameter in self.parameters]
        for name in dict.fromkeys(names):
            if names.count(name) > 1 and name in self.names.values():
                yield (
                    f"dlr_url has the parameter {name!r} more than once: only the first is read, "
                    "so give the others names of their own"
                )
        for parameter in self.parameters:
            for piece, behind in pairwise(parameter.pieces):
                if piece.escape:
                    yield from self._doubt(parameter.name, piece.text, behind)

    def _doubt(self, name: str, escape: str, behind: Piece) -> Iterator[str]:
        if behind.escape:
            yield (
                f"dlr_url has {escape} and {behind.text} with nothing in between in the parameter "
                f"{name!r}, so that nobody can tell where {escape} ends: "
                "give each a parameter of its own"
            )
        elif escape[1] in hexdigits and behind.text[0] in hexdigits:
            byte = escape + behind.text[0]
            yield (
                f"dlr_url has {byte} in the parameter {name!r}, which is read as the escape "
                f"{escape} and {behind.text[0]!r}: write an encoded byte in capitals, "
                f"{byte.upper()}"
            )

    def _pieces(self, value: str) -> list[Piece]:
        """The pieces of `value` as it stands in the URL."""
        pieces = []
        constant = ""
        position = 0
        for match in self._token.finditer(value):
            constant += value[position : match.start()]
            position = match.end()
            if match["known"] or match["unknown"]:
                if constant:
                    pieces.append(Piece(unquote_plus(constant), False))
                    constant = ""
                pieces.append(Piece(match[0], True))
            else:
                constant += "%" if match["percent"] else match[0]
        constant += value[position:]
        if constant:
            pieces.append(Piece(unquote_plus(constant), False))
        return pieces

    def _compound(self, parameter: Parameter, identifiers: Sequence[str]) -> Compound:
        """An identifier takes as much as the rest leaves; anything else that has no form of its
        own ends where the next constant may begin. Atomic groups keep it from trying more."""
        free = next((escape for escape in identifiers if escape in parameter.escapes), None)
        pattern = ""
        for index, (text, escape) in enumerate(parameter.pieces):
            if not escape:
                pattern += re.escape(text)
            elif text == free:
                pattern += "(.*)"
                free = None
            else:
                constants = (rest.text for rest in parameter.pieces[index:] if not rest.escape)
                until = next(constants, None)
                anything = f"[^{re.escape(until[0])}]*" if until else ".*"
                pattern += f"((?>{self._known.get(text) or anything}))"
        return Compound(parameter, re.compile(pattern, re.DOTALL))
