"""Parameters that were copied from a web page, which had torn them."""

from __future__ import annotations

from functools import lru_cache
from html.entities import html5

from receiptd.providers.fields import Fields

# HTML has entities that need no semicolon: of `&timestamp=` a page shows the first six
# characters as a multiplication sign.
_ENTITIES = {name: text for name, text in html5.items() if not name.endswith(";")}


def torn(fields: Fields, name: str) -> tuple[str, str, str] | None:
    """A parameter `name` that was copied from a web page, where its `&` and its first letters had
    become a character: the field whose value swallowed it, what that value was, and the value of
    `name`. None where nothing of the kind was sent."""
    for field, sent in fields.rest(()).items():
        if not isinstance(sent, str):
            continue
        for entity, text in _beginnings(name):
            before, mark, value = sent.partition(f"{text}{name[len(entity) :]}=")
            if mark:
                return field, before.strip(), value.strip()
    return None


@lru_cache(64)
def _beginnings(name: str) -> tuple[tuple[str, str], ...]:
    """The entities that `name` begins with, the longest first."""
    found = [(entity, text) for entity, text in _ENTITIES.items() if name.startswith(entity)]
    return tuple(sorted(found, reverse=True))
