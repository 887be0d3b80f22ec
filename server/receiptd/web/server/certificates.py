"""Certificates from files, read again when they change; and the OpenSSL context made of them.

ECDHE with AEAD ciphers alone, TLS 1.2 or newer, no compression, no renegotiation (RFC 9325,
sections 3 and 4). A certificate that cannot be used never takes the place of one that can.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto
from twisted.internet import task
from twisted.logger import Logger

from receiptd.config import Tls
from receiptd.errors import UserError

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; all those of TLS 1.3 are such."""

LOOK = 0.5
"""Seconds between looks whether a file has changed. What has changed is read once it has been the
same for two of them: certificate and key are not replaced in one instant."""

EXPIRES_SOON = timedelta(days=14)
"""A certificate that is not valid for longer is warned of."""

_HTTP_1_1 = b"http/1.1"  # RFC 7301, section 6
_VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}

_log = Logger(namespace="receiptd.tls")


class TlsError(UserError):
    """Certificates that cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Material:
    """What the files of `tls` held, all of it PEM and usable: see `load`."""

    tls: Tls
    certificates: bytes
    key: bytes = field(repr=False)
    client_ca: bytes
    """Empty where clients need no certificate."""
    seen: tuple[object, ...]
    """What the files looked like right before they were read."""


def expires(material: Material) -> datetime:
    """When the certificate that is shown to clients ends (aware, UTC)."""
    return _certificates(material.tls.certificate, material.certificates)[0].not_valid_after_utc


def load(tls: Tls) -> Material:
    """What `tls` says, read from its files.

    :raises TlsError: where a file cannot be read or used, the certificate is not valid now, or
        the key is another one's.
    """
    key_file = tls.key or tls.certificate
    # The look comes first: a change in between is then seen later.
    seen = _fingerprint(tls)
    material = Material(
        tls=tls,
        certificates=_read(tls.certificate),
        key=_read(key_file),
        client_ca=_read(tls.client_ca) if tls.client_ca else b"",
        seen=seen,
    )
    leaf = _certificates(tls.certificate, material.certificates)[0]
    key = _key(key_file, material.key)
    if _public(leaf.public_key()) != _public(key.public_key()):
        raise TlsError(f"{key_file}: the key is not that of the certificate {tls.certificate}")
    now = datetime.now(UTC)
    if now > leaf.not_valid_after_utc:
        raise TlsError(
            f"{tls.certificate}: the certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}"
        )
    if now < leaf.not_valid_before_utc:
        raise TlsError(
            f"{tls.certificate}: the certificate is valid only from "
            f"{leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ} on"
        )
    try:
        context_of(material)
    except (SSL.Error, ValueError) as error:
        raise TlsError(f"{tls.certificate}: cannot be used: {words(error)}") from None
    return material


def cautions(tls: Tls) -> list[str]:
    """What whoever configures `tls` should know, its files being usable."""
    found = []
    key_file = tls.key or tls.certificate
    try:
        if Path(key_file).stat().st_mode & stat.S_IROTH:
            found.append(f"the private key {key_file} can be read by every user: chmod 640 it")
        ends = _certificates(tls.certificate, _read(tls.certificate))[0].not_valid_after_utc
        if ends - datetime.now(UTC) < EXPIRES_SOON:
            found.append(f"the certificate {tls.certificate} expires on {ends:%Y-%m-%d %H:%M} UTC")
    except (OSError, TlsError):
        pass  # whoever uses the files says so
    return found


def context_of(material: Material) -> SSL.Context:
    """OpenSSL's context for new connections."""
    tls = material.tls
    chain = _certificates(tls.certificate, material.certificates)
    key = _key(tls.key or tls.certificate, material.key)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(_VERSIONS[tls.minimum])
    context.set_cipher_list(CIPHERS)
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION
    )
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    with warnings.catch_warnings():
        # These wrappers are what all versions of pyOpenSSL since 24 take; some call them old.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.use_certificate(crypto.X509.from_cryptography(chain[0]))
        for above in chain[1:]:
            context.add_extra_chain_cert(crypto.X509.from_cryptography(above))
        context.use_privatekey(crypto.PKey.from_cryptography_key(key))
        if tls.client_ca:
            store: Any = context.get_cert_store()
            for issuer in _certificates(tls.client_ca, material.client_ca):
                trusted = crypto.X509.from_cryptography(issuer)
                store.add_cert(trusted)
                context.add_client_ca(trusted)
    context.check_privatekey()
    context.set_alpn_select_callback(agree_on_protocol)
    # Without one OpenSSL refuses to resume a session where client certificates are asked for.
    context.set_session_id(b"receiptd")
    if tls.client_ca:
        context.set_verify(
            SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
            lambda _connection, _certificate, _number, _depth, good: bool(good),
        )
    return context


