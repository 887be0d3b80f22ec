"""Values of an endpoint, and what is wrong with them: paths, URLs, zones, countries, states."""

from __future__ import annotations

import difflib
import re
from zoneinfo import available_timezones

from receiptd.config.errors import Misfit, expected
from receiptd.providers.clocks import zone
from receiptd.receipt import State

_RESERVED = ("/api", "/console", "/metrics", "/healthz", "/readyz")


def url_path(value: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value) or {".", ".."} & set(value.split("/")):
        raise ValueError(
            f"{value!r} is no path such as /soap: expected a slash, then letters, digits and "
            ". _ ~ - between slashes"
        )
    for reserved in _RESERVED:
        if value == reserved or value.startswith(reserved + "/"):
            raise ValueError(f"{reserved} is receiptd's own: choose another path")
    return value


def absolute_urls(value: list[str]) -> list[str]:
    for each in value:
        if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", each):
            raise ValueError(
                f"{each!r} is no absolute URL without query: expected one such as "
                "https://dlr.example.com"
            )
    return value


def zone_name(value: str | None) -> str | None:
    if not value:
        return None
    try:
        zone(value)
    except ValueError as error:
        near = difflib.get_close_matches(value, available_timezones(), 1)
        if not near:
            raise
        raise ValueError(f"no time zone is called {value!r}: did you mean {near[0]!r}?") from error
    return value


def country(value: str | None) -> str | None:
    if not value:
        return None
    from phonenumbers import SUPPORTED_REGIONS

    if value not in SUPPORTED_REGIONS:
        meant = {"UK": "GB", "EN": "GB"}.get(value.upper(), value.upper())
        raise ValueError(
            f"{value!r} is no country code of ISO 3166: "
            + (f"did you mean {meant!r}?" if meant in SUPPORTED_REGIONS else "such as 'US'")
        )
    return value


def states(value: object) -> object:
    if not isinstance(value, dict):
        return value
    wrong = [
        ((code,), f"{state!r} is no state: {expected(str(state).upper(), list(State))}")
        for code, state in value.items()
        if str(state).upper() not in State.__members__
    ]
    if wrong:
        raise Misfit(wrong)
    return {str(code): str(state).upper() for code, state in value.items()}
