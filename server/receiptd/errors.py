"""What keeps the server from starting."""

from __future__ import annotations


class UserError(Exception):
    """Whoever starts the server is shown the text, as it is: why it does not start, and what to
    do."""