def agree_on_protocol(_connection: SSL.Connection, offered: list[bytes]) -> Any:
    """HTTP/1.1 where the client offers it; else no protocol is named, and HTTP/1 spoken."""
    return _HTTP_1_1 if _HTTP_1_1 in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise TlsError(f"{file}: cannot be read: {error.strerror}") from None


def _certificates(file: str, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise TlsError(f"{file}: holds no certificate in PEM") from None


def _key(file: str, content: bytes) -> Any:
    try:
        return serialization.load_pem_private_key(content, None)
    except TypeError:
        raise TlsError(
            f"{file}: the key has a passphrase: take it off with openssl pkey -in {file} -out FILE"
        ) from None
    except Exception:  # cryptography has several kinds, for keys of an unknown kind as well
        raise TlsError(f"{file}: holds no private key in PEM that can be used") from None


def _public(key: Any) -> bytes:
    return bytes(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def words(error: Exception) -> str:
    """OpenSSL's errors in its own words."""
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list):
        return "; ".join(str(each[-1]) for each in error.args[0]) or "the connection was cut"
    return str(error)


class Files:
    """Looks after the files, and reads them again once they have changed."""

    def __init__(self, tls: Tls, reactor: Any, changed: Callable[[Material], object]) -> None:
        """
        :param changed: called with what is to be used from now on, when that is something new.
        :raises TlsError: as `load`.
        """
        self.material = load(tls)
        """What is in use."""
        self._changed = changed
        self._seen = self._refused = self.material.seen
        _caution(tls)
        self._looking = task.LoopingCall(self.look)
        self._looking.clock = reactor

    def start(self) -> None:
        """Look after the files from now on."""
        self._looking.start(LOOK, now=False)

    def stop(self) -> None:
        """Leave the files alone."""
        if self._looking.running:
            self._looking.stop()

    def look(self) -> None:
        """Read the files again where they have changed and seem to be whole."""
        tls = self.material.tls
        now, before = _fingerprint(tls), self._seen
        self._seen = now
        # Said once for each change, whether it is used or not.
        if now == before and now not in (self.material.seen, self._refused):
            try:
                self.use(self.check(tls))
            except TlsError as error:
                _log.error("{error}: what was used before is kept", error=error)

    def check(self, tls: Tls) -> Material:
        """What the files of `tls` hold; where they are as they were, what is in use already, so
        that a certificate which has expired in use hinders no other change.

        :raises TlsError: as `load`.
        """
        seen = _fingerprint(tls)
        if (tls, seen) == (self.material.tls, self.material.seen):
            return self.material
        try:
            return load(tls)
        except TlsError:
            self._refused = seen
            raise

    def use(self, material: Material) -> None:
        """Go on with what `check` has given, for the connections that come from now on."""
        if material is self.material:
            return
        self.material = material
        self._changed(material)
        _log.info("new connections get the certificate {file}", file=material.tls.certificate)
        _caution(material.tls)


def _caution(tls: Tls) -> None:
    for caution in cautions(tls):
        _log.warn("{caution}", caution=caution)


def _fingerprint(tls: Tls) -> tuple[object, ...]:
    """What changes whenever one of the files does."""
    found: list[object] = []
    for file in (tls.certificate, tls.key, tls.client_ca):
        try:
            status = os.stat(file) if file else None  # noqa: PTH116 follows certbot's links
        except OSError as error:
            found.append((file, error.errno))
        else:
            found.append((file, status and (status.st_ino, status.st_size, status.st_mtime_ns)))
    return tuple(found)
