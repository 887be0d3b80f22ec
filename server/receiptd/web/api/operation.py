"""What an operation of the API is, for the lists of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel

from receiptd.web.api.parameters import Query
from receiptd.web.token_auth import Scope


class Operation(NamedTuple):
    """One thing that the API does."""

    name: str
    """Its OpenAPI operationId, and the name of the handler's method."""
    method: str
    path: str
    summary: str
    answer: type[BaseModel] | None = None
    """The shape of what is answered; None for what is no JSON of ours."""
    query: type[Query] = Query
    scope: Scope = "read"
    statuses: Sequence[int] = ()
    """Errors beyond those that every operation has."""
