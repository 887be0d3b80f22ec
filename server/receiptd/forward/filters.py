"""Which events a destination, or a replay, is about."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from receiptd.forward.events import TYPES, Event
from receiptd.receipt import State, match_key

if TYPE_CHECKING:
    from receiptd.config.forward import Forward


class Filter(NamedTuple):
    """Which events are wanted: those that fit all that is set."""

    types: Collection[str] = ()
    providers: Collection[str] = ()
    endpoints: Collection[str] = ()
    kinds: Collection[str] = ()
    states: Collection[str] = ()
    verdicts: Collection[str] = ()
    final: bool = False
    message: str | None = None
    """A message's identifier; case does not count."""

    @classmethod
    def of(cls, config: Forward) -> Filter:
        """What a destination is told."""
        return cls(
            config.types,
            config.providers,
            config.endpoints,
            config.kinds,
            config.states,
            config.verdicts,
            config.final,
        )

    @classmethod
    def read(cls, wanted: Mapping[str, Any]) -> Filter:
        """As `json` gives it."""
        return cls(**{name: wanted[name] for name in cls._fields if name in wanted})

    def json(self) -> dict[str, Any]:
        """What is set, as JSON has it."""
        return {
            name: list(value)
            if isinstance(value, Collection) and not isinstance(value, str)
            else value
            for name, value in self._asdict().items()
            if value
        }

    def fits(self, event: Event) -> bool:
        """Whether `event` is wanted. A message's state is of no endpoint, kind and verdict, and
        passes these."""
        about = event.receipt if event.receipt is not None else event.message
        if about is None or (self.types and event.type not in self.types):
            return False
        if self.providers and about["provider"] not in self.providers:
            return False
        if self.states and about["state"] not in self.states:
            return False
        if self.final:
            final = about["final"] if event.receipt is None else State(about["state"]).final
            if not final:
                return False
        if self.message is not None and not self._names(event):
            return False
        if event.receipt is None:
            return True
        return (
            (not self.endpoints or about["endpoint"] in self.endpoints)
            and (not self.kinds or about["kind"] in self.kinds)
            and (not self.verdicts or about["verdict"] in self.verdicts)
        )

    def _names(self, event: Event) -> bool:
        assert self.message is not None
        wanted = match_key(self.message)
        return any(lane.partition(" ")[2] == wanted for lane in event.lanes)


def check_words(wanted: Filter) -> Filter:
    """`wanted`, where each of its words is one.

    :raises ValueError: naming the word, and what was meant.
    """
    from receiptd import providers
    from receiptd.config.errors import expected

    for words, known, what in (
        (wanted.types, TYPES, "event type"),
        (wanted.states, [str(each) for each in State], "state"),
        (wanted.providers, list(providers.load()), "provider"),
    ):
        for word in words:
            if word not in known:
                raise ValueError(f"{word!r} is no {what}: {expected(word, list(known))}")
    return wanted
