"""A FastAPI application that receives SOAP receipts; uvicorn serves it.

Built as FastAPI's documentation has it for a database without an async driver: a plain function,
which runs in its pool of threads, and a session of its own for each request as a dependency.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from sqlalchemy.orm import Session

from benchmark.competitors.receiving import CONTENT_TYPE, open_database, receive

app = FastAPI()
engine = open_database()


def new_session() -> Iterator[Session]:
    """A session that ends with the request."""
    with Session(engine) as session:
        yield session


async def whole_body(request: Request) -> bytes:
    """The body, whatever its Content-Type."""
    return await request.body()


@app.post("/soap")
def submit(
    body: Annotated[bytes, Depends(whole_body)],
    session: Annotated[Session, Depends(new_session)],
) -> Response:
    """Take one receipt."""
    return Response(receive(body, session), media_type=CONTENT_TYPE)
