"""The published contract: the WSDL and its schema, given out with this server's own address.

The two files lie in `wsdl/`, and in the wheel as package data. Where they are asked for, only
two attributes change: the `soap:address` (WSDL 1.1, section 3.8) and the schema's location. Both
are set in the parsed document, so that nothing in an address can become markup.
"""

from __future__ import annotations

import re
from copy import deepcopy
from functools import cache, lru_cache
from importlib.resources import files
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from urllib.parse import quote

from lxml import etree

WSDL = "sendsms5.wsdl"
XSD = "sendsms5.xsd"
SINGLE_WSDL = "singlewsdl"
"""What a query asks for that wants WSDL and schema as one document."""

_SOAP_ADDRESS = ".//{http://schemas.xmlsoap.org/wsdl/soap/}address"
_IMPORT = ".//{http://www.w3.org/2001/XMLSchema}import"

# RFC 9110, section 7.2, `Host = uri-host [ ":" port ]`; of RFC 3986's registered names only
# what is a host name (RFC 1123, section 2.1; the underscore as in container networks).
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(
    rf"(?:\[(?P<ipv6>[0-9A-Fa-f:.]{{2,45}})\]|(?P<name>{_LABEL}(?:\.{_LABEL})*)\.?)"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)
_LONGEST_NAME = 253
"""Characters of a host name in text form, RFC 1035, section 2.3.4."""
_IPV4_LIKE = re.compile(r"(?:.*\.)?[0-9]+", re.ASCII)
_IN_PATH = "/%:@!$&'()*+,;="
"""What stands for itself in a path (RFC 3986, section 3.3), beside letters, digits and -._~."""


def location(
    public_url: str | None, scheme: str, host: str | None, fallback_host: str, path: str
) -> str:
    """The URL that providers post to.

    :param public_url: the configured base URL, also with a path of its own; it goes before
        everything that a request says.
    :param scheme: `http` or `https`, as the request came.
    :param host: the request's Host header; None, or one that is no host, is not used.
    :param fallback_host: the local socket's address (and port), used instead.
    :param path: the endpoint's path; it may end in a slash, which then belongs to the URL.
    """
    if public_url:
        base = public_url.rstrip("/")
    else:
        base = f"{scheme}://{host if host and _is_host(host) else fallback_host}"
    return f"{base}/{quote(path.lstrip('/'), safe=_IN_PATH)}"


@lru_cache(64)
def wsdl(
    location: str, *, path_token: str = "", query_token: str = "", single: bool = False
) -> bytes:
    """The WSDL of the service at `location`, as UTF-8. Its schema is `sendsms5.xsd` beneath.

    Made once for each address.

    :param path_token: the endpoint's token, encoded, where clients are to post it in the path.
    :param query_token: the same, where they are to post it in the query.
    :param single: whether the schema stands in the document, for clients that import none.
    :raises ValueError: where `location` holds a character that XML cannot (a control character).
    """
    document = deepcopy(_parsed(WSDL))
    address = f"{location.rstrip('/')}/{path_token}" if path_token else location
    if query_token:
        address += f"?token={query_token}"
    document.find(_SOAP_ADDRESS).set("location", address)
    imported = document.find(_IMPORT)
    if single:
        schema = imported.getparent()
        schema.getparent().replace(schema, deepcopy(_parsed(XSD).getroot()))
    else:
        imported.set("schemaLocation", f"{location.rstrip('/')}/{XSD}")
    return _serialized(document)


@cache
def xsd() -> bytes:
    """The schema that the WSDL imports, as UTF-8."""
    return _serialized(_parsed(XSD))


@cache
def _parsed(name: str) -> Any:
    source = files("receiptd") / "wsdl" / name
    return etree.fromstring(source.read_bytes()).getroottree()


def _serialized(document: Any) -> bytes:
    text: bytes = etree.tostring(document, xml_declaration=True, encoding="UTF-8")
    return text


def _is_host(host: str) -> bool:
    """Whether `host` is a host name, an IPv4 address or a bracketed IPv6 one, with or without a
    port from 1 to 65535."""
    match = _HOST.fullmatch(host)
    if match is None or not 0 < int(match["port"] or 80) < 65536:
        return False
    try:
        if match["ipv6"]:
            IPv6Address(match["ipv6"])
        elif _IPV4_LIKE.fullmatch(match["name"]):
            IPv4Address(match["name"])
    except ValueError:
        return False
    return len(match["name"] or "") <= _LONGEST_NAME
