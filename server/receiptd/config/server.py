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
        description="The file with the certificate and its chain, in PEM; certbot calls it "
        "fullchain.pem. The server reads this file and the other ones here again as soon as "
        "they change.",
        examples=["/etc/letsencrypt/live/dlr.example.com/fullchain.pem"],
    )
    key: str | None = Field(
        default=None,
        description="The file with the private key, in PEM and without a passphrase. Without "
        "it, the server looks for the key in the certificate's file.",
        examples=["/etc/letsencrypt/live/dlr.example.com/privkey.pem"],
    )
    listen: Descriptions = Field(
        default=["tcp:8443"],
        min_length=1,
        description="Where the server speaks TLS, beside what [server] listens on: Twisted "
        "endpoint descriptions of plain sockets, as there.",
        examples=[["tcp:443"]],
    )
    client_ca: str | None = Field(
        default=None,
        description="A file of certificates in PEM. With it, each client must show a "
        "certificate that one of these has issued.",
        examples=["/etc/receiptd/clients.pem"],
    )
    minimum: Literal["TLSv1.2", "TLSv1.3"] = Field(
        default="TLSv1.2",
        description="The oldest version of TLS that the server accepts.",
        examples=["TLSv1.3"],
    )

    @field_validator("listen")
    @classmethod
    def _plain(cls, value: list[str]) -> list[str]:
        for each in value:
            if each.startswith(("ssl:", "tls:")):
                raise ValueError(f"{each!r} speaks TLS by itself: expected one such as 'tcp:8443'")
        return value


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
        description="The URL under which providers reach this server. The served WSDL names "
        "it. Without it, the WSDL names the Host of the request.",
        examples=["https://dlr.example.com"],
    )
    max_body: StrictInt = Field(
        default=65536,
        ge=1024,
        le=16 * 1024 * 1024,
        description="The largest body of a post, in bytes. A larger one is answered 413.",
        examples=[131072],
    )
    max_bodies: StrictInt = Field(
        default=64 * 1024 * 1024,
        ge=1024 * 1024,
        description="The most bytes of request bodies that one process holds in memory at "
        "once, of posts that have begun to arrive and are not complete. The server answers a "
        "post beyond that with 503 and Retry-After.",
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
        description="How many seconds a request may take to arrive, from its first byte to its "
        "last. The server answers a slower one with 408.",
        examples=[10],
    )
    idle_seconds: StrictInt = Field(
        default=60,
        ge=1,
        description="After how many seconds without a request the server closes a connection.",
        examples=[300],
    )
    connections: StrictInt = Field(
        default=10_000,
        ge=1,
        description="How many connections may be open, in each process. To accept one more, "
        "the server closes one that waits. If none waits, it answers the new one with 503 and "
        "Retry-After.",
        examples=[1000],
    )
    connections_per_address: StrictInt = Field(
        default=0,
        ge=0,
        description="How many connections one address may have open, in each process; 0: no "
        "limit of its own. IPv6 addresses count by their /64. The server answers further ones "
        "with 503 and Retry-After. Trusted proxies are exempt.",
        examples=[100],
    )
    requests_per_second: StrictInt = Field(
        default=0,
        ge=0,
        description="How many requests per second each endpoint takes, in each process; 0: no "
        "limit. The server answers further ones with 429 and Retry-After. An endpoint may have "
        "a limit of its own.",
        examples=[1000],
    )
    trusted_proxies: Annotated[list[Proxy], BeforeValidator(one_or_many)] = Field(
        default=[],
        description='The addresses and networks of the proxies in front of this server; "unix" '
        "means whoever connects to a Unix socket. The server believes their X-Forwarded-For, "
        "Forwarded and X-Forwarded-Proto: for an endpoint's networks, in the log and in the "
        "WSDL. From others it ignores these headers.",
        examples=[["127.0.0.1", "::1"]],
    )
    tls: Tls | None = Field(
        default=None,
        description="TLS (HTTPS). The server speaks it once a certificate is set.",
    )

    workers: StrictInt = Field(
        default=1,
        ge=1,
        le=256,
        description="How many processes serve. With several, a supervisor starts them on the "
        "same sockets, and starts one again when it dies. One process takes thousands of "
        "receipts per second.",
        examples=[4],
    )
    stop_timeout: StrictFloat = Field(
        default=10,
        ge=0,
        le=3600,
        description="How many seconds the server may take, once it is told to stop, to answer "
        "and store what has arrived.",
        examples=[30],
    )
    user: str | None = Field(
        default=None,
        description="The user to serve as. Start receiptd as root; it listens, then becomes "
        "this user before it opens the database. There is no other reason to run it as root.",
        examples=["receiptd"],
    )
    group: str | None = Field(
        default=None,
        description="The group to serve as. Without it, the user's own group.",
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
