"""The tables `[server]` and `[server.tls]` of the configuration."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    field_validator,
)

from receiptd.config.kinds import Descriptions, Proxy, Table, one_or_many


class Tls(Table):
    """`[server.tls]`: where TLS is spoken, and with which certificate."""

    certificate: str = Field(
        min_length=1,
        description="The file of the certificate and of those above it, in PEM: certbot calls it "
        "fullchain.pem. It is read again as soon as it changes, and so are the others here.",
        examples=["/etc/letsencrypt/live/dlr.example.com/fullchain.pem"],
    )
    key: str | None = Field(
        default=None,
        description="The file of its private key, in PEM and without a passphrase. Without it the "
        "key is looked for in the certificate's file.",
        examples=["/etc/letsencrypt/live/dlr.example.com/privkey.pem"],
    )
    listen: Descriptions = Field(
        default=["tcp:8443"],
        min_length=1,
        description="Where TLS is spoken, beside what [server] listens on: Twisted endpoint "
        "descriptions as there, of plain sockets.",
        examples=[["tcp:443"]],
    )
    client_ca: str | None = Field(
        default=None,
        description="A file of certificates in PEM. With it clients must have a certificate that "
        "one of these has issued.",
        examples=["/etc/receiptd/clients.pem"],
    )
    minimum: Literal["TLSv1.2", "TLSv1.3"] = Field(
        default="TLSv1.2",
        description="The oldest version of TLS that is spoken.",
        examples=["TLSv1.3"],
    )

    @field_validator("listen")
    @classmethod
    def _plain(cls, value: list[str]) -> list[str]:
        for each in value:
            if each.startswith(("ssl:", "tls:")):
                raise ValueError(f"{each!r} speaks TLS by itself: expected one such as 'tcp:8443'")
        return value


LARGEST_BODY = 16 * 1024 * 1024
"""Bytes; what `max_body` may be at most, here and of an endpoint."""


class Server(Table):
    """`[server]`: where receiptd listens and what it calls itself."""

    listen: Descriptions = Field(
        default=["tcp:8080:interface=127.0.0.1"],
        min_length=1,
        description="Where to listen: Twisted endpoint descriptions, one or a list of them. "
        "tcp:8080 is port 8080 of every address of this machine, tcp:8080:interface=127.0.0.1 "
        "is for this machine alone, ssl:8443:privateKey=key.pem:certKey=cert.pem speaks HTTPS, "
        "unix:/run/receiptd.sock is a socket for a proxy on this machine.",
        examples=[["tcp:8080"]],
    )
    public_url: str | None = Field(
        default=None,
        description="What providers reach this server under. The served WSDL names it; without "
        "it the WSDL names the Host that it was asked for at.",
        examples=["https://dlr.example.com"],
    )
    max_body: StrictInt = Field(
        default=65536,
        ge=1024,
        le=LARGEST_BODY,
        description="The largest body of a post, in bytes. A larger one is answered 413.",
        examples=[131072],
    )
    max_bodies: StrictInt = Field(
        default=64 * 1024 * 1024,
        ge=1024 * 1024,
        description="The most bytes of bodies that may be under way together, in each process: of "
        "posts that have begun to come and are not whole. One beyond that is answered 503 and "
        "Retry-After.",
        examples=[256 * 1024 * 1024],
    )
    max_headers: StrictInt = Field(
        default=100,
        ge=10,
        le=10_000,
        description="The most header lines of a request. One with more is answered 431.",
        examples=[50],
    )
    max_header_bytes: StrictInt = Field(
        default=16384,
        ge=1024,
        le=1024 * 1024,
        description="The largest header of a request, in bytes, its first line included. A larger "
        "one is answered 431.",
        examples=[32768],
    )
    request_seconds: StrictInt = Field(
        default=30,
        ge=1,
        description="For how many seconds a request may take to come in whole, from its first "
        "byte on. A slower one is answered 408.",
        examples=[10],
    )
    idle_seconds: StrictInt = Field(
        default=60,
        ge=1,
        description="After how many seconds without a request a connection is closed.",
        examples=[300],
    )
    connections: StrictInt = Field(
        default=10_000,
        ge=1,
        description="How many connections may be open, in each process. For a further one, one "
        "that waits is closed; where none does, the further one is answered 503 and Retry-After.",
        examples=[1000],
    )
    connections_per_address: StrictInt = Field(
        default=0,
        ge=0,
        description="How many connections from one address may be open, in each process; 0: as "
        "many as in all. IPv6 addresses count by their /64. Further ones are answered 503 and "
        "Retry-After. Trusted proxies are exempt.",
        examples=[100],
    )
    requests_per_second: StrictInt = Field(
        default=0,
        ge=0,
        description="How many requests per second each endpoint takes, in each process; 0: as "
        "many as come. Further ones are answered 429 and Retry-After. An endpoint may have a "
        "limit of its own.",
        examples=[1000],
    )
    trusted_proxies: Annotated[list[Proxy], BeforeValidator(one_or_many)] = Field(
        default=[],
        description='The addresses and networks of the proxies before this server; "unix" is '
        "whoever connects to a Unix socket. What such a proxy says in X-Forwarded-For, Forwarded "
        "and X-Forwarded-Proto counts: for an endpoint's networks, in the log and in the WSDL. "
        "Of others these headers are ignored.",
        examples=[["127.0.0.1", "::1"]],
    )
    tls: Tls | None = Field(
        default=None,
        description="TLS, also called HTTPS: served once there is a certificate.",
    )

    workers: StrictInt = Field(
        default=1,
        ge=1,
        le=256,
        description="How many processes serve. With several, a supervisor starts them on the same "
        "sockets, and again where one dies. One takes thousands of receipts per second.",
        examples=[4],
    )
    stop_timeout: StrictFloat = Field(
        default=10,
        ge=0,
        le=3600,
        description="How many seconds the server may take to answer and store what has come, once "
        "it is told to stop.",
        examples=[30],
    )
    user: str | None = Field(
        default=None,
        description="The user to serve as. receiptd is then started as root, listens, and becomes "
        "this user before it opens the database. As root it need not run otherwise.",
        examples=["receiptd"],
    )
    group: str | None = Field(
        default=None,
        description="The group to serve as, if it is another than the user's own.",
        examples=["receiptd"],
    )
    allow_readable_config: StrictBool = Field(
        default=False,
        description="Whether receiptd starts although this file holds secrets and every user can "
        "read it.",
        examples=[True],
    )

    @field_validator("public_url")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if not value:
            return None
        if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
            raise ValueError(
                "expected an absolute URL without query, such as https://dlr.example.com"
            )
        return value.rstrip("/")
