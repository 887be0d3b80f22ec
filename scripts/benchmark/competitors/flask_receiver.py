"""A Flask application that receives SOAP receipts; gunicorn serves it."""

from __future__ import annotations

from flask import Flask, Response, request
from sqlalchemy.orm import Session

from benchmark.competitors.receiving import CONTENT_TYPE, open_database, receive

app = Flask(__name__)
engine = open_database()


@app.post("/soap")
def submit() -> Response:
    """Take one receipt."""
    with Session(engine) as session:
        return Response(receive(request.get_data(), session), content_type=CONTENT_TYPE)
