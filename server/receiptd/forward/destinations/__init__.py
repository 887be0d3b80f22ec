"""The kinds of destinations: what each has to do, and how they are found.

A kind is a class derived from `Destination`, named by an entry point of the group
`receiptd.destinations` whose name is the scheme of its URLs, such as `https`. The kinds that come
with receiptd are found in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from receiptd.forward.events import Delivery

if TYPE_CHECKING:
    from receiptd.config.forward import Forward

GROUP = "receiptd.destinations"

EXTRAS = {"amqp": "amqp", "amqps": "amqp", "kafka": "kafka", "nats": "nats", "tls": "nats"}
"""The extra that a scheme needs."""


class Fault(StrEnum):
    """Whose fault it is that an event was not taken, which says what follows."""

    NONE = "none"
    """It was taken."""
    DESTINATION = "destination"
    """The event's attempts are not spent; after some in a row the circuit breaker opens."""
    BUSY = "busy"
    """The destination wants to be left alone for `retry_after` seconds."""
    EVENT = "event"
    """It is tried again on the schedule, then it is dead."""
    TOO_LARGE = "too-large"
    """As EVENT; of several events at once each half is tried by itself."""
    ABORT = "abort"
    """The application does not want it ever: dead at once."""
    PAUSE = "pause"
    """The destination does not want anything more: it is paused."""


class Outcome(NamedTuple):
    """What became of an event that was sent."""

    fault: Fault
    text: str = ""
    """For people: what went wrong. Holds no secret."""
    answer: str = ""
    """What the destination answered, the first `LONGEST_ANSWER` characters of it."""
    retry_after: float | None = None
    """Seconds; see `Fault.BUSY`."""


TAKEN = Outcome(Fault.NONE)

LONGEST_ANSWER = 2048
"""Characters of an answer that are kept for people."""


class Destination:
    """Sends events to one place. All methods are called in the reactor's thread."""

    extra: ClassVar[str | None] = None
    """receiptd's extra that it needs."""
    most_batched: ClassVar[int] = 1000
    """The most events that it can send at once."""

    class Options(BaseModel):
        """Keys of its `[[forward]]` tables beyond those that all have."""

        model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def check(cls, config: Forward) -> Sequence[str]:
        """What is doubtful about `config`, in sentences for people.

        :raises Misfit: naming the keys that are wrong, and the remedy; `ValueError` does too.
        """
        return ()

    def __init__(self, config: Forward, reactor: Any) -> None:
        self.config = config
        self.reactor = reactor

    async def open(self) -> None:
        """Called once before anything is sent. It need not connect: what cannot be reached now
        may be later, and `send` says so then."""

    async def send(self, delivery: Delivery) -> Sequence[Outcome]:
        """Send; returns when it is known what became of each event, in their order. It takes no
        longer than `config.timeout`. What it raises is taken for the destination's fault."""
        raise NotImplementedError

    async def close(self) -> None:
        """Called once when nothing is under way any more."""


class DestinationError(Exception):
    """A kind of destination that cannot be used; the text says why and what to do."""


@cache
def schemes() -> tuple[str, ...]:
    """The schemes that there is a kind for."""
    return tuple(sorted({each.name for each in entry_points(group=GROUP)}))


@cache
def find(scheme: str) -> type[Destination]:
    """The kind of destination whose URLs begin so.

    :raises DestinationError: where there is none, or it lacks a library.
    """
    found = [each for each in entry_points(group=GROUP) if each.name == scheme]
    if not found:
        if scheme in EXTRAS:
            raise DestinationError(_install(scheme))
        raise DestinationError(
            f"no destination's URL begins with {scheme:.30}: expected one of "
            + ", ".join(f"{each}:" for each in schemes())
        )
    try:
        kind = found[0].load()
    except ModuleNotFoundError as error:
        if scheme in EXTRAS:
            raise DestinationError(f"{_install(scheme)} ({error})") from None
        raise DestinationError(f"{found[0].value} cannot be imported: {error}") from None
    if not (isinstance(kind, type) and issubclass(kind, Destination)):
        raise DestinationError(f"{found[0].value} is no kind of destination")
    return kind


def _install(scheme: str) -> str:
    return (
        f"{scheme}: needs the extra {EXTRAS[scheme]!r}: pip install 'receiptd[{EXTRAS[scheme]}]'"
    )
